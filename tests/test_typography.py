"""How the code is set: formatted by one tool, clean by its rules, and no wider than the column in which it is read."""

import re
import subprocess
import sys
from pathlib import Path

from conftest import NOTEBOOKS, ROOT, each_notebook
from test_sync import cells_of, visible_lines

WIDTH = 76  # characters of the site's column
FENCE = r'(?ms)^```.*?\n(.*?)^```'  # code in prose
LINES = 200  # of code between a reader and the end of a notebook
PLACES = ('nbs', 'tests', '.ci', 'setup.py')


def ruff(*words):
    "What ruff says; nothing when all is well."
    command = [Path(sys.executable).with_name('ruff'), *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return run.stdout + run.stderr if run.returncode else ''


def test_format():
    "Notebooks, tests and tools; a module is what its notebook says, cell by cell."
    assert not ruff('format', '--check', '--quiet', *PLACES)


def test_rules():
    assert not ruff('check', '--quiet', *PLACES, 'specanom')


@each_notebook
def test_nothing_wraps(notebook):
    fences = re.findall(FENCE, '\n'.join(cells_of(notebook, 'markdown')))
    lines = [*visible_lines(notebook), *'\n'.join(fences).splitlines()]
    wide = [line for line in lines if len(line) > WIDTH]
    assert not wide, f'{len(wide)} lines are wider than {WIDTH}:\n' + '\n'.join(wide)


@each_notebook
def test_a_chapter_is_short(notebook):
    lines = visible_lines(notebook)
    assert len(lines) <= LINES, f'{len(lines)} lines of code that a reader must pass'


if __name__ == '__main__':
    for notebook in NOTEBOOKS:
        lines = visible_lines(notebook)
        wide = sum(len(line) > WIDTH for line in lines)
        print(f'{notebook.stem:20s} {len(lines):5d} lines seen, {wide:4d} too wide')
