"""What all tests share: where things are, a quiet environment, folders of their own, copies of the project to work on."""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob('nbs/*.ipynb')) + sorted(ROOT.glob('nbs/howto/*.ipynb'))
GENERATED = shutil.ignore_patterns(
    '.git',
    '.venv',
    '_proc',
    '_docs',
    'runs',
    'build',
    'dist',
    '*.egg-info',
    '__pycache__',
    '.ipynb_checkpoints',
    '.pytest_cache',
)

SMALL = {  # Of a run that takes seconds
    'threads': 1,
    'n': 2560,
    'ensemble': 2,
    'autoencoder.hidden': [64],
    'autoencoder.ae1_epochs': 3,
    'autoencoder.ae2_epochs': 2,
    'flow.epochs': 5,
    'flow.members': 1,
    'anomalies.n_bins': 1,
    'anomalies.k': 2,
    'anomalies.hosts': 4,
}

os.environ.update(OMP_NUM_THREADS='1', MPLBACKEND='agg')
os.environ.pop('IN_TEST', None)  # nbdev's own commands do nothing when it is set


def pytest_configure(config):
    "Before the workers start: one folder for all of them, with a SPECANOM_HOME where a notebook finds what another one cached: empty, or that of `make check`."
    if hasattr(config, 'workerinput'):
        return
    os.environ['SPECANOM_TESTS'] = tempfile.mkdtemp(prefix='specanom-tests-')
    empty = os.environ['SPECANOM_TESTS'] + '/home'
    os.environ['SPECANOM_HOME'] = os.environ.get('SPECANOM_TESTED', empty)


def pytest_unconfigure(config):
    "After the last test."
    if not hasattr(config, 'workerinput'):
        shutil.rmtree(os.environ['SPECANOM_TESTS'], ignore_errors=True)


def pytest_collection_modifyitems(items):
    "Notebooks first: they take longest."
    items.sort(key=lambda item: item.path.name != 'test_notebooks.py')


def each_notebook(function):
    "Run a test once for every notebook; an empty folder is an error, because a suite without notebooks proves nothing."
    if not NOTEBOOKS:
        raise FileNotFoundError(f'no notebook in {ROOT / "nbs"}')
    return pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda p: p.stem)(
        function
    )


def copy_project(folder):
    "The project as a fresh clone has it, in a new folder."
    return shutil.copytree(ROOT, folder, ignore=GENERATED, symlinks=True)


def once(name, make):
    "A folder that `make(folder)` fills the first time any worker asks for it; the others wait."
    folder = Path(os.environ['SPECANOM_TESTS']) / name
    with open(f'{folder}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return folder


@pytest.fixture(scope='session')
def site():
    "The folder of the site's pages, built in a copy of the project."

    def build(folder):
        run = subprocess.run(
            [sys.executable, copy_project(folder) / '.ci' / 'docs.py'],
            capture_output=True,
            text=True,
        )
        if run.returncode:
            said = (run.stdout + run.stderr).splitlines()[-60:]
            pytest.fail('\n'.join(said), pytrace=False)

    return once('site', build) / '_docs'


def empty_environment(env):
    "A new environment of Python, without anything in it."
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', env], check=True)


def pip_install(env, *what):
    "Install into an environment, without dependencies and without a network."
    there = ['--python', env / 'bin' / 'python', 'install', '--quiet']
    alone = ['--no-deps', '--no-index']
    pip = [sys.executable, '-m', 'pip', *there, *alone]
    subprocess.run([*pip, *what], check=True)


def find_dependencies(env):
    "Let an environment find the dependencies, and only them, where the tests find them."
    site = next(env.glob('lib/python*/site-packages'))
    # .pth files over there, an editable install's too, are not read
    (site / 'dependencies.pth').write_text(sysconfig.get_path('purelib') + '\n')
