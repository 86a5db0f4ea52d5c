"The rules of the house, see CONTRIBUTING: who may know whom."

import ast
import re

import pytest

from conftest import ROOT

NOTEBOOKS = sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))
ORDER = {}  # module -> place of its notebook
for place, notebook in enumerate(NOTEBOOKS):
    found = re.search(r'default_exp (\w+)', notebook.read_text(encoding='utf-8'))
    if found:
        ORDER[found[1]] = place


def imports_of(module):
    "(line, module of the house, name) of every import, those within functions too."
    tree = ast.parse((ROOT / 'specanom' / f'{module}.py').read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            whole = '.' * node.level + (node.module or '')
            inside = re.fullmatch(r'(?:\.|specanom\.)(\w+)', whole)
            for alias in node.names:
                if inside:
                    yield node.lineno, inside[1], alias.name


@pytest.mark.parametrize('module', ORDER)
def test_imports_go_down(module):
    "A module imports only from modules with a smaller number, and nothing private."
    for line, other, name in imports_of(module):
        where = f'specanom/{module}.py, line {line}'
        assert ORDER[other] < ORDER[module], f'{where}: {other} comes later'
        assert not name.startswith('_'), f'{where}: {name} is private to {other}'


def test_every_module_has_a_notebook():
    "What the package holds was exported, and has a place in the order."
    by_hand = {'__init__', '__main__', '_modidx'}
    modules = {p.stem for p in (ROOT / 'specanom').glob('*.py')} - by_hand
    assert modules == set(ORDER)
