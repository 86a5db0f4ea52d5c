"""What becomes of work by chunks when something breaks: the undisturbed result, or one clear message.

python tests/faults.py --trials 20 --out nbs/bench/faults.ecsv     every fault, by hand
python tests/faults.py --only worker --trials 3 --seed 1           one of them

`test_scale.py` does a few of the quick ones. Each trial breaks something at a moment, or in a place, that its seed decides.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from conftest import SMALL

from specanom.chunks import Cluster, Workers, map_chunks
from specanom.config import load_config
from specanom.mock import mock_survey
from specanom.pipeline import run
from specanom.preprocess import preprocess
from specanom.folders import file_digest
from specanom.runs import Run
from specanom.sealed import write_chunks
from specanom.spectra import Spectra
from specanom.update import update

SAME, TOLD = 'same bytes', 'one message'


def prepared(data, seconds=0.05):
    "What is done to a chunk: it takes long enough to be killed in."
    time.sleep(seconds)
    return preprocess(data, min_total_snr=0.0).flux.tobytes()


def through(store, executor=None):
    "All chunks of a store, one after the other."
    return b''.join(map_chunks(prepared, store, executor, size=16))


class Place:
    "What the trials share: raw spectra in a store, what undisturbed work makes of them, a small run."

    def __init__(self, root):
        self.root = Path(root)
        write_chunks(
            self.root / 'raw.zarr', [mock_survey(320, rng=0)], rows=16, shard=64
        )
        self.store = Spectra.read(self.root / 'raw.zarr', lazy=True)
        self.whole = through(self.store)

    def judged(self, executor):
        "Go through the store; what came of it."
        try:
            return (
                SAME if through(self.store, executor) == self.whole else 'other bytes'
            )
        except (OSError, ValueError) as error:
            return TOLD if len(str(error).splitlines()) == 1 else f'{error!r}'


def strike(dice, number):
    "Kill children of this process a little later: so many, or all."

    def later(pause):
        time.sleep(pause)
        children = multiprocessing.active_children()
        for child in dice.sample(children, min(number, len(children))):
            child.kill()

    thread = threading.Thread(target=later, args=[dice.uniform(0.05, 0.9)])
    thread.start()
    return thread


def killed(number, place, dice):
    "A worker, or all, are killed in mid-task."
    with Workers(2) as workers:
        through(place.store.window(0, 64), workers)  # both have begun
        thread = strike(dice, number)
        found = place.judged(workers)
        thread.join()
    return found


def dies_in_mid_answer(item, marker, number=3):
    "The item; the first time, one of them kills its process when it has written the length of an answer."
    if item == number and not marker.exists():
        marker.touch()
        frame = sys._getframe()
        while 'result_queue' not in frame.f_locals:
            frame = frame.f_back
        pipe = frame.f_locals['result_queue']._writer.fileno()
        os.write(pipe, struct.pack('!i', 1000))
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def corrupted(place, dice):
    "A byte of the store changes before the chunk is read."
    files = sorted(p for p in (place.root / 'raw.zarr').rglob('c/*/0') if p.is_file())
    path = dice.choice(files)
    before = path.read_bytes()
    at = dice.randrange(len(before))
    path.write_bytes(
        before[:at] + bytes([before[at] ^ 1 << dice.randrange(8)]) + before[at + 1 :]
    )
    try:
        return place.judged(None)
    finally:
        path.write_bytes(before)


HOST = """
import sys, time
from distributed import LocalCluster
cluster = LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, processes=False,
    protocol='tcp', dashboard_address=None)
print(cluster.scheduler_address, flush=True)
time.sleep(600)
"""


def begun(*words):
    "A Python process that knows what this one does."
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    )


@contextlib.contextmanager
def hosted(workers=1):
    "A scheduler with a worker, in a process of its own; yields process and address."
    host = begun('-c', HOST, str(workers))
    try:
        yield host, host.stdout.readline().strip()
    finally:
        host.kill()
        host.wait()


def lost_scheduler(place, dice):
    "The scheduler, and its worker with it, is killed; the work is repeated on another one."
    with hosted() as (host, address), Cluster(address, patience=3) as cluster:
        cluster.submit(abs, 1).result()
        timer = threading.Timer(dice.uniform(0.05, 0.9), host.kill)
        timer.start()
        first = place.judged(cluster)
        timer.join()
    if first not in (SAME, TOLD):
        return first
    with hosted() as (_, address), Cluster(address) as cluster:
        again = place.judged(cluster)
    return first if again == SAME else f'{first}, then {again}'


def worker_of(address):
    "A worker of a scheduler, in a process of its own."
    return begun('-m', 'dask', 'worker', address, *WORKER)


WORKER = '--nthreads 1 --no-nanny --no-dashboard --death-timeout 60'.split()


def lost_workers(place, dice):
    "The only worker of a cluster is killed; some time later there is another one."
    with hosted(0) as (_, address), contextlib.ExitStack() as alive:
        first = worker_of(address)
        with Cluster(address) as cluster:
            cluster.submit(abs, 1).result()

            def strike_and_replace():
                first.kill()
                first.wait()
                time.sleep(dice.uniform(0, 3))
                second = worker_of(address)
                alive.callback(second.wait)
                alive.callback(second.kill)

            timer = threading.Timer(dice.uniform(0.05, 0.9), strike_and_replace)
            timer.start()
            found = place.judged(cluster)
            timer.join()
    return found


class Half:
    "A run that has trained; what it makes undisturbed of its spectra."

    def __init__(self, root):
        self.root = Path(root)
        self.config = load_config('tiny', **(SMALL | dict(ensemble=1)))
        self.goes_on(self.root / 'half', 'density')
        self.whole = self.goes_on(self.copied(), 'significance')

    def copied(self):
        "The run as it was between two stages, in the place of an earlier copy."
        shutil.rmtree(self.root / 'copy', ignore_errors=True)
        return shutil.copytree(self.root / 'half', self.root / 'copy')

    def goes_on(self, folder, until, executor=None):
        "Digests of what a run has made, up to a stage; those of its manifest change."
        done = run(self.config, folder, until=until, executor=executor)
        found = {}
        for name, stage in done.manifest['stages'].items():
            found |= {file: file_digest(done.folder / file) for file in stage['files']}
            if name == until:
                return found


def changed_between(half, dice):
    "A byte of a chunk changes after the training; half the times the file looks as old as before."
    folder = half.copied()
    store = folder / 'spectra.zarr'
    path = dice.choice(sorted(p for p in store.rglob('c/*/0') if p.is_file()))
    was, content = path.stat(), bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    if dice.random() < 0.5:
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    return ended(half.whole, half.goes_on, folder, 'significance')


def ended(whole, work, *args):
    "What came of some work."
    try:
        return SAME if work(*args) == whole else 'other bytes'
    except (OSError, ValueError) as error:
        return TOLD if len(str(error).splitlines()) == 1 else f'{error!r}'


def lost_scheduler_of_a_run(half, dice):
    "The scheduler is killed while a run reads its spectra; the run is repeated with another one."
    folder = half.root / 'copy'
    whole = half.goes_on(half.copied(), 'spectra')
    shutil.rmtree(folder)
    with hosted() as (host, address), Cluster(address, patience=3) as cluster:
        cluster.submit(abs, 1).result()
        timer = threading.Timer(dice.uniform(0.05, 3), host.kill)
        timer.start()
        said = ended(whole, half.goes_on, folder, 'spectra', cluster)
        timer.join()
    with hosted() as (_, address), Cluster(address) as cluster:
        again = half.goes_on(folder, 'spectra', cluster)
    return said if again == whole else f'{said}, then other bytes'


class Nightly:
    "A small run and a night of spectra; what an undisturbed update makes of it."

    def __init__(self, root):
        self.root = Path(root)
        config = load_config('tiny', **(SMALL | dict(ensemble=1, n=2560)))
        self.run = run(config, self.root / 'run')
        mock_survey(3200, rng=0)[2560:].write(self.root / 'night.zarr')
        self.folder = self.run.folder / 'updates'
        self.whole = self.updated()

    def updated(self, run=None, executor=None):
        run = run or self.run
        update(run, self.root / 'night.zarr', executor=executor)
        return {p.name: p.read_bytes() for p in (run.folder / 'updates').iterdir()}

    def again(self, first):
        "The same command once more must end with the undisturbed bytes."
        now = self.updated()
        return first if now == self.whole else f'{first}, then other bytes'


def _child(nightly):
    nightly.updated()


def killed_update(nightly, dice):
    "An update is killed, and called again."
    shutil.rmtree(nightly.folder, ignore_errors=True)
    child = multiprocessing.get_context('fork').Process(target=_child, args=[nightly])
    child.start()
    time.sleep(dice.uniform(0.05, 2.5))
    child.kill()
    child.join()
    return nightly.again(SAME)


def full_disk(nightly, dice):
    "No file can become larger than so many bytes; with more room the command is called again."
    shutil.rmtree(nightly.folder, ignore_errors=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(map(len, nightly.whole.values()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (dice.randrange(100, 2 * largest), hard))
    try:
        nightly.updated()
        said = SAME
    except OSError as error:
        said = TOLD if len(str(error).splitlines()) == 1 else f'{error!r}'
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return nightly.again(said)


@contextlib.contextmanager
def small_disk(place, size='128m'):
    "A disk of its own, in memory; only root may mount one."
    place.mkdir(exist_ok=True)
    words = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(place)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(['umount', '--lazy', str(place)], check=True)


def full_tmpfs(nightly, dice):
    "The disk of a run, and of all temporary files of its workers, is full but for some bytes; then there is room."
    shutil.rmtree(nightly.folder, ignore_errors=True)
    largest = max(map(len, nightly.whole.values()))
    with small_disk(nightly.root / 'disk') as disk, Workers(2) as workers:
        theirs = Run.load(shutil.copytree(nightly.run.folder, disk / 'run'))
        free = shutil.disk_usage(disk).free - dice.randrange(0, 2 * largest)
        with open(disk / 'ballast', 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, free)
        before, tempfile.tempdir = tempfile.tempdir, str(disk)
        try:
            said = ended(nightly.whole, nightly.updated, theirs, workers)
        finally:
            tempfile.tempdir = before
        (disk / 'ballast').unlink()
        again = nightly.updated(theirs, workers)
    return said if again == nightly.whole else f'{said}, then other bytes'


FAULTS = {  # Name -> on what it is tried, and the trial
    'a worker killed in mid-task': (Place, partial(killed, 1)),
    'all workers killed': (Place, partial(killed, 99)),
    'a byte of a chunk changed': (Place, corrupted),
    'the scheduler killed, the work repeated': (Place, lost_scheduler),
    'the only worker of a cluster killed, another comes': (Place, lost_workers),
    'a chunk changed between two stages': (Half, changed_between),
    'the scheduler of a run killed, the run repeated': (Half, lost_scheduler_of_a_run),
    'an update killed, and called again': (Nightly, killed_update),
    'a file that may not grow, and called again': (Nightly, full_disk),
    'a full disk under run and workers, and called again': (Nightly, full_tmpfs),
}


def tried(name, place, trials, seed=0):
    "How often a fault ended in what."
    found = {}
    for trial in range(trials):
        try:
            said = FAULTS[name][1](place, random.Random(f'{name} {seed} {trial}'))
        except Exception as error:  # counts against us, and the next trial begins
            said = repr(error)
        found[said] = found.get(said, 0) + 1
    return found


def main():
    from astropy.table import Table

    from specanom.files import write_table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--trials', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--only', default='', help='faults with one of these words, with commas'
    )
    parser.add_argument('--out', type=Path, help='table, .ecsv')
    args = parser.parse_args()
    torch.set_num_threads(1)
    places, rows = {}, _known(args.out)
    with tempfile.TemporaryDirectory() as root:
        for name, (kind, _) in FAULTS.items():
            if not any(word in name for word in args.only.split(',')):
                continue
            if kind not in places:
                folder = Path(root) / kind.__name__
                folder.mkdir()
                places[kind] = kind(folder)
            found = tried(name, places[kind], args.trials, args.seed)
            print(name, found, flush=True)
            same, told = found.pop(SAME, 0), found.pop(TOLD, 0)
            rows[name] = name, args.trials, same, told, args.trials - same - told
            if args.out:
                whole = [rows[name] for name in FAULTS if name in rows]
                columns = 'fault', 'trials', 'same', 'told', 'other'
                write_table(Table(rows=whole, names=columns), args.out)
    return int(any(row[-1] for row in rows.values()))


def _known(path):
    "Fault -> row of the table that is there already: other faults stay."
    from specanom.files import read_table

    if path is None or not path.exists():
        return {}
    return {row['fault']: tuple(row) for row in read_table(path)}


if __name__ == '__main__':
    raise SystemExit(main())
