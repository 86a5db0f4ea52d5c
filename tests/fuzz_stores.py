"""Damage model files, stores and tables in every way that disks, copies and editors know, and read them again.

    python tests/fuzz_stores.py [--n 2000] [--seed 0]

Each damaged one must be refused with a message that names its file, or give the same as the undamaged one. Tables outside of a store
carry no hash, since people edit them: there a changed digit is a changed digit (the record of a run knows its tables by their hash),
and only a reader that fails without naming the file counts as lost.
"""

import argparse
import logging
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from specanom import objects
from specanom.files import read_table, write_table
from specanom.grid import SDSS_WAVE
from specanom.modelfile import read_arrays, write_arrays
from specanom.objects import make_catalog
from specanom.sealed import write_chunks
from specanom.spectra import Spectra, check_store

MOST_SECONDS = 10  # of processor, for one reading


def spectra(n: int = 11, d: int = 60) -> Spectra:
    rng = np.random.default_rng(0)
    catalog = make_catalog(
        {
            'specobjid': np.arange(1, n + 1) + 2**60,
            'z': rng.uniform(0.1, 0.3, n),
            'class': 'GALAXY',
            'subclass': '',
            'file': ['a/夜.fits'] * n,
            'mine': rng.normal(size=n),
        }
    )
    mask = rng.integers(0, 2, (n, d)).astype('u4')
    flux = rng.normal(9, 1, (n, d)).astype('f4')
    rejected = objects.reject_table(['b.fits'], 'read', ['truncated'])
    return Spectra(
        flux,
        rng.uniform(1, 2, (n, d)).astype('f4'),
        SDSS_WAVE[:d],
        catalog,
        mask,
        rejected,
    )


def plain(data: Spectra) -> list:
    return (
        [np.asarray(a) for a in (data.flux, data.ivar, data.wave, data.mask)]
        + tables(data.catalog)
        + tables(data.rejected)
        + [data.unit]
    )


def tables(table) -> list:
    return [
        list(table.colnames),
        [str(table[c].unit) for c in table.colnames],
        *(np.asarray(table[c]) for c in table.colnames),
    ]


def equal(a: list, b: list) -> bool:
    def one(x, y):
        if not isinstance(x, np.ndarray):
            return x == y
        return (
            x.dtype == y.dtype
            and x.shape == y.shape
            and np.array_equal(x, y, equal_nan=x.dtype.kind == 'f')
        )

    return len(a) == len(b) and all(one(x, y) for x, y in zip(a, b))


def read_store(path: Path) -> list:
    check_store(path)
    return plain(Spectra.read(path))


def read_lazily(path: Path) -> list:
    data = Spectra.read(path, lazy=True)
    return plain(
        Spectra.concatenate(
            [data[i : i + 3] for i in range(0, len(data), 3)] + [data[:0]]
        )
    )


def read_model(path: Path) -> list:
    header, arrays = read_arrays(path, 'Toy')
    return [header, *(arrays[k] for k in sorted(arrays)), sorted(arrays)]


def networks() -> dict:
    "Name -> (write, read) of every network whose files carry a hash."
    from specanom.autoencoder import Autoencoder
    from specanom.vae import VAE

    kinds = dict(
        vae=(VAE, VAE(40, hidden=(6,), n_latent=2)),
        autoencoder=(Autoencoder, Autoencoder(40, hidden=(6,), n_latent=2)),
    )

    def read(kind):
        return lambda path: [v.numpy() for v in kind.load(path).state_dict().values()]

    made = {
        f'{name}.safetensors': (network.save, read(kind))
        for name, (kind, network) in kinds.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, _) in list(made.items()):
            write(Path(folder) / name)
            if b'sha256' not in (Path(folder) / name).read_bytes()[:20_000]:
                made.pop(name)
    return made


def undamaged(folder: Path) -> dict:
    "Name -> (path, read, what it gives, whether a change must be noticed)."
    data, rng = spectra(), np.random.default_rng(1)
    write_chunks(folder / 'store.zarr', data.chunks(3), rows=2, shard=4)
    data.write(folder / 'set.fits')
    write_arrays(
        folder / 'toy.safetensors',
        dict(a=rng.normal(size=(7, 9)), b=np.arange(5), c=np.float32(3)),
        'Toy',
        names=['x', 'y'],
        scale=1.5,
        history=[dict(epoch=1, loss=0.25)],
    )
    for ending in ('ecsv', 'fits', 'csv'):
        write_table(data.catalog, folder / f'table.{ending}')
    found = {
        'store.zarr': (read_store, True),
        'store.zarr lazily': (read_lazily, True),
        'set.fits': (lambda p: plain(Spectra.read(p)), True),
        'toy.safetensors': (read_model, True),
    }
    for name, (write, read) in networks().items():
        write(folder / name)
        found[name] = (read, True)
    found |= {
        f'table.{e}': (lambda p: tables(read_table(p)), False)
        for e in ('ecsv', 'fits', 'csv')
    }
    return {
        name: (folder / name.split()[0], read, read(folder / name.split()[0]), strict)
        for name, (read, strict) in found.items()
    }


# ---- damage


def flip(data: bytes, rng) -> bytes:
    out = bytearray(data)
    for at in rng.integers(0, len(out), rng.integers(1, 4)):
        out[at] ^= 1 << rng.integers(8)
    return bytes(out)


def early_flip(data: bytes, rng) -> bytes:
    return flip(data[:400], rng) + data[400:]  # in the header


def truncate(data: bytes, rng) -> bytes:
    return data[: rng.integers(0, len(data))]


def lengthen(data: bytes, rng) -> bytes:
    return data + rng.bytes(rng.integers(1, 300))


def blank(data: bytes, rng) -> bytes:
    a, b = np.sort(rng.integers(0, len(data) + 1, 2))
    return data[:a] + bytes(b - a) + data[b:]


def cut_out(data: bytes, rng) -> bytes:
    a = rng.integers(0, len(data))
    return data[:a] + data[a + rng.integers(1, 20) :]


def exchange(data: bytes, rng) -> bytes:
    a, b, c = np.sort(rng.integers(0, len(data) + 1, 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def edit_number(data: bytes, rng) -> bytes:
    "Another number in place of one, as an editor of headers would write it."
    found = list(re.finditer(rb'\d+', data[:8000]))
    if not found:
        return flip(data, rng)
    spot = found[rng.integers(len(found))]
    new = str(
        rng.choice(['0', '1', '-1', '7', '99999', '1e9', '10000000000000'])
    ).encode()
    return data[: spot.start()] + new + data[spot.end() :]


def edit_word(data: bytes, rng) -> bytes:
    found = list(re.finditer(rb'"[a-zA-Z0-9_.]+"', data[:8000]))
    if not found:
        return flip(data, rng)
    spot = found[rng.integers(len(found))]
    return (
        data[: spot.start()]
        + rng.choice([b'"F64"', b'"x"', b'null', b'"float64"', b'[]', b'{}'])
        + data[spot.end() :]
    )


CHANGES = [
    flip,
    early_flip,
    truncate,
    lengthen,
    blank,
    cut_out,
    exchange,
    edit_number,
    edit_word,
]


def damage(path: Path, rng) -> str:
    "Do something to a file, or to one file of a store; says what."
    files = (
        [path] if path.is_file() else sorted(p for p in path.rglob('*') if p.is_file())
    )
    victim = files[rng.integers(len(files))]
    name = victim.relative_to(path.parent).as_posix()
    kind = rng.integers(len(CHANGES) + 4)
    if kind < len(CHANGES):
        change = CHANGES[kind]
        victim.write_bytes(change(victim.read_bytes() or b' ', rng))
        return f'{change.__name__} {name}'
    if kind == len(CHANGES):
        victim.unlink()
    elif kind == len(CHANGES) + 1:
        victim.write_bytes(b'')
    elif kind == len(CHANGES) + 2:
        victim.unlink()
        victim.mkdir()
    else:  # another file in its place
        other = files[rng.integers(len(files))]
        here, there = victim.read_bytes(), other.read_bytes()
        victim.write_bytes(there)
        other.write_bytes(here)
        name += f' and {other.name}'
    return f"{('deleted', 'emptied', 'made a folder', 'exchanged')[kind - len(CHANGES)]} {name}"


def outcome(path: Path, read, expected: list, strict: bool) -> str:
    "'refused', 'same', 'changed' or 'LOST: why'."
    start = time.process_time()
    try:
        got = read(path)
    except (ValueError, OSError) as error:
        if path.name not in str(error):
            return f'LOST: does not name the file: {type(error).__name__}: {error}'
        result = 'refused'
    except BaseException as error:
        return f'LOST: {"".join(traceback.format_exception_only(error)).strip()}'
    else:
        result = (
            'same'
            if equal(got, expected)
            else 'LOST: other content'
            if strict
            else 'changed'
        )
    seconds = time.process_time() - start
    return result if seconds < MOST_SECONDS else f'LOST: took {seconds:.0f} s'


def fuzz(n: int = 2000, seed: int = 0, seconds: float = np.inf) -> tuple[dict, list]:
    "Try n times, or for so many seconds. Counts by name of the sample, and what was lost."
    counts, lost, end = {}, [], time.perf_counter() + seconds
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        samples = undamaged(Path(folder))
        for i in range(n):
            if time.perf_counter() > end:
                break
            name = list(samples)[i % len(samples)]
            path, *rest = samples[name]
            rng = np.random.default_rng([seed, i])
            copy = Path(folder) / 'copy' / path.name
            copy.parent.mkdir()
            (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
            what = damage(copy, rng)
            result = outcome(copy, *rest)
            counts.setdefault(name, Counter())[result.partition(':')[0]] += 1
            if result.startswith('LOST'):
                lost.append(f'{name}, try {i} of seed {seed}: {what}: {result}')
            shutil.rmtree(copy.parent)
    return counts, lost


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--n', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    logging.getLogger('specanom').setLevel(logging.CRITICAL)
    counts, lost = fuzz(args.n, args.seed)
    for name, count in counts.items():
        print(
            f'{name:22} tried {count.total():5}  '
            + '  '.join(f'{k} {v}' for k, v in sorted(count.items()))
        )
    print(
        f'{"all":22} tried {sum(c.total() for c in counts.values()):5}  lost {len(lost)}',
        *lost,
        sep='\n',
    )
    return len(lost) > 0


def test_damaged_files():
    "A bounded part of it: nothing is lost."
    counts, lost = fuzz(400, seed=1, seconds=12)
    assert not lost, '\n'.join(lost)
    assert sum(c.total() for c in counts.values()) > 30 and all(
        c['refused'] for c in counts.values() if c.total() > 10
    )


if __name__ == '__main__':
    sys.exit(main())
