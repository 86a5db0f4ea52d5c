"""Run one notebook by nbdev's own test runner, so that its flags are respected, and keep what the cells print.

    python run_notebook.py NOTEBOOK OUTPUTS

OUTPUTS becomes a JSON file {cell id: outputs} of the cells that were run. Exit status 1, with the traceback, when a cell fails.
"""
import json
import sys
from pathlib import Path

import nbdev.test
from nbdev.config import get_config


class RecordingShell(nbdev.test.CaptureShell):
    "nbdev's shell, which also remembers the outputs."
    outputs = {}

    def cell(self, cell, **kwargs):
        super().cell(cell, **kwargs)
        if cell.cell_type == 'code': self.outputs[cell.id] = cell.get('outputs', [])


def main(notebook, outputs):
    nbdev.test.CaptureShell = RecordingShell
    config = get_config()
    passed, _ = nbdev.test.test_nb(Path(notebook), skip_flags=config.tst_flags.split(), basepath=config.config_path)
    Path(outputs).write_text(json.dumps(RecordingShell.outputs))
    sys.exit(not passed)


if __name__ == '__main__': main(*sys.argv[1:])
