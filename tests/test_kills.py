"""A run that is killed at any moment, again and again, ends with the bytes of one that never was.

SPECANOM_KILLS=20 python -m pytest tests/test_kills.py     the long form
"""

import os
import random
import signal
import subprocess
import sys
import time

from conftest import SMALL

KILLS = int(os.environ.get('SPECANOM_KILLS', 2))


def command(folder):
    "The words of a small run into a folder."
    settings = [
        word for name, value in SMALL.items() for word in ('--set', f'{name}={value}')
    ]
    return [
        sys.executable,
        '-m',
        'specanom',
        'run',
        '--profile',
        'tiny',
        *settings,
        '--out',
        folder,
    ]


def finished(folder):
    "Run to the end; returns the seconds that it took."
    start = time.monotonic()
    done = subprocess.run(command(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - start


def content(folder):
    "Name -> bytes of all files of a run but those that tell the time and machine, and the pictures."
    files = (p for p in folder.rglob('*') if p.is_file())
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in files
        if p.name != 'manifest.json' and p.suffix != '.png'
    }


def test_kills(tmp_path):
    "SIGKILL at random moments; each new start goes on, and nothing is left beside the files of a run."
    seconds = finished(tmp_path / 'whole')
    dice = random.Random(0)
    for _ in range(KILLS):
        run = subprocess.Popen(
            command(tmp_path / 'killed'),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(dice.uniform(0.15, 0.6) * seconds)
        run.send_signal(signal.SIGKILL)
        run.wait()
    finished(tmp_path / 'killed')
    whole, killed = content(tmp_path / 'whole'), content(tmp_path / 'killed')
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []


def test_two_at_once(tmp_path):
    "The second run in a folder is refused, and says who has it."
    first = subprocess.Popen(
        command(tmp_path / 'run'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / 'run/run.lock').exists() and time.monotonic() < until:
            time.sleep(0.1)
        second = subprocess.run(
            command(tmp_path / 'run'), capture_output=True, text=True
        )
        assert (
            second.returncode == 2 and f'in use by process {first.pid}' in second.stderr
        )
    finally:
        first.kill()
        first.wait()


def test_folders_of_others(tmp_path):
    "A run touches nothing that it did not make."
    mine = tmp_path / 'mine'
    (mine / 'figures').mkdir(parents=True)
    (mine / 'figures/plot.png').write_bytes(b'mine')
    refused = subprocess.run(command(mine), capture_output=True, text=True)
    assert (
        refused.returncode == 2 and 'is not empty and no run made it' in refused.stderr
    )
    assert [p.relative_to(mine).as_posix() for p in sorted(mine.rglob('*'))] == [
        'figures',
        'figures/plot.png',
    ]
