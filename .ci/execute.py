"""Run one notebook from top to bottom by nbdev's own test runner, so that its flags are respected.

    python .ci/execute.py NOTEBOOK                 keep the outputs in the notebook, cleaned, ready to commit
    python .ci/execute.py NOTEBOOK OUTPUTS.json    leave it alone; write {cell id: outputs} of the cells that ran

Exit status 1, with the traceback, when a cell fails; the notebook is then left as it was. Authors and tests run notebooks in this
one way: one thread (SPECANOM_THREADS=2: two), figures as plain PNG.
"""

import json
import os
import re
import sys
from pathlib import Path

THREADS = os.environ.get('SPECANOM_THREADS', '1')
os.environ['OMP_NUM_THREADS'] = THREADS  # read when NumPy and torch are imported
os.environ.pop('MPLBACKEND', None)

import nbdev.test
from execnb.nbio import read_nb, write_nb
from nbdev.clean import nbdev_clean
from nbdev.config import get_config


class RecordingShell(nbdev.test.CaptureShell):
    "nbdev's shell, which also remembers what the cells put out."

    outputs = {}

    def __init__(self, path):
        super().__init__(path, mpl_format='png')

    def cell(self, cell, **kwargs):
        # of the notebook, not of a function that it defines
        own = re.compile(r'^torch\.set_num_threads\(1\)', re.M)
        cell.source = own.sub(f'torch.set_num_threads({THREADS})', cell.source)
        cell.outputs = []  # a cell that is silent now keeps nothing of what it said before
        super().cell(cell, **kwargs)
        if cell.cell_type == 'code':
            self.outputs[cell.id] = [still(o) for o in cell.get('outputs', [])]


def still(output: dict) -> dict:
    "An output without the page that moves in it, whose scripts nobody wants in a notebook: its picture or its words stay."
    data = output.get('data', {})
    if ''.join(data.get('text/html', '')).startswith('<iframe srcdoc='):
        del data['text/html']
    return output


def keep(notebook: Path, outputs: dict):
    "Put the outputs in the notebook; a cell that did not run keeps those that it has."
    outputs = json.loads(
        re.sub(r' id=\\"table\d+\\"', '', json.dumps(outputs))
    )  # memory addresses, in astropy's HTML
    nb = read_nb(notebook)
    for cell in nb.cells:
        if cell.id in outputs:
            cell.outputs = outputs[cell.id]
        if '#| code-fold: true' in cell.source.splitlines():
            cell.metadata['jupyter'] = dict(source_hidden=True)  # in JupyterLab, too
    write_nb(nb, notebook)
    nbdev_clean(str(notebook))


def main(notebook: str, target: str = None):
    "Run the notebook and deliver its outputs."
    notebook, config = Path(notebook).resolve(), get_config()
    nbdev.test.CaptureShell = RecordingShell
    passed, _ = nbdev.test.test_nb(
        notebook, skip_flags=config.tst_flags.split(), basepath=config.config_path
    )
    if not passed:
        sys.exit(1)
    if target:
        Path(target).write_text(json.dumps(RecordingShell.outputs))
    else:
        keep(notebook, RecordingShell.outputs)


if __name__ == '__main__':
    main(*sys.argv[1:])
