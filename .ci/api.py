"""The entries of the API on the site, written from the library itself.

nbdev marks the place of an entry in a page: a cell that calls `show_doc`. What it writes there leaves out
methods and the fields of data classes, and puts links into code. So each such cell becomes one of Markdown,
before Quarto or smalldocs sees the page: docstring, signature, a row for each argument, and the same for
every public method, in the order of the source.
"""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import sys
import tokenize
from functools import cache
from pathlib import Path

from fastcore.docments import docments
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup

WIDTH = 76  # of a signature on one line, as of the code of notebooks
CALL = re.compile(r'^show_doc\(([\w.]+)', re.M)
SPECIAL = re.compile(r'([\\*_<>$\[\]~^|@#])')  # characters that are Markdown
MADE = re.compile(r'(?:dataclasses\.)?field\(default(_factory)?=(\w+).*\)$')
VALUES = {'property', 'cached_property'}  # called without parentheses


@cache
def definitions(module) -> dict:
    "Name -> syntax tree of each function, class and method of a module, in the order of the source."
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            inner = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            found.update((f'{node.name}.{n.name}', n) for n in inner)
    return found


def public_methods(name: str, found: dict) -> list:
    "Full names of the methods of a class that do not begin with `_`."
    inner = [full for full in found if full.startswith(f'{name}.')]
    return [full for full in inner if not full.split('.')[1].startswith('_')]


def as_written(name: str, annotation, default) -> str:
    "One argument: names of types without quotes, a default that is made anew by its maker."
    value = '' if default is None else ast.unparse(default)
    if made := MADE.match(value):
        value = made[2] + ('()' if made[1] else '')
    if annotation is None:
        return f'{name}={value}' if value else name
    text = f'{name}: {type_name(annotation)}'
    return f'{text} = {value}' if value else text


def type_name(annotation) -> str:
    return re.sub(r"'(\w+)'", r'\1', ast.unparse(annotation))


def of_function(node: ast.FunctionDef) -> dict:
    "Argument -> how it is written."
    taken = node.args
    places = taken.posonlyargs + taken.args
    defaults = [None] * (len(places) - len(taken.defaults)) + taken.defaults
    pairs = [*zip(places, defaults), *zip(taken.kwonlyargs, taken.kw_defaults)]
    texts = {a.arg: as_written(a.arg, a.annotation, value) for a, value in pairs}
    for stars, rest in (('*', taken.vararg), ('**', taken.kwarg)):
        if rest:
            texts[rest.arg] = as_written(stars + rest.arg, rest.annotation, None)
    return texts


def own_bases(thing: type) -> list:
    "A class and those of its bases that are of this library too."
    library = get_config().lib_path.name
    return [c for c in thing.__mro__ if c.__module__.split('.')[0] == library]


def of_class(thing: type) -> dict:
    "Argument or field -> how it is written, in the class or in one of its bases."
    texts = {}
    for base in reversed(own_bases(thing)):
        found = definitions(sys.modules[base.__module__])
        for node in found[base.__name__].body:
            if isinstance(node, ast.AnnAssign):
                name = node.target.id
                texts[name] = as_written(name, node.annotation, node.value)
        if f'{base.__name__}.__init__' in found:
            texts.update(of_function(found[f'{base.__name__}.__init__']))
    return texts


def written_in(thing, node) -> dict:
    return of_class(thing) if inspect.isclass(thing) else of_function(node)


def signature_of(thing) -> dict:
    "Name -> parameter, in the order of a call, without the one that is the object."
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return {}
    taken = inspect.signature(thing).parameters
    return {name: p for name, p in taken.items() if name not in ('self', 'cls')}


def arguments(thing, texts: dict) -> list:
    "Arguments as they are written."
    taken = signature_of(thing).values()
    written = [texts.get(p.name, str(p)) for p in taken]
    kinds = [p.kind for p in taken]
    keywords = [
        i for i, kind in enumerate(kinds) if kind == inspect.Parameter.KEYWORD_ONLY
    ]
    if keywords and inspect.Parameter.VAR_POSITIONAL not in kinds:
        written.insert(keywords[0], '*')
    return written


def signature(name: str, thing, node) -> str:
    "A call with its arguments, on one line where there is room; the type of a value that is not called."
    returns = getattr(node, 'returns', None)
    if VALUES & {ast.unparse(d) for d in node.decorator_list}:
        return f'{name}: {type_name(returns)}' if returns else name
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return f'class {name}({", ".join(map(ast.unparse, node.bases))})'
    texts = written_in(thing, node)
    written = arguments(thing, texts)
    after = f' -> {type_name(returns)}' if returns else ''
    line = f'{name}({", ".join(written)}){after}'
    if len(line) <= WIDTH:
        return line
    return '\n'.join([f'{name}(', *map(fitted, written), f'){after}'])


def fitted(text: str) -> str:
    "An argument on a line, or on several, broken after commas, where it is wider than the page."
    lines = ['    ']
    for part in re.split(r'(?<=,) ', f'{text},'):
        if lines[-1].strip() and len(lines[-1] + part) > WIDTH:
            lines.append(' ' * 8)
        lines[-1] += f'{part} '
    return '\n'.join(line.rstrip() for line in lines)


def plain(text: str) -> str:
    "A comment as Markdown that shows it: what stands between backticks stays code."
    parts = re.split(r'(`[^`]*`)', ' '.join(text.split()))
    return ''.join(p if p.startswith('`') else SPECIAL.sub(r'\\\1', p) for p in parts)


@cache
def comments_by_line(module) -> dict:
    "Line -> comment."
    lines = iter(inspect.getsource(module).splitlines(keepends=True))
    tokens = tokenize.generate_tokens(lambda: next(lines, ''))
    return {
        t.start[0]: t.string[1:].strip() for t in tokens if t.type == tokenize.COMMENT
    }


def of_fields(thing: type) -> dict:
    "Field -> comment, which stands behind it or above it."
    module = sys.modules[thing.__module__]
    node, comments = definitions(module)[thing.__name__], comments_by_line(module)
    texts, last = {}, node.lineno
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            own = range(last + 1, field.end_lineno + 1)
            texts[field.target.id] = ' '.join(comments[i] for i in own if i in comments)
        last = field.end_lineno
    return texts


def comments_of(thing) -> dict:
    "Argument -> comment, that of a base where a class says nothing itself."
    if not inspect.isclass(thing):
        return docments(thing, returns=True)
    texts = {}
    for base in reversed(own_bases(thing)):
        said = of_fields(base)
        if '__init__' in vars(base) and not dataclasses.is_dataclass(base):
            said = docments(base.__init__)
        texts.update((name, text) for name, text in said.items() if text)
    return {name: texts.get(name) for name in signature_of(thing)}


def rows(thing, types: dict) -> str:
    "A row for each argument, with its comment or else its type, and for what is returned."
    comments = comments_of(thing)
    returned = comments.pop('return', None)
    said = {
        n: plain(comments[n]) if comments.get(n) else types.get(n) for n in comments
    }
    named = [(f'`{name}`', text) for name, text in said.items() if text]
    if returned:
        named.append(('returns', plain(returned)))
    if not named:
        return ''
    texts = [f'{name}\n:   {text}' for name, text in named]
    return '::: {.arguments}\n' + '\n\n'.join(texts) + '\n:::'


def types_of(texts: dict) -> dict:
    "Argument -> its type as code, from how the argument is written."
    typed = {
        name: re.match(r'[*\w]+: (.+?)(?: = .*)?$', t) for name, t in texts.items()
    }
    return {name: f'`{found[1]}`' for name, found in typed.items() if found}


def entry(name: str, level: int, thing, node, file: str) -> str:
    "One entry: heading, docstring, signature, rows."
    config = get_config()
    source = f'{config.git_url}/blob/{config.branch}/{file}#L{node.lineno}'
    parts = (
        f'{"#" * level} {name} {{#{name.lower()} .api}}',
        f'[]({source}){{.source aria-label="Source of {name}"}}',
        inspect.cleandoc(thing.__doc__ or ''),
        f'```python\n{signature(node.name, thing, node)}\n```',
        rows(thing, types_of(written_in(thing, node))),
    )
    return '\n\n'.join(part for part in parts if part)


def function_of(thing):
    "What holds the signature and the comments of a method."
    if isinstance(thing, classmethod | staticmethod):
        return thing.__func__
    return getattr(thing, 'fget', None) or getattr(thing, 'func', thing)


def entries(name: str, module) -> str:
    "The entry of something public, and those of its public methods."
    thing, found = inspect.unwrap(getattr(module, name)), definitions(module)
    file = f'{module.__name__.replace(".", "/")}.py'
    texts = [entry(name, 3, thing, found[name], file)]
    for full in public_methods(name, found):
        method = function_of(vars(thing)[full.split('.')[1]])
        texts.append(entry(full, 4, inspect.unwrap(method), found[full], file))
    return NbdevLookup(get_config().lib_path.name).linkify('\n\n'.join(texts))


def write_entries(page: Path):
    "Replace the cells of a page that call `show_doc`; a page has the name of its module."
    notebook = json.loads(page.read_text(encoding='utf-8'))
    for cell in notebook['cells']:
        call = CALL.search(''.join(cell['source']))
        if cell['cell_type'] != 'code' or not call:
            continue
        module = importlib.import_module(f'{get_config().lib_path.name}.{page.stem}')
        text = entries(call[1], module)
        cell.update(cell_type='markdown', source=text.splitlines(keepends=True))
        del cell['outputs'], cell['execution_count']
    page.write_text(json.dumps(notebook, indent=1), encoding='utf-8')
