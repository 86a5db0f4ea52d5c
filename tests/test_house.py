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


@pytest.mark.parametrize('module', ORDER)
def test_rng_is_a_seed_or_a_generator(module):
    "Whatever is random and public takes `rng`, and says that it takes both."
    tree = ast.parse((ROOT / 'specanom' / f'{module}.py').read_text(encoding='utf-8'))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for function in (*tree.body, *(part for c in classes for part in c.body)):
        if not isinstance(function, ast.FunctionDef) or function.name.startswith('_'):
            continue
        for argument in (*function.args.args, *function.args.kwonlyargs):
            if argument.arg == 'rng':
                said = ast.unparse(argument.annotation) if argument.annotation else ''
                where = f'specanom/{module}.py, line {argument.lineno}: rng'
                assert 'np.random.Generator' in said, where
