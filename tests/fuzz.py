"""Damage at random, with a seed: files, and servers. python tests/fuzz.py [--files N] [--servers N] [--seed N]

What must hold for a file: it is read, or named with a reason; the good file beside it is read whatever happens; what is read of a damaged
file is what astropy reads of it; no exception, no endless loop, no memory without bound. For a server: the answer is right, or an error says
what is wrong with it, in a time that is known. Prints what was tried, what survived and what was lost; the status is 1 when anything was lost.
"""

import argparse
import contextlib
import gzip
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from made import UNIT, write_columns, write_old, write_plate, write_sdssv, write_spec

from specanom.grid import SDSS_K
from specanom.mock import mock_survey
from specanom.surveys import iter_spectra, read_spectra
from specanom.write import write_desi, write_lamost

SECONDS = 20  # for one input
NUMBERS = [
    '-1',
    '0',
    '1',
    '2',
    '3',
    '7',
    '80',
    '2880',
    '65536',
    '2147483647',
    '2147483648',
    '-2147483648',
    '9223372036854775807',
    '9223372036854775808',
    '1E400',
    '-1E-400',
    '1.5',
    'NaN',
    'T',
    'F',
    "'x'",
    "''",
    "'26'",
    "'unclosed",
    '',
    '1_000',
    '0x10',
    '1D3',
    '12 34',
    '99999999999999999999999999',
]
FORMS = [
    'J',
    'K',
    'I',
    'B',
    'E',
    'D',
    'L',
    '0J',
    '2J',
    '2E',
    '5E',
    'A',
    '6A',
    '22A',
    '0A',
    '8X',
    '13X',
    'C',
    'M',
    'PJ(3)',
    '1QE(5)',
    '999999999J',
    '-1J',
    'Z',
    '',
    '1',
    'J2',
    '3A2',
]
UNITS = [
    'erg/cm^2/s/Ang',
    '1E-17 erg/cm^2/s/Ang',
    'Jy',
    'counts',
    'W/m^2/um',
    '1e-16 erg/s/cm^2/A',
    '',
    '1E-17',
    'Ang',
]


class Late(Exception):
    pass


@contextlib.contextmanager
def in_time(seconds=SECONDS):
    "Raise `Late` in the main thread when a block does not end."

    def late(*_):
        raise Late(f'{seconds} seconds are over')

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- damage to a file


def cards_of(data):
    "First bytes of all header cards."
    out, at = [], 0
    while (
        at := min(
            (
                p
                for p in (data.find(b'SIMPLE  =', at), data.find(b'XTENSION=', at))
                if p >= 0
            ),
            default=-1,
        )
    ) >= 0:
        end = data.find(b'END' + b' ' * 77, at)
        if end < 0:
            break
        out += range(at, end, 80)
        at = end
    return out


def put(data, at, text):
    data[at : at + 80] = text.encode('latin1')[:80].ljust(80)


def pick(rng, values):
    return values[rng.integers(len(values))]


def wanted(data, names):
    return [
        at
        for at in cards_of(data)
        if data[at : at + 8].decode('latin1').rstrip('0123456789 ') in names
    ]


def flip(data, rng):
    "One to eight bits, most often in a header."
    cards = cards_of(data)
    for _ in range(rng.integers(1, 9)):
        at = (
            pick(rng, cards) + rng.integers(80)
            if rng.random() < 0.7
            else rng.integers(len(data))
        )
        data[at] ^= 1 << rng.integers(8)


def value(data, rng):
    "Another value in any card."
    at = pick(rng, cards_of(data))
    put(data, at, data[at : at + 8].decode('latin1') + f'= {pick(rng, NUMBERS):>20}')


def size(data, rng):
    "Another value in a card that says how large something is."
    at = pick(rng, wanted(data, ('NAXIS', 'PCOUNT', 'GCOUNT', 'TFIELDS', 'BITPIX')))
    put(data, at, data[at : at + 8].decode('latin1') + f'= {pick(rng, NUMBERS):>20}')


def identity(data, rng):
    "Another value in a card that says what, where and which."
    found = wanted(
        data,
        (
            'PLATEID',
            'MJD',
            'FIBERID',
            'RUN',
            'COEFF',
            'Z',
            'SPEC_CLN',
            'Z_WARNIN',
            'VACUUM',
            'BSCALE',
            'BZERO',
        ),
    )
    at = pick(rng, found) if found else cards_of(data)[3]
    put(data, at, data[at : at + 8].decode('latin1') + f'= {pick(rng, NUMBERS):>20}')


def kind(data, rng):
    "Another type of a column."
    found = wanted(data, ('TFORM',))
    if not found:
        return size(data, rng)
    at = pick(rng, found)
    put(data, at, data[at : at + 8].decode('latin1') + f"= '{pick(rng, FORMS):8}'")


def swap(data, rng):
    "Two cards exchange their values: names, types, anything."
    cards = wanted(data, ('TTYPE',)) if rng.random() < 0.5 else cards_of(data)
    a, b = pick(rng, cards or cards_of(data)), pick(rng, cards or cards_of(data))
    data[a + 8 : a + 80], data[b + 8 : b + 80] = (
        data[b + 8 : b + 80],
        data[a + 8 : a + 80],
    )


def scaled(data, rng):
    "A column or image gets a scale, a zero point, a null, a unit, in place of a card that says something else."
    types = wanted(data, ('TTYPE',))
    if types and rng.random() < 0.8:
        at = pick(rng, types)
        number = data[at + 5 : at + 8].decode('latin1').strip()
        card, where = (
            pick(rng, ['TSCAL', 'TZERO', 'TNULL', 'TUNIT', 'TDIM']) + number,
            pick(rng, [c for c in types if c != at]),
        )
    else:
        card, where = (
            pick(rng, ['BSCALE', 'BZERO', 'BLANK', 'BUNIT', 'VACUUM']),
            pick(rng, cards_of(data)[5:]),
        )
    said = f"'{pick(rng, UNITS)}'" if 'UNIT' in card else pick(rng, NUMBERS)
    put(data, where, f'{card:8}= {said:>20}')


def card(data, rng):
    "A card is lost, comes twice, or ends the header."
    cards, what = cards_of(data), rng.integers(3)
    a, b = pick(rng, cards), pick(rng, cards)
    if what == 0:
        put(data, a, '')
    elif what == 1:
        data[a : a + 80] = data[b : b + 80]
    else:
        put(data, a, 'END')


def cut(data, rng):
    del data[rng.integers(len(data)) :]


def longer(data, rng):
    data += (
        rng.bytes(rng.integers(1, 6000))
        if rng.random() < 0.5
        else bytes(int(rng.integers(1, 6000)))
    )


def shift(data, rng):
    "Bytes are lost, or come twice, in the middle."
    at, n = rng.integers(len(data)), int(pick(rng, [1, 4, 80, 2880]))
    if rng.random() < 0.5:
        del data[at : at + n]
    else:
        data[at:at] = data[at : at + n]


def numbers(data, rng):
    "Numbers that are none, or impossible, among the data."
    for _ in range(rng.integers(1, 5)):
        at = 2880 + int(rng.integers((len(data) - 2890) // 4)) * 4
        data[at : at + 4] = pick(
            rng,
            [
                b'\x7f\xc0\0\0',
                b'\x7f\x80\0\0',
                b'\xff\x80\0\0',
                b'\x80\0\0\0',
                b'\xff\xff\xff\xff',
                b'\x7f\x7f\xff\xff',
                b'\0\0\0\0',
            ],
        )


DAMAGES = [
    flip,
    value,
    size,
    identity,
    kind,
    swap,
    scaled,
    card,
    cut,
    longer,
    shift,
    numbers,
]


def packed(data, rng):
    "Gzipped, and then damaged once more, sometimes."
    data[:] = gzip.compress(bytes(data), 1)
    if rng.random() < 0.5:
        at = rng.integers(len(data))
        data[at] ^= 1 << rng.integers(8)


# ---------------------------------------------------------------- what astropy reads


def text_of(value):
    return value.decode('ascii') if isinstance(value, bytes) else str(value).strip()


def factor_of(unit):
    "By the units of the list above."
    return {'erg/cm^2/s/Ang': 1e17, 'W/m^2/um': 1e16, '1e-16 erg/s/cm^2/A': 10}.get(
        unit, 1
    )


def by_astropy(path):
    "Lattice positions, flux, ivar, bits, and the columns that decide, of one spectrum."
    with fits.open(path, memmap=False) as hdus:
        if hdus[0].header.get('VACUUM', True) is False:
            raise ValueError('astropy does not bring air to vacuum')
        if hdus[0].header.get('NAXIS') == 2 and 'SPEC_CLN' in hdus[0].header:
            h, image = hdus[0].header, hdus[0].data
            loglam, flux, error, mask = (
                h['COEFF0'] + h['COEFF1'] * np.arange(image.shape[1]),
                image[0],
                image[2].astype(float),
                image[3],
            )
            with np.errstate(divide='ignore'):
                ivar = np.where(error > 0, 1 / error**2, 0)
            row = dict(
                plate=h['PLATEID'],
                mjd=h['MJD'],
                fiberid=h['FIBERID'],
                z=h['Z'],
                zwarning=h.get('Z_WARNIN', 0),
            )
            unit = h.get('BUNIT', UNIT)
        else:
            tables = [x for x in hdus[:3] if isinstance(x, fits.BinTableHDU)]
            names = lambda x: {n.lower(): n for n in x.columns.names}
            coadd, found = (
                next(x for x in tables if 'loglam' in names(x)),
                next(
                    x for x in tables if {'z', 'class'} & set(names(x)) and len(x.data)
                ),
            )
            of = lambda x, name: x.data[names(x)[name]]
            loglam, flux, ivar, mask = (
                np.asarray(of(coadd, c)) for c in ('loglam', 'flux', 'ivar', 'and_mask')
            )
            unit = coadd.columns[names(coadd)['flux']].unit or hdus[0].header.get(
                'BUNIT', UNIT
            )
            row = {
                c: of(found, c)[0]
                for c in ('plate', 'mjd', 'fiberid', 'z', 'zwarning', 'class')
            }
            if 'subclass' in names(found) and isinstance(of(found, 'subclass')[0], str):
                row['subclass'] = of(found, 'subclass')[0]
        k = np.round(1e4 * loglam.astype(float)).astype(int) - SDSS_K[0]
        factor = factor_of(unit)
        with np.errstate(all='ignore'):
            ivar = (ivar.astype(float) / factor**2).astype('f4')
            flux = np.where(ivar > 0, flux, 0).astype(float) * factor
            return k, flux, ivar, mask.astype('i8').astype('u4'), row


def disagreement(spectra, path):
    "What of an accepted spectrum is not as astropy reads it; '' when all agrees, None when astropy does not read it."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            k, flux, ivar, mask, row = by_astropy(path)
    except Exception:
        return None
    same = lambda a, b: np.allclose(
        a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max(initial=1e-30), equal_nan=True
    )
    if not same(spectra.ivar[0][k], ivar):
        return 'ivar'
    if not same(spectra.flux[0][k], flux):
        return 'flux'
    if (spectra.mask[0][k] != mask).any():
        return 'mask'
    for name, value in row.items():
        ours = spectra.catalog[name][0]
        if isinstance(value, str) != isinstance(ours, str):
            return name
        if (
            str(ours) != text_of(value)[:24]
            if isinstance(ours, str)
            else not (
                ours == value
                or np.isclose(ours, float(value), rtol=1e-6, equal_nan=True)
            )
        ):
            return name
    return ''


# ---------------------------------------------------------------- files


def fuzz_files(n, seed, folder):
    "Counts of what was tried on files, and descriptions of what was lost."
    rng, count, lost = np.random.default_rng(seed), Counter(), []
    good = write_spec(folder / 'good.fits', fiber=1, run2d='v5_13_2')
    originals = {
        'spec': write_spec(folder / 'a', specobjid=('22A', ['7996392488641208320'])),
        'boss': write_spec(
            folder / 'b',
            specobjid=('K', [7996392488641208320]),
            VDISP=('E', [200.0]),
            THETA=('10E', [[1.0] * 10]),
        ),
        'old': write_old(folder / 'c'),
    }
    whole = {name: path.read_bytes() for name, path in originals.items()}
    plate = write_plate(folder / 'plate')
    pair = {
        p: p.read_bytes() for p in (plate, plate.with_name('spZbest-7102-56666.fits'))
    }
    for i in range(n):
        name, damage, twice = (
            pick(rng, ['spec', 'boss', 'old', 'plate']),
            pick(rng, DAMAGES),
            rng.random() < 0.2,
        )
        path = pick(rng, list(pair)) if name == 'plate' else folder / 'damaged.fits'
        data = bytearray(pair[path] if name == 'plate' else whole[name])
        damage(data, rng)
        if twice and len(data) > 6000 and len(cards_of(data)) > 20:
            pick(rng, DAMAGES)(data, rng)
        if name != 'plate' and rng.random() < 0.1:
            packed(data, rng)
        path.write_bytes(data)
        what = f'{i} (seed {seed}): {damage.__name__} of {name}'
        try:
            with in_time():
                spectra = read_spectra(
                    [plate if name == 'plate' else path, good], jobs=1
                )
        except (Exception, Late) as error:
            lost.append(f'{what}: {type(error).__name__}: {error}')
            continue
        finally:
            if name == 'plate':
                path.write_bytes(pair[path])
        if str(good.name) not in [Path(f).name for f in spectra.catalog['file']]:
            lost.append(f'{what}: the good file was lost')
            continue
        odd, reasons = (
            spectra[spectra.catalog['file'] != good.name],
            spectra.rejected['reason'].tolist(),
        )
        count['tried'] += 1
        count['tried: ' + damage.__name__] += 1
        if len(odd) + len(reasons) not in (1, 4):
            lost.append(f'{what}: {len(odd)} read and {len(reasons)} rejected')
            continue
        if not (np.isfinite(odd.flux).all() and (odd.ivar >= 0).all() and all(reasons)):
            lost.append(f'{what}: impossible numbers')
            continue
        count['reasons that nobody thought of'] += sum(
            r.startswith('damaged: ') and r.split(':')[1].strip().endswith('Error')
            for r in reasons
        )
        if len(odd) == 0:
            count['rejected with a reason'] += 1
            continue
        if name == 'plate':
            count['plates read'] += 1
            continue
        differs = disagreement(odd, path)
        if differs:
            lost.append(f'{what}: {differs} is not as astropy reads it')
        else:
            count[
                'read, but not by astropy' if differs is None else 'read as by astropy'
            ] += 1
    count['tried'] += len(lost) - sum(
        'good file' in x or 'astropy' in x or 'impossible' in x or 'rejected' in x
        for x in lost
    )
    return count, lost


# ---------------------------------------------------------------- files of other surveys


def of_desi(folder):
    "Coadds and their redshifts: what may be damaged, and how many rows there are."
    return dict.fromkeys(write_desi(mock_survey(5, rng=5), folder), 5)


def of_lamost(folder):
    "A spectrum in each layout, read alone."
    some = mock_survey(2, rng=6)
    table = write_lamost(some[:1], folder / 'table')
    return {
        p: 1
        for p in (*table, *write_lamost(some[1:], folder / 'image', layout='image'))
    }


def of_sdssv(folder):
    "A spectrum of SDSS-V."
    return {write_sdssv(folder / 'spec-015000-59146-4375786564.fits'): 1}


def of_arrays(folder):
    "Four spectra as .npz, as ECSV and as Parquet."
    return dict.fromkeys(write_columns(mock_survey(4, rng=7), folder), 4)


SURVEYS = {'desi': of_desi, 'lamost': of_lamost, 'sdssv': of_sdssv, 'arrays': of_arrays}


def damage_bytes(data, rng):
    "Bits, bytes lost, bytes twice, an early end: of files that are not FITS."
    what = rng.integers(4)
    at = int(rng.integers(len(data)))
    if what == 0:
        for _ in range(rng.integers(1, 9)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif what == 1:
        del data[at : at + int(pick(rng, [1, 4, 100]))]
    elif what == 2:
        data[at:at] = data[at : at + int(pick(rng, [1, 4, 100]))]
    else:
        del data[at:]


def fuzz_survey(survey, n, seed, folder):
    "Counts of what was tried on files of a survey, and descriptions of what was lost."
    rng, count, lost = np.random.default_rng(seed), Counter(), []
    rows = SURVEYS[survey](folder / survey)
    whole = {path: path.read_bytes() for path in rows}
    good = write_spec(folder / 'good' / 'good.fits', fiber=1, run2d='v5_13_2')
    for i in range(n):
        path = pick(rng, list(whole))
        data, is_fits = bytearray(whole[path]), '.fits' in path.name
        damage = pick(rng, DAMAGES) if is_fits else damage_bytes
        damage(data, rng)
        if is_fits and rng.random() < 0.1:
            packed(data, rng)
        path.write_bytes(data)
        what = f'{i} (seed {seed}): {damage.__name__} of {path.name}'
        try:
            with in_time():
                told = judge(path, good, rows[path], what, count)
        except (Exception, Late) as error:
            told = f'{what}: {type(error).__name__}: {error}'
        path.write_bytes(whole[path])
        count['tried'] += 1
        lost += [told] if told else []
    return count, lost


def judge(path, good, rows, what, count):
    "What was lost when a damaged file was read beside a good one; '' if nothing."
    partners = [p for p in path.parent.iterdir() if p.name.startswith('redrock')]
    spectra = path if not partners else next(path.parent.glob('coadd*'))
    sets = list(iter_spectra([spectra, *partners, good], jobs=1))
    names = [name for s in sets for name in s.catalog['file'].tolist()]
    reasons = [why for s in sets for why in s.rejected['reason'].tolist()]
    if not any(name.endswith('good.fits') for name in names):
        return f'{what}: the good file was lost'
    read = len(names) - 1
    if not all(reasons) or read + len(reasons) not in (1, rows):
        return f'{what}: {read} read and {len(reasons)} rejected of {rows}'
    for s in sets:
        if not (np.isfinite(s.flux).all() and (s.ivar >= 0).all()):
            return f'{what}: impossible numbers'
    unknown = [
        r for r in reasons if r.startswith('damaged: ') and 'Error' in r.split()[1]
    ]
    count['reasons that nobody thought of'] += len(unknown)
    for why in unknown:
        count[f'    {why[:90]}'] += 1
    count['read whole' if read == rows else 'read in part' if read else 'rejected'] += 1
    return ''


def report(title, count, lost, seconds):
    print(
        f'{title}: {count["tried"]} tried, {count["tried"] - len(lost)} survived, {len(lost)} lost, {seconds:.0f} s'
    )
    for name, n in sorted(count.items()):
        if name != 'tried':
            print(f'    {n:6d}  {name}')
    for what in lost:
        print('    LOST', what)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=4000, help='damaged files')
    parser.add_argument(
        '--servers', type=int, default=10**6, help='misbehaviours of servers, at most'
    )
    parser.add_argument(
        '--surveys', type=int, default=1000, help='damaged files of each other survey'
    )
    parser.add_argument('--seed', type=int, default=0)
    given, failed = parser.parse_args(), False
    tasks = [('files', given.files, fuzz_files)]
    tasks += [(s, given.surveys, partial(fuzz_survey, s)) for s in SURVEYS]
    tasks += [('servers', given.servers, fuzz_servers)]
    for title, n, fuzz in tasks:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            count, lost = fuzz(n, given.seed, Path(folder))
            report(title, count, lost, time.monotonic() - start)
            failed |= bool(lost)
    sys.exit(failed)


def fuzz_servers(n, seed, folder):
    from misbehaviour import fuzz

    return fuzz(n, seed, folder)


if __name__ == '__main__':
    main()
