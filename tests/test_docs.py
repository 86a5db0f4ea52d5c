"""The site: every notebook is a page, everything public has an entry, every link leads somewhere, no page asks another host for
anything, nothing of this machine is in it."""

import ast
import json
import re
from collections import Counter
from html.parser import HTMLParser
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

import pytest
from conftest import NOTEBOOKS, ROOT, each_notebook

LOADED = {'stylesheet', 'icon', 'preload', 'modulepreload', 'preconnect'}  # links
ELSEWHERE = re.compile(
    r"""(?:url\(\s*["']?|@import\s*["']?|from\s*["']|import\(["'])https?:"""
)


class Page(HTMLParser):
    "Links, anchors, embedded images, and what a page loads."

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.images = set(), Counter(), 0
        self.loaded, self.viewport = set(), None
        self.entries = set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if anchor := attributes.get('id'):
            self.anchors[anchor] += 1
            if 'api' in (attributes.get('class') or '').split():
                self.entries.add(anchor)
        if tag == 'meta' and attributes.get('name') == 'viewport':
            self.viewport = attributes['content']
        source = tag in ('img', 'script', 'iframe', 'source', 'video', 'audio')
        target = attributes.get('src' if source else 'href') or ''
        self.images += tag == 'img'
        if source or tag == 'link' and attributes.get('rel') in LOADED:
            self.loaded.add(target)
        if target and not urlsplit(target).scheme and not target.startswith('//'):
            self.links.add(target)


@pytest.fixture(scope='module')
def pages(site):
    return {p.relative_to(site).as_posix(): Page(p) for p in site.rglob('*.html')}


def page_name(notebook):
    "nbdev drops the number: 01a_query.ipynb becomes query.html; how-to pages keep their folder."
    if notebook.parent.name == 'howto':
        return f'howto/{notebook.stem}.html'
    return (
        notebook.stem.lstrip('0123456789').partition('_')[2] + '.html'
        if notebook.stem[0].isdigit()
        else f'{notebook.stem}.html'
    )


def test_one_page_per_notebook(pages):
    assert set(pages) == {page_name(n) for n in NOTEBOOKS}


def test_links(site, pages):
    "Links inside the site, to pages, to places in pages, to styles and scripts, all resolve."
    for name, page in pages.items():
        for link in page.links:
            path = unquote(urlsplit(link).path)
            path = normpath(join(dirname(name), path)) if path else name
            anchor = unquote(urlsplit(link).fragment)
            assert (site / path).exists(), f'{name} links {link}'
            assert not anchor or path not in pages or anchor in pages[path].anchors, (
                f'{name} links {link}, which has no such place'
            )


def test_asks_nobody(site, pages):
    "No script, style, font or picture comes from another host."
    for name, page in pages.items():
        others = [t for t in page.loaded if t.startswith(('http:', 'https:', '//'))]
        assert not others, f'{name} loads {others}'
    for style in site.rglob('*.css'):
        found = ELSEWHERE.search(style.read_text(encoding='utf-8'))
        assert not found, f'{style.name} loads {found[0]}'


def public_names(module):
    "Public functions, classes and methods of a module, as the syntax tree has them."
    tree = ast.parse(module.read_text(encoding='utf-8'))
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if node.name.startswith('_'):
            continue
        yield node.name
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith('_'):
                yield from [f'{node.name}.{inner.name}'] * isinstance(
                    node, ast.ClassDef
                )


@each_notebook
def test_entries(notebook, pages):
    "All that is public has one entry, methods too, and no heading takes its place."
    page = pages[page_name(notebook)]
    module = ROOT / 'specanom' / page_name(notebook).replace('.html', '.py')
    names = {n.lower() for n in public_names(module)} if module.exists() else set()
    assert page.entries == names
    twice = [anchor for anchor, n in page.anchors.items() if n > 1]
    assert not twice, f'two places are called {twice}'


def test_search(site):
    "What is found of an entry begins with what it does, and holds no links and fences of Markdown."
    found = json.loads((site / 'search.json').read_text(encoding='utf-8'))
    texts = {e['href']: e['text'] for e in found}
    assert texts['spectra.html#spectra.reject'].startswith('The spectra that stay')
    broken = [
        href
        for href, text in texts.items()
        if re.search(r'\]\((?:https?:|\w+\.html)|:::', text)
    ]
    assert not broken, f'Markdown in {broken}'


@each_notebook
def test_page(notebook, site, pages):
    "A page fits a telephone, shows the figures of its notebook and no path of the machine that built it."
    prepared = site.parent / '_proc' / page_name(notebook).replace('.html', '.ipynb')
    outputs = [
        o
        for c in json.loads(prepared.read_text(encoding='utf-8'))['cells']
        for o in c.get('outputs', [])
    ]
    page = pages[page_name(notebook)]
    assert page.images >= sum('image/png' in o.get('data', {}) for o in outputs)
    assert 'width=device-width' in page.viewport
    text = (site / page_name(notebook)).read_text(encoding='utf-8')
    found = [
        trace
        for trace in (str(site.parent), '/site-packages/', ' at 0x')
        if trace in text
    ]
    assert not found, f'the page shows {found}'
