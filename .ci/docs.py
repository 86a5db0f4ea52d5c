"""The site in _docs, without Quarto: nbdev prepares the notebooks in _proc, smalldocs renders them as _quarto.yml says.

    python .ci/docs.py            (or `make docs`)

_proc is left as a complete Quarto project: `quarto render _proc` makes the same pages where Quarto is installed. nbdev_docs and
nbdev_proc_nbs are never called, because they try to install Quarto. Any warning, a broken link for instance, fails the build.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from nbdev.config import get_config
from nbdev.serve import proc_nbs
from smalldocs.layout import KATEX
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
    text = text.replace(f'{config.doc_host}{config.doc_baseurl}/', '')
    # a method has its place in the entry of its class
    text = re.sub(r'\((\w+\.html#\w+)\.\w+\)', r'(\1)', text)
    return text.replace('](../', f']({config.git_url}/blob/{config.branch}/')


def prepare():
    "Fill _proc: processed notebooks under their page names, and _quarto.yml with these."
    config = get_config()
    shutil.rmtree(
        PROC, ignore_errors=True
    )  # a page left from an earlier build would be rendered again
    os.environ['PYTHONWARNINGS'] = (
        'ignore::UserWarning:nbdev.processors'  # of imports beside other code, in cells that are hidden
    )
    proc_nbs(config.nbs_path, n_workers=os.cpu_count())
    notebooks = sorted(PROC.glob('*.ipynb'), key=lambda p: (p.stem != 'index', p.name))
    names = {p.name: page_name(p) for p in notebooks}
    for old in notebooks:
        text = relink(old.read_text(encoding='utf-8'), names, config)
        old.unlink()
        old.with_name(names[old.name]).write_text(text, encoding='utf-8')
    about = (ROOT / '_quarto.yml').read_text(encoding='utf-8')
    for old, new in names.items():
        about = re.sub(rf'\b{re.escape(old)}\b', new, about)
    described = PROC / '_quarto.yml'
    described.unlink(missing_ok=True)  # a link to the one of the project
    described.write_text(about, encoding='utf-8')


def undocumented(page: Path) -> list:
    "Calls of show_doc that wrote no documentation: nbdev fails on a default that is an array, for instance."
    cells = [
        c
        for c in json.loads(page.read_text(encoding='utf-8'))['cells']
        if '\nshow_doc(' in ''.join(c['source'])
    ]
    failed = [
        c
        for c in cells
        if not any('text/markdown' in o.get('data', {}) for o in c['outputs'])
    ]
    return [
        f"{page.name}: {''.join(c['source']).splitlines()[-1]} failed" for c in failed
    ]


def serve_katex(docs: Path):
    "Copy KaTeX beside the pages, so that formulas need no network; without npm the pages go on asking the public copy."
    package = re.search(r'katex@[\d.]+', KATEX)[0]
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                ['npm', 'pack', '--silent', package],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return print(
                f'{package} could not be fetched with npm ({type(error).__name__}): formulas on the pages will need the network'
            )
        with tarfile.open(next(Path(folder).glob('*.tgz'))) as archive:
            archive.extractall(folder, filter='data')
        shutil.copytree(
            Path(folder) / 'package' / 'dist',
            docs / 'site_libs' / 'katex',
            ignore=lambda _, names: [
                n for n in names if n.endswith(('.ttf', '.woff', '.mjs'))
            ],
        )
    for page in docs.glob('*.html'):
        page.write_text(
            page.read_text(encoding='utf-8').replace(KATEX, 'site_libs/katex'),
            encoding='utf-8',
        )


def main():
    "Build the site."
    os.chdir(ROOT)
    sys.path.insert(
        0, str(ROOT)
    )  # document the package of this folder, whatever is installed
    prepare()
    site = build(PROC, quiet=True)
    serve_katex(site.out)
    docs = get_config().doc_path
    shutil.rmtree(docs, ignore_errors=True)
    shutil.move(site.out, docs)
    warnings = [w for w in site.warnings if not w.endswith(QUARTO_ONLY)]
    for page in PROC.glob('*.ipynb'):
        warnings += undocumented(page)
    if warnings:
        sys.exit(
            'the site is built, but not as it should be:\n  ' + '\n  '.join(warnings)
        )
    print(f'{docs.relative_to(ROOT)}/index.html: {len(site.pages)} pages')


if __name__ == '__main__':
    main()
