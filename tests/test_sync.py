"""What is generated agrees with what it is generated from, and the notebooks keep their form."""

import ast
import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
import pytest
from conftest import NOTEBOOKS, ROOT, copy_project, each_notebook

MAX_IMAGE, MAX_NOTEBOOK = 120_000, 1_000_000  # bytes
UNWANTED = (
    *(f'/{folder}/' for folder in ('home', 'tmp', 'Users', 'root')),
    'application/javascript',
    'audio/',
)
BY_HAND = {'__init__.py', '__main__.py'}  # what nbdev cannot make
NO_MODULE = {'index', '10_b23', '11_o25', '13_scale'}  # notebooks that export nothing
FLAGS = ('eval: false', 'notest', 'slow', 'skip_exec')


def tool(name):
    "A command of the environment that runs the tests."
    return Path(sys.executable).with_name(name)


def cells_of(notebook, kind):
    "Sources of the cells of one kind."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    return [''.join(c['source']) for c in cells if c['cell_type'] == kind]


def has_directive(source, *names):
    return any(
        re.match(rf'#\|\s*({"|".join(names)})\b', line) for line in source.splitlines()
    )


def visible_lines(notebook):
    "Lines of code that a reader of the site passes: neither exported nor folded."
    away = ('export', 'exporti', 'exports', 'hide', 'default_exp', 'code-fold')
    code = cells_of(notebook, 'code')
    shown = '\n'.join(c for c in code if not has_directive(c, *away)).splitlines()
    return [line for line in shown if line.strip() and not line.startswith('#|')]


def is_module(notebook):
    return any(has_directive(c, 'default_exp') for c in cells_of(notebook, 'code'))


def test_export(tmp_path):
    "The library is what the notebooks export, no module more and none less."
    project = copy_project(tmp_path / 'copy')

    def modules():
        return {
            p.name: p.read_text(encoding='utf-8')
            for p in (project / 'specanom').glob('*.py')
        }

    committed = modules()
    for name in committed.keys() - BY_HAND:
        (project / 'specanom' / name).unlink()
    subprocess.run([tool('nbdev_export')], cwd=project, check=True)
    exported = modules()
    changed = sorted(
        n for n in committed | exported if committed.get(n) != exported.get(n)
    )
    assert not changed, (
        f'run nbdev_export: {", ".join(changed)} differ from the notebooks'
    )


def test_clean(tmp_path):
    "The notebooks carry no execution counts, no editor metadata, no memory addresses."
    project = copy_project(tmp_path / 'copy')
    before = {p: p.read_bytes() for p in project.glob('nbs/**/*.ipynb')}
    subprocess.run([tool('nbdev_clean')], cwd=project, check=True)
    changed = [
        p.name
        for p in sorted(project.glob('nbs/**/*.ipynb'))
        if p.read_bytes() != before[p]
    ]
    assert not changed, f'run nbdev_clean: {", ".join(changed)}'


@pytest.mark.parametrize('script', ['readme.py', 'chapters.py'])
def test_made_from_notebooks(script):
    "README.md is what index.ipynb says; the package ships the chapters as they are."
    run = subprocess.run(
        [sys.executable, ROOT / '.ci' / script, '--check'],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_chapters_leave_checks_behind(tmp_path):
    "What is shipped has no output, no check and no fastcore; what is gone from nbs/ is gone there."
    project = copy_project(tmp_path / 'copy')
    code = dict(cell_type='code', execution_count=1, metadata={}, id='a')
    sources = (
        '#| hide\nfrom fastcore.test import (\n    test_eq,\n)\nimport json',
        "FACTS = 'papers/b23'",
        '#| code-fold: true\n#| code-summary: "Check: one"\ntest_eq(1, 1)',
    )
    output = dict(output_type='stream', name='stdout', text=['1'])
    cells = [code | dict(source=s, outputs=[output]) for s in sources]
    notebook = dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)
    path = project / 'nbs' / '10_b23.ipynb'
    path.write_text(json.dumps(notebook), encoding='utf-8')
    tool = [sys.executable, project / '.ci' / 'chapters.py']
    subprocess.run(tool, check=True)
    shipped = project / 'specanom' / 'chapters' / '10_b23.ipynb'
    kept = json.loads(shipped.read_text(encoding='utf-8'))['cells']
    told = ['#| hide\nimport json', "FACTS = 'papers/b23'"]
    assert [''.join(c['source']) for c in kept] == told
    assert not any(c['outputs'] or c['execution_count'] for c in kept)
    assert subprocess.run([*tool, '--check']).returncode == 0
    path.unlink()
    run = subprocess.run([*tool, '--check'], capture_output=True, text=True)
    assert run.returncode == 1 and '10_b23.ipynb' in run.stderr
    subprocess.run(tool, check=True)
    assert not shipped.exists()


def below_nbs(notebook):
    "The name of a notebook, with its folder when it has one."
    return notebook.relative_to(ROOT / 'nbs').as_posix()


def test_index_lists_every_notebook():
    "The table of notebooks in index.ipynb links every other one, and nothing that is not there."
    index = '\n'.join(cells_of(ROOT / 'nbs' / 'index.ipynb', 'markdown'))
    linked = re.findall(r'\]\(([\w/-]+\.ipynb)\)', index)
    assert set(linked) == {*map(below_nbs, NOTEBOOKS)} - {'index.ipynb'}


def test_site_settings():
    "_quarto.yml and settings.ini describe the same project, and nbs/_quarto.yml is a link to the former."
    config = configparser.ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    settings, quarto = (
        config['DEFAULT'],
        yaml.safe_load((ROOT / '_quarto.yml').read_text()),
    )
    user, repo, site = settings['user'], settings['repo'], quarto['website']
    assert (ROOT / 'nbs' / '_quarto.yml').is_symlink() and (
        ROOT / 'nbs' / '_quarto.yml'
    ).samefile(ROOT / '_quarto.yml')
    assert quarto['project']['output-dir'] == settings['doc_path']
    assert (
        site['title'] == settings['lib_name']
        and site['description'] == settings['description']
        and site['repo-branch'] == settings['branch']
    )
    assert site['repo-url'] == settings['git_url'] % dict(user=user, repo=repo)
    assert site['site-url'] == settings['doc_host'] % dict(user=user) + settings[
        'doc_baseurl'
    ] % dict(repo=repo)


def test_sidebar():
    "Every notebook stands in the sidebar once, with a text: the papers and the how-to pages, for which people come, then the rooms in the order of the numbers."
    quarto = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))
    first, *parts = quarto['website']['sidebar']['contents']
    pages = [page for part in parts for page in part['contents']]
    listed = [first, *(page['href'] for page in pages)]
    pages_of = [below_nbs(p) for p in NOTEBOOKS if p.stem != 'index']
    front = ['10_b23.ipynb', '11_o25.ipynb']
    front += [page for page in pages_of if page.startswith('howto/')]
    rooms = [page for page in pages_of if page not in front]
    assert listed == ['index.ipynb', *front, *rooms]
    assert all(page['text'] for page in pages)


@each_notebook
def test_form(notebook):
    "Title and subtitle first, one module of the same name, more words than code to be read, few cells left out of the test."
    prose, code = cells_of(notebook, 'markdown'), cells_of(notebook, 'code')
    titled = bool(re.fullmatch(r'# .+\n+> .+\n*', prose[0]))
    assert titled, (
        'the first cell is "# title" and "> subtitle" and nothing more: nbdev would leave the rest out of the site'
    )
    exports = [
        m[1] for c in code for m in re.finditer(r'^#\|\s*default_exp\s+(\S+)', c, re.M)
    ]
    assert exports == (
        []
        if notebook.stem in NO_MODULE or notebook.parent.name == 'howto'
        else [re.sub(r'^\d+[a-z]?_', '', notebook.stem)]
    ), 'one notebook, one module, one name'
    n_words = sum(len(p.split()) for p in prose)
    n_lines = len(visible_lines(notebook))
    assert n_words >= n_lines, f'{n_words} words for {n_lines} lines of code'
    skipped = sum(has_directive(c, *FLAGS) for c in code)
    assert skipped <= max(1, 0.05 * len(code)), (
        f'{skipped} of {len(code)} cells are not tested'
    )


def mixes_imports(source):
    "Whether a cell imports something and does something else too."
    tree = ast.parse(re.sub(r'^\s*%.*', '', source, flags=re.M))
    imported = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body]
    return not all(imported) and any(
        isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(tree)
    )


@each_notebook
def test_imports_stand_alone(notebook):
    "nbdev runs a cell with an import to build the site, without the cells before it: only the hidden cell at the top may do more."
    cells = [
        c
        for c in cells_of(notebook, 'code')
        if not has_directive(c, 'hide', 'exports?', 'exporti', 'eval')
    ]
    mixed = [c for c in cells if is_module(notebook) and mixes_imports(c)]
    assert not mixed, 'move the imports to a cell of their own:\n' + '\n---\n'.join(
        mixed
    )


@each_notebook
def test_folds(notebook):
    "What the site folds, JupyterLab folds too."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    folded = [c for c in cells if '#| code-fold: true\n' in c['source']]
    seen = [c['id'] for c in folded if 'jupyter' not in c['metadata']]
    assert not seen, f'.ci/execute.py folds them: {seen}'


@each_notebook
def test_outputs(notebook):
    "Outputs hold no error, no warning, nothing of the machine that made them, and are small."
    raw = notebook.read_text(encoding='utf-8')
    assert notebook.stat().st_size <= MAX_NOTEBOOK, (
        f'{notebook.stat().st_size} bytes; at most {MAX_NOTEBOOK}'
    )
    outputs = [o for c in json.loads(raw)['cells'] for o in c.get('outputs', [])]
    noise = [
        ''.join(o.get('text', o.get('evalue', '')))[:200]
        for o in outputs
        if o['output_type'] == 'error' or o.get('name') == 'stderr'
    ]
    assert not noise, f'errors and warnings are shown: {noise}'
    found = [
        text
        for text in UNWANTED
        if any(text in json.dumps(o, ensure_ascii=False) for o in outputs)
    ]
    assert not found, f'outputs name {found}'
    sizes = [
        len(image) * 3 // 4
        for o in outputs
        for kind, image in o.get('data', {}).items()
        if kind.startswith('image/')
    ]
    large = [size for size in sizes if size > MAX_IMAGE]
    assert not large, f'images of {large} bytes; at most {MAX_IMAGE}'
