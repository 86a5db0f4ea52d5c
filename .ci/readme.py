"""README.md from nbs/index.ipynb: nbdev drops what is hidden, nbconvert writes the Markdown.

    python .ci/readme.py          write README.md, and the figures of the notebook to nbs/index_files/
    python .ci/readme.py --check  write nothing; exit 1 when what is committed differs

nbdev_readme would need Quarto, which is not a Python package. The figures are files because no forge shows an embedded image;
links are the notebook's own, seen from the top of the repository.
"""

import posixpath
import re
import sys
from base64 import b64decode
from pathlib import Path

import nbformat
from execnb.nbio import nb2str
from nbconvert import MarkdownExporter
from nbdev.process import NBProcessor
from nbdev.processors import clean_magics, hide_line, rm_export, strip_ansi

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / 'nbs' / 'index.ipynb'
FIGURES = INDEX.with_name('index_files')
RELATIVE = r'(?![a-z]+:|#|/)'  # neither https:, mailto:, data: nor an anchor nor a path from the root


def from_top(text: str) -> str:
    "Markdown of the notebook, with its links as seen from the folder that holds README.md."

    def move(match):
        return match[1] + posixpath.normpath(
            posixpath.join(INDEX.parent.name, match[2])
        )

    text = re.sub(rf'(\]\(){RELATIVE}([^)\s]+)', move, text)
    return re.sub(rf'((?:src|href)="){RELATIVE}([^"]+)', move, text)


def options(source: str) -> dict:
    "The `#| key: value` options of a code cell that nbdev leaves to the renderer."
    return dict(re.findall(r'^#\|\s*([\w-]+):\s*(.*?)\s*$', source, re.M))


def prepare(cell, figures: dict):
    "Apply a code cell's options and replace its images by links to `figures`, where their bytes are kept by file name."
    shown = options(cell.source)
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
    if shown.get('echo') == 'false':
        cell.metadata['transient'] = {'remove_source': True}
    if shown.get('output') == 'false':
        cell.outputs = []
    for out in cell.outputs:
        data = out.get('data', {})
        data.pop(
            'text/html', None
        )  # forges strip its style; the plain text beside it is as good
        if 'image/png' not in data:
            continue
        name = f'figure-{len(figures) + 1}.png'
        figures[name] = b64decode(data['image/png'])
        out.data = nbformat.from_dict(
            {
                'text/markdown': from_top(
                    f"![{shown.get('fig-alt', name)}]({FIGURES.name}/{name})"
                )
            }
        )


def generate() -> dict:  # Path -> bytes
    "What the README and its figures should be."
    visible = NBProcessor(
        INDEX, procs=[strip_ansi, hide_line, rm_export, clean_magics], process=True
    ).nb
    nb = nbformat.reads(nb2str(visible), 4)
    nb.cells = [c for c in nb.cells if options(c.source).get('include') != 'false']
    nb.metadata['language_info'] = {'name': 'python'}
    figures = {}
    for cell in nb.cells:
        if cell.cell_type == 'code':
            prepare(cell, figures)
        else:
            cell.source = from_top(cell.source)
    text = MarkdownExporter().from_notebook_node(nb)[0]
    text = re.sub(r'[ \t]+$', '', text, flags=re.M)
    text = re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'
    return {ROOT / 'README.md': text.encode()} | {
        FIGURES / name: data for name, data in figures.items()
    }


def main():
    "Write the README, or with --check compare it."
    if not INDEX.exists():
        sys.exit('nbs/index.ipynb is missing: README.md is generated from it')
    wanted = generate()
    found = {
        p: p.read_bytes()
        for p in [ROOT / 'README.md', *FIGURES.glob('*')]
        if p.exists()
    }
    if wanted == found:
        return
    changed = ', '.join(
        sorted(
            p.relative_to(ROOT).as_posix()
            for p in wanted | found
            if wanted.get(p) != found.get(p)
        )
    )
    if '--check' in sys.argv:
        sys.exit(f'{changed}: not what nbs/index.ipynb says; run python .ci/readme.py')
    for path in found.keys() - wanted.keys():
        path.unlink()
    for path, data in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    print('wrote', changed)


if __name__ == '__main__':
    main()
