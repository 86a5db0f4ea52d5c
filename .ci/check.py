"""What a change should pass before it is committed: the rules of code and form, and the notebooks that it touches.

    python .ci/check.py                  (or `make check`) notebooks that differ from where this branch left main
    python .ci/check.py --since HEAD~3   those that differ from another commit
    python .ci/check.py --list           name them, run nothing

Changes that are not committed count. Notebooks that only use what was changed are run by `make test`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RULES = ('typography', 'house', 'sync')  # tests of what is written, not of what it does


def git(*words):
    "What git says, line by line; nothing when it refuses."
    run = subprocess.run(['git', *words], cwd=ROOT, capture_output=True, text=True)
    return run.stdout.split('\n') if run.returncode == 0 else []


def left_main():
    "Where this branch left main; on main itself, its last commit."
    return next((line for line in git('merge-base', 'HEAD', 'main') if line), 'HEAD')


def touched(since):
    "Notebooks that differ from a commit, new ones too, in order."
    changed = git('diff', '--name-only', since, '--', 'nbs')
    new = git('ls-files', '--others', '--exclude-standard', '--', 'nbs')
    paths = {ROOT / name for name in changed + new if name.endswith('.ipynb')}
    return sorted(path for path in paths if path.exists())


def main():
    description = __doc__.split('\n')[0]
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument('--since', default=left_main(), help='another commit')
    parser.add_argument('--list', action='store_true', help='name them, run nothing')
    options, more = parser.parse_known_args()  # the rest is for pytest
    notebooks = touched(options.since)
    print('notebooks:', ' '.join(path.stem for path in notebooks) or 'none', flush=True)
    if options.list:
        return 0
    tests = [f'tests/test_{name}.py' for name in RULES]
    tests += [f'tests/test_notebooks.py::test_notebook[{p.stem}]' for p in notebooks]
    # What notebooks cache is kept from one check to the next; its keys hold the code.
    home = os.environ.get('SPECANOM_HOME', ROOT / '.venv' / 'notebooks')
    command = [sys.executable, '-m', 'pytest', '-q', '-n', '2', *tests, *more]
    environment = os.environ | {'SPECANOM_TESTED': str(home)}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == '__main__':
    sys.exit(main())
