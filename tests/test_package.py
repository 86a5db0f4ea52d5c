"""The wheel, installed where neither the source tree nor any development tool can help it."""

import ast
import re
import subprocess
import sys
import time
import zipfile
from configparser import ConfigParser
from importlib.metadata import packages_distributions

import pytest
from conftest import (
    ROOT,
    copy_project,
    empty_environment,
    find_dependencies,
    once,
    pip_install,
)

TOOLS = {
    'nbdev',
    'fastcore',
    'execnb',
    'ghapi',
    'pytest',
    'IPython',
    'ipykernel',
    'smalldocs',
}  # never needed to use the library
MODULES = sorted(
    p.stem for p in (ROOT / 'specanom').glob('*.py') if p.stem != '__init__'
)
IMPORT_ALL = f'''
import importlib, sys
for tool in {TOOLS}: sys.modules[tool] = None  # as if it were not installed
for name in {MODULES}: importlib.import_module('specanom.' + name)
import specanom
print(specanom.__file__)
'''


@pytest.fixture(scope='module')
def wheel():
    "The wheel, built from the source distribution, as for a release."

    def build(folder):
        command = [
            sys.executable,
            '-m',
            'build',
            '--no-isolation',
            '--outdir',
            folder / 'dist',
            copy_project(folder),
        ]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            pytest.fail(
                '\n'.join((run.stdout + run.stderr).splitlines()[-60:]), pytrace=False
            )

    return next(once('wheel', build).glob('dist/*.whl'))


@pytest.fixture(scope='module')
def clean_env(wheel):
    "A new environment with the wheel in it, which finds the dependencies, and only them, where the tests find them."

    def install(env):
        empty_environment(env)
        pip_install(env, wheel)
        find_dependencies(env)

    return once('env', install)


def python(env, code, cwd):
    return subprocess.run(
        [env / 'bin' / 'python', '-c', code], cwd=cwd, capture_output=True, text=True
    )


def test_imports(clean_env, tmp_path):
    "Every module is in the wheel and imports without nbdev and its friends."
    run = python(clean_env, IMPORT_ALL, tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().startswith(str(clean_env))


def test_chapter(clean_env, tmp_path):
    "A chapter among the package's data is executed by the wheel's own Python; nbconvert's templates lie beside the dependencies."
    code = """if True:
    import json
    from pathlib import Path
    import specanom
    from specanom.papers import PAPERS, Paper, execute_chapter
    source = "FACTS = 'x'\\nimport sys, specanom; print(sys.prefix, specanom.__file__)"
    cell = dict(cell_type='code', id='a', execution_count=None, metadata={})
    cells = [cell | dict(outputs=[], source=source)]
    chapter = Path(specanom.__file__).parent / 'chapters' / 'stand-in.ipynb'
    chapter.parent.mkdir(exist_ok=True)
    notebook = dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)
    chapter.write_text(json.dumps(notebook))
    PAPERS['stand-in'] = Paper(chapter.name, None)
    execute_chapter('stand-in', Path('.'), Path('page.html'))
    chapter.unlink()
    """
    templates = f"import os; os.environ['JUPYTER_PATH'] = '{sys.prefix}/share/jupyter'"
    run = python(clean_env, f'{templates}\n{code}', tmp_path)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / 'page.html').read_text(encoding='utf-8')
    assert page.count(str(clean_env)) == 2


def test_data_files(wheel):
    "The wheel holds every file of the package and nothing else."
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in n}
    source = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / 'specanom').rglob('*')
        if p.is_file() and '__pycache__' not in p.parts
    }
    assert inside == source


def test_metadata(wheel):
    "The wheel says what it is, where it lives, and that its annotations are to be read."
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith('dist-info/METADATA'))
        said = archive.read(name).decode()
        assert 'specanom/py.typed' in archive.namelist()
    for minor in (11, 12, 13):
        assert f'Classifier: Programming Language :: Python :: 3.{minor}\n' in said
    for place in ('Documentation', 'Issues', 'Changelog'):
        assert f'Project-URL: {place}, https://' in said


def test_help(clean_env, tmp_path):
    "help() shows every parameter with what it may be."
    code = 'from specanom.preprocess import preprocess; help(preprocess)'
    run = python(clean_env, code, tmp_path)
    assert run.returncode == 0, run.stderr
    for parameter in ('raw: specanom.spectra.Spectra', "method: str = 'b23'"):
        assert parameter in run.stdout, run.stdout


def test_command(clean_env, tmp_path):
    "specanom --help answers in less than 2 s."

    def once():
        start = time.perf_counter()
        run = subprocess.run(
            [clean_env / 'bin' / 'specanom', '--help'],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0 and 'usage: specanom' in run.stdout, (
            run.stdout + run.stderr
        )
        return time.perf_counter() - start

    assert min(once() for _ in range(3)) < 2


def imports(module):
    "(top-level package, whether it is imported with the module) for everything that a module imports."
    tree = ast.parse((ROOT / 'specanom' / f'{module}.py').read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
        yield from ((name.partition('.')[0], node in tree.body) for name in names)


def declared(key):
    "Distribution names in a requirements line of settings.ini."
    config = ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    return {normal(re.match(r'[\w.-]+', r)[0]) for r in config['DEFAULT'][key].split()}


def normal(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def test_requirements():
    "settings.ini declares what the modules import; what only a function imports may be optional, but never a tool."
    required, optional = (
        declared('requirements'),
        declared('dev_requirements') - {normal(t) for t in TOOLS},
    )
    distributions = packages_distributions()
    for module in MODULES:
        for name, always in imports(module):
            if name == 'specanom' or name in sys.stdlib_module_names:
                continue
            found = {normal(d) for d in distributions.get(name, [name])}
            assert found & (required if always else required | optional), (
                f'specanom/{module}.py imports {name}, which settings.ini does not declare'
            )


def test_environment():
    "The pinned tools and the libraries agree with each other."
    run = subprocess.run(
        [sys.executable, '-m', 'pip', 'check'], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout
