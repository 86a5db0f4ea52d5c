"""The site in _docs: nbdev prepares the notebooks in _proc, then Quarto, where it is installed, or smalldocs renders
them, both as _quarto.yml says.

    python .ci/docs.py            (or `make docs`)

_proc is left as a complete Quarto project. nbdev_docs and nbdev_proc_nbs are never called, because they try to install
Quarto. A page asks no other host for anything. Any warning, a broken link for instance, fails the build.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import nbdev.serve
from api import write_entries
from latex2mathml.converter import convert
from nbdev.config import get_config
from smalldocs.site import build

ROOT = Path(__file__).resolve().parents[1]
PROC = ROOT / '_proc'
QUARTO_ONLY = (
    'html-math-method is ignored',
    'grid is ignored',
    'html-table-processing is ignored',
    'respect-user-color-scheme is ignored',
    'output-file is not read by smalldocs',
)  # it does the same without being told
KATEX = re.compile(r'<(?:link|script)[^>]*/katex[^>]*>(?:</script>)?\s*')
FORMULA = re.compile(
    r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S
)
NAMED = re.compile(
    r'\\(?:log|ln|exp|sinh?|cosh?|cot)(?![a-z])(?:_\{\w+\}|_\w)?(?=\s*(?:[A-Za-z]|\\(?!left|[,!])))'
)
FONTS = re.compile(
    r'''@import\s*(?:url\(["']?https?:[^)]*\)|(["'])https?:.*?\1)[^;]*;'''
)


ABOVE = 'above:'  # in a link from a how-to page to a notebook


# what most notebooks import, which takes four times as long as to read one
HEAVY = ('torch', 'scipy.stats', 'sklearn.ensemble', 'skimage', 'seaborn', 'zarr')
HEAVY += ('astropy.table', 'astropy.units', 'astropy.cosmology', 'astropy.io.fits')
HEAVY += ('matplotlib.pyplot',)


def each_alone(function, items, n_workers, **options):
    "As fastcore's `parallel`, with a process for each item, a fork of this one."
    for name in HEAVY:
        import_module(name)
    with get_context('fork').Pool(n_workers, maxtasksperchild=1) as pool:
        return pool.map(function, items, chunksize=1)


def page_name(notebook: Path) -> str:
    "File name under which nbdev documents a notebook: 00_core.ipynb is core.ipynb, as its `output-file` says."
    front = ''.join(
        json.loads(notebook.read_text(encoding='utf-8'))['cells'][0]['source']
    )
    found = re.search(r'^output-file:\s*(\S+)\.html', front, re.M)
    return f'{found[1]}.ipynb' if found else notebook.name


def relink(text: str, names: dict, config) -> str:
    "Links between notebooks follow their new names, links to this site become relative, links out of nbs go to the repository."
    for old, new in names.items():
        text = text.replace(f'({old}', f'({new}')
        text = text.replace(f'(../{old}', f'({ABOVE}{new}')
    text = text.replace(f'{config.doc_host}{config.doc_baseurl}/', '')
    # what is private has its place in the entry of its class
    text = re.sub(r'\((\w+\.html#\w+)\._\w+\)', r'(\1)', text)
    # what is private in a module has none
    text = re.sub(r'\[(`_\w+`)\]\(\w+\.html#_\w+\)', r'\1', text)
    text = text.replace('](../', f']({config.git_url}/blob/{config.branch}/')
    return text.replace(ABOVE, '../')


def prepare():
    "Fill _proc: processed notebooks under their page names, and _quarto.yml with these."
    config = get_config()
    # a page left from an earlier build would be rendered again
    shutil.rmtree(PROC, ignore_errors=True)
    # nbdev's: of imports beside other code, in cells that are hidden
    os.environ['PYTHONWARNINGS'] = 'ignore::UserWarning:nbdev.processors'
    warnings.filterwarnings('ignore', module='nbdev.processors')
    nbdev.serve.parallel = each_alone  # registries are filled by a room once
    nbdev.serve.proc_nbs(config.nbs_path, n_workers=os.cpu_count())
    notebooks = sorted(PROC.glob('*.ipynb'), key=lambda p: (p.stem != 'index', p.name))
    names = {p.name: page_name(p) for p in notebooks}
    pages = [old.rename(old.with_name(names[old.name])) for old in notebooks]
    for page in pages:
        write_entries(page)
    for page in pages + sorted(PROC.glob('howto/*.ipynb')):
        text = relink(page.read_text(encoding='utf-8'), names, config)
        if page.parent != PROC:  # pages of the library are above
            text = re.sub(r'\]\((\w+\.html)', r'](../\1', text)
        page.write_text(text, encoding='utf-8')
    about = (ROOT / '_quarto.yml').read_text(encoding='utf-8')
    for old, new in names.items():
        about = re.sub(rf'\b{re.escape(old)}\b', new, about)
    described = PROC / '_quarto.yml'
    described.unlink(missing_ok=True)  # a link to the one of the project
    described.write_text(about, encoding='utf-8')


def by_quarto() -> Path:
    "Render _proc with Quarto."
    subprocess.run(['quarto', 'render', str(PROC)], check=True)
    return PROC / '_docs'


def by_smalldocs() -> Path:
    "Render _proc with smalldocs, which leaves formulas to a script of another host: here they become MathML."
    site = build(PROC, quiet=True)
    for page in site.out.rglob('*.html'):
        text = KATEX.sub('', page.read_text(encoding='utf-8'))
        page.write_text(FORMULA.sub(mathml, text), encoding='utf-8')
    warnings = [w for w in site.warnings if not w.endswith(QUARTO_ONLY)]
    if warnings:
        sys.exit('the site is not as it should be:\n  ' + '\n  '.join(warnings))
    return site.out


def mathml(formula: re.Match) -> str:
    "A formula as MathML, with the space after the name of a function that TeX sets by itself."
    display = 'block' if formula[1] == 'display' else 'inline'
    spaced = NAMED.sub(r'\g<0>\\,', html.unescape(formula[2]))
    written = convert(spaced, display=display)
    return f'<span class="math {formula[1]}">{written}</span>'


def ask_nobody(docs: Path):
    "Leave out the fonts that the themes fetch from another host; those of the reader's system do."
    for style in docs.rglob('*.css'):
        text = style.read_text(encoding='utf-8')
        kept = FONTS.sub('', text)
        if kept != text:
            style.write_text(kept, encoding='utf-8')


def main():
    "Build the site."
    os.chdir(ROOT)
    # document the package of this folder, whatever is installed
    sys.path.insert(0, str(ROOT))
    prepare()
    made = by_quarto() if shutil.which('quarto') else by_smalldocs()
    ask_nobody(made)
    docs = get_config().doc_path
    shutil.rmtree(docs, ignore_errors=True)
    shutil.move(made, docs)
    pages = len(list(docs.rglob('*.html')))
    print(f'{docs.relative_to(ROOT)}/index.html: {pages} pages')


if __name__ == '__main__':
    main()
