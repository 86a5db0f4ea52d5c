"""The chapters of the papers as the package ships them: the notebooks 10 and 11 without outputs and checks.

    python .ci/chapters.py          write specanom/chapters/
    python .ci/chapters.py --check  write nothing; exit 1 when what is committed differs

A chapter in nbs/ is tested on committed facts; what `specanom paper` executes has other facts, on which those tests do not hold, and no
fastcore. So cells whose summary begins with "Check" stay behind, and so do imports of fastcore.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ('10_b23.ipynb', '11_o25.ipynb')
SHIPPED = ROOT / 'specanom' / 'chapters'
CHECK = re.compile(r'^#\|\s*code-summary:\s*"?Check', re.M)
FASTCORE = re.compile(r'^from fastcore\S* import (\([^)]*\)|.*)\n?', re.M)


def ship(cell: dict) -> dict:
    "A cell as it is shipped."
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'code':
        source = FASTCORE.sub('', source)
        cell = cell | dict(outputs=[], execution_count=None)
    return cell | dict(source=source.splitlines(keepends=True))


def chapter(path: Path) -> str:
    "The text of a shipped notebook."
    notebook = json.loads(path.read_text(encoding='utf-8'))
    cells = [c for c in notebook['cells'] if not CHECK.search(''.join(c['source']))]
    notebook['cells'] = [ship(cell) for cell in cells]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + '\n'


def main(words: list[str]) -> int:
    "Write the chapters that there are, or say which differ."
    there = [path for name in NOTEBOOKS if (path := ROOT / 'nbs' / name).exists()]
    wanted = {path.name: chapter(path) for path in there}
    found = {
        path.name: path.read_text(encoding='utf-8') for path in SHIPPED.glob('*.ipynb')
    }
    differ = sorted(n for n in wanted | found if wanted.get(n) != found.get(n))
    if words == ['--check']:
        if differ:
            print(f'run .ci/chapters.py: {", ".join(differ)} differ', file=sys.stderr)
        return bool(differ)
    for name in differ:
        path = SHIPPED / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            wanted[name], encoding='utf-8'
        ) if name in wanted else path.unlink()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
