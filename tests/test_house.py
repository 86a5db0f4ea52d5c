"The rules of the house, see CONTRIBUTING: who may know whom."

import ast
import importlib
import inspect
import json
import re
import typing
from collections import Counter

import pytest

from specanom import core
from conftest import NOTEBOOKS as ALL_NOTEBOOKS
from conftest import ROOT
from specanom.config import Config
from specanom.settings import CHOICES, RANGES, SECTIONS, options_of
from specanom.surveys import readers
from specanom.density import METHODS, find_method
from specanom.pipeline import STAGES
from specanom.rivals import RIVALS
from specanom.scores import ANOMALY_SCORES

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


def public_of(module):
    "(name, function or class) of all that is public in a module, methods too."
    for name, thing in vars(importlib.import_module(f'specanom.{module}')).items():
        own = getattr(thing, '__module__', None) == f'specanom.{module}'
        if name.startswith('_') or not own or not callable(thing):
            continue
        if not inspect.isroutine(thing) and not inspect.isclass(thing):
            continue
        yield name, thing
        for inner, method in vars(thing).items() if inspect.isclass(thing) else ():
            method = getattr(method, '__func__', getattr(method, 'fget', method))
            if inspect.isfunction(method) and not inner.startswith('_'):
                yield f'{name}.{inner}', method


@pytest.mark.parametrize('module', ORDER)
def test_what_is_public_says_itself(module):
    "It has a docstring, and the types that it names exist: what `py.typed` promises."
    for name, thing in public_of(module):
        assert (thing.__doc__ or '').strip(), f'{module}.{name} has no docstring'
        typing.get_type_hints(thing)


def test_core_knows_no_settings():
    "What a stage can be told stands in its signature, and `config` reads it there."
    about = re.compile('config|profile|setting|range|choice', re.I)
    assert not [name for name in core.__all__ if about.search(name)]


FREE = {'profile', 'source', 'known', 'query.skyserver', 'query.sas', 'anomalies.split'}


def test_every_setting_has_limits():
    "A number a range, a text its choices; nothing has limits that is no setting."
    values = Config().values()
    for name, value in values.items():
        limits = CHOICES if isinstance(value, str) else RANGES
        free = isinstance(value, bool) or name in FREE
        assert free or name in limits, f'{name} needs limits in 08a_config'
    assert {*RANGES, *CHOICES} <= values.keys()


def test_no_default_stands_twice():
    "What a section says itself, no function that it feeds says likewise."
    for section, (sources, _, own) in SECTIONS.items():
        for function in [s for s in sources if s is not METHODS]:
            derived = options_of(function)
            twice = [
                n for n in own if n in derived and own[n].default == derived[n].default
            ]
            assert not twice, f'{section}: {twice} stand in {function.__name__}'


# What is registered: name -> where it says what it is
REGISTERED = {
    'density': {name: find_method(name).__doc__ for name in METHODS},
    'method': {name: method.description for name, method in RIVALS.items()},
    'reader': {name: reader.read.__doc__ for name, reader in readers().items()},
    'score': {name: s.description for name, s in ANOMALY_SCORES.items()},
    'stage': {name: stage.make.__doc__ for name, stage in STAGES.items()},
}


@pytest.mark.parametrize('kind', REGISTERED)
def test_registries_are_complete(kind):
    "What is registered says what it is, and a test or a notebook names it."
    files = [*(ROOT / 'tests').glob('*.py'), *ALL_NOTEBOOKS]
    shown = '\n'.join(file.read_text(encoding='utf-8') for file in files)
    for name, said in REGISTERED[kind].items():
        assert said, f'the {kind} {name} has no docstring'
        assert f"'{name}'" in shown, f'no test names the {kind} {name}'


@pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda n: n.stem)
def test_places_on_a_page(notebook):
    "Names and headings of one notebook stay apart where capitals do not count."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    places = Counter()
    for cell in cells:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            headings = re.findall(r'^##+ (.*)', text, re.M)
            places.update(h.lower().replace(' ', '-') for h in headings)
        elif re.search(r'^#\| exporti?$', text, re.M):
            names = re.findall(r'^(?:def|class) ([a-zA-Z]\w*)', text, re.M)
            places.update(n.lower() for n in names)
    assert [p for p, n in places.items() if n > 1] == []
