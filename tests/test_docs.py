"""The site, built without Quarto: every notebook is a page, every link leads somewhere, nothing of this machine is in it."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from conftest import NOTEBOOKS, copy_project, each_notebook, once


class Page(HTMLParser):
    "Links, anchors and embedded images of a page."

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.images = set(), set(), 0
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.add(attributes.get('id'))
        target = attributes.get('src' if tag in ('img', 'script') else 'href') or ''
        self.images += tag == 'img'
        if target and not urlsplit(target).scheme and not target.startswith('//'):
            self.links.add(target)


@pytest.fixture(scope='module')
def site():
    "The folder of the pages, built in a copy of the project."

    def build(folder):
        run = subprocess.run(
            [sys.executable, copy_project(folder) / '.ci' / 'docs.py'],
            capture_output=True,
            text=True,
        )
        if run.returncode:
            pytest.fail(
                '\n'.join((run.stdout + run.stderr).splitlines()[-60:]), pytrace=False
            )

    return once('site', build) / '_docs'


@pytest.fixture(scope='module')
def pages(site):
    return {p.name: Page(p) for p in site.glob('*.html')}


def page_name(notebook):
    "nbdev drops the number: 01a_query.ipynb becomes query.html."
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
            path, anchor = (
                unquote(urlsplit(link).path) or name,
                unquote(urlsplit(link).fragment),
            )
            assert (site / path).exists(), f'{name} links {link}'
            assert not anchor or path not in pages or anchor in pages[path].anchors, (
                f'{name} links {link}, which has no such place'
            )


@each_notebook
def test_page(notebook, site, pages):
    "A page shows the figures of its notebook and no path of the machine that built it."
    prepared = site.parent / '_proc' / page_name(notebook).replace('.html', '.ipynb')
    outputs = [
        o
        for c in json.loads(prepared.read_text(encoding='utf-8'))['cells']
        for o in c.get('outputs', [])
    ]
    assert pages[page_name(notebook)].images >= sum(
        'image/png' in o.get('data', {}) for o in outputs
    )
    text = (site / page_name(notebook)).read_text(encoding='utf-8')
    found = [
        trace
        for trace in (str(site.parent), '/site-packages/', ' at 0x')
        if trace in text
    ]
    assert not found, f'the page shows {found}'
