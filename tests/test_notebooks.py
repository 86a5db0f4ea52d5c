"""Every notebook runs from top to bottom, and shows what its committed version shows."""

import json
import multiprocessing
import os
import re
import signal
import sys
import warnings
from base64 import b64decode
from difflib import unified_diff
from itertools import islice

import pytest
from conftest import NOTEBOOKS, ROOT, each_notebook

# what most notebooks import is imported once, by the process of which theirs are forks
multiprocessing.get_context('forkserver').set_forkserver_preload(
    ['torch', 'scipy.stats', 'sklearn.ensemble', 'skimage', 'seaborn', 'zarr']
    + ['astropy.table', 'astropy.units', 'astropy.cosmology', 'nbdev.test', 'lime']
)

LIMIT = 300  # seconds for one notebook on a busy machine; the aim is 30
CLOSE = 0.1  # numbers may differ by this fraction: another processor rounds, and so trains, differently
FAR = 0.1  # fraction of the numbers that may differ by more: what is trained rounds differently on another processor
NUMBER = r'(?<![A-Za-z_])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\bnan\b|\binf\b'


def text_of(outputs):
    "What the outputs of a cell say, without the ids that astropy gives its HTML tables."
    said = []
    for output in outputs:
        data = {'text/stream': output.get('text', '')} | output.get('data', {})
        said += [
            ''.join(v) for kind, v in sorted(data.items()) if kind.startswith('text/')
        ]
    return re.sub(r'id="table\d+"', '', '\n'.join(said)).strip()


def figure_sizes(outputs):
    "Widths and heights of the PNG images, from their headers."
    images = [
        b64decode(o['data']['image/png'])
        for o in outputs
        if 'image/png' in o.get('data', {})
    ]
    return [int.from_bytes(image[at : at + 4]) for image in images for at in (16, 20)]


def words(text):
    "The words of a text without its numbers, in no order: the last places of a ranking may change."
    return sorted(re.findall(r'[^\W\d_]+', re.sub(NUMBER, ' ', text)))


def numbers(text):
    return [float(n) for n in re.findall(NUMBER, text)]


def same(a, b):
    "Equal, or both not a number."
    return a == b or a != a and b != b


def close(a, b):
    return same(a, b) or abs(a - b) <= CLOSE * max(abs(a), abs(b))


def same_kind(old, new):
    "Whether two outputs are the same but for the values of numbers."
    said, says = text_of(old), text_of(new)
    sizes = figure_sizes(old), figure_sizes(new)
    same_text = words(said) == words(says) and len(numbers(said)) == len(numbers(says))
    return same_text and len(sizes[0]) == len(sizes[1]) and all(map(close, *sizes))


def compare(notebook, fresh):
    "What is stale, as a list of lines; pairs of numbers that changed; the count of all numbers."
    stale, changed, total = [], [], 0
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        if cell['id'] not in fresh:
            continue  # no code, or not run because of a flag
        old, new = cell['outputs'], fresh[cell['id']]
        said, says = text_of(old), text_of(new)
        total += len(numbers(says))
        if same_kind(old, new):
            changed += [
                pair for pair in zip(numbers(said), numbers(says)) if not same(*pair)
            ]
        else:
            stale += [
                f'cell {cell["id"]}:',
                *islice(
                    unified_diff(
                        said.splitlines(),
                        says.splitlines(),
                        'committed',
                        'now',
                        n=0,
                        lineterm='',
                    ),
                    20,
                ),
            ]
    return stale, changed, total


PROCESSORS = {  # what else a notebook must show the same on: environment variables
    'default': {'ATEN_CPU_CAPABILITY': 'default'},
    'avx2': {'ATEN_CPU_CAPABILITY': 'avx2', 'MKL_ENABLE_INSTRUCTIONS': 'AVX2'},
    'threads': {'SPECANOM_THREADS': '2'},
}
FITS = re.compile(r'^#\| export\b(.|\n)*\bdef fit_\w+\(')
TORCH = re.compile(r'^import torch', re.M)
TRAINS = re.compile(
    r'\bfit_(pair|relabelled|vae|networks|densities)\b|\btiny_model\(|make_density\('
    r'|(Sliced|Warp)Flow\(|Triage\('
)


def calls(notebook, what):
    "Whether a cell of a notebook holds something."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    return any(what.search(source) for source in code)


def judged(notebook):
    """The rooms of the networks and densities (03, 04) are run as another processor would;
    when processors are named, so is whatever trains or uses what is trained."""
    if 'SPECANOM_PROCESSORS' in os.environ:
        return calls(notebook, TRAINS)
    room = notebook.stem[:2] in ('03', '04')
    return room and calls(notebook, FITS) and calls(notebook, TORCH)


def execute_here(notebook, fresh, log):
    "Run a notebook in this process, which is there for nothing else."
    os.setsid()
    said = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / '.ci'))
    import execute

    execute.main(notebook, fresh)


def check(notebook, tmp_path, start='forkserver'):
    "Run in a process of its own, in at most LIMIT seconds, and compare with what is committed."
    fresh, log = tmp_path / 'outputs.json', tmp_path / 'log'
    process = multiprocessing.get_context(start).Process
    run = process(target=execute_here, args=(notebook, fresh, log))
    run.start()
    run.join(LIMIT)
    if run.is_alive():
        os.killpg(run.pid, signal.SIGKILL)
        pytest.fail(f'{notebook.name} took more than {LIMIT} s', pytrace=False)
    if run.exitcode:
        said = log.read_text().splitlines()
        pytest.fail('\n'.join([notebook.name, *said[-60:]]), pytrace=False)
    stale, changed, total = compare(notebook, json.loads(fresh.read_text()))
    far = sum(not close(*pair) for pair in changed)
    if stale or far > FAR * total:
        advice = f'{notebook.name} does not show what its code prints ({far} of {total} numbers are far off): run it again and commit it'
        pytest.fail('\n'.join([advice, *stale[:60]]), pytrace=False)
    if changed:
        warnings.warn(
            f'{notebook.name}: {len(changed)} of {total} numbers differ a little from the committed ones, as they may on another processor',
            stacklevel=2,
        )


@each_notebook
def test_notebook(notebook, tmp_path):
    "Runs from top to bottom and shows what is committed."
    check(notebook, tmp_path)


@pytest.mark.parametrize(
    'processor', os.environ.get('SPECANOM_PROCESSORS', 'default').split()
)
@pytest.mark.parametrize(
    'notebook', [pytest.param(n, id=n.stem) for n in NOTEBOOKS if judged(n)]
)
def test_processor(notebook, processor, tmp_path, monkeypatch):
    "Shows the same with other instructions of the processor, or on two threads; what is trained is trained again."
    home = os.environ['SPECANOM_HOME'] + f'-{processor}'
    for name, value in (PROCESSORS[processor] | {'SPECANOM_HOME': home}).items():
        monkeypatch.setenv(name, value)
    check(notebook, tmp_path, 'spawn')
