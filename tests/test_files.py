"""Files that are damaged, foreign, hostile or merely odd: each is read right or named with its reason, and none costs another one."""

import gzip
import os
import re
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import ROOT
from made import PIXELS, flux_of, table, write_old, write_plate, write_spec

import specanom.fitsfile as fitsfile
import specanom.sdss as sdss
import specanom.surveys as surveys
from specanom.grid import SDSS_K, air_to_vacuum
from specanom.objects import make_specobjid
from specanom.fitsfile import BadFile
from specanom.spplate import read_plate
from specanom.surveys import find_spectra, iter_spectra, read_spectra

CASES = ROOT.parent / 'shared' / 'cases'
PACKED = int(make_specobjid(7102, 56666, 914, 1000))


@pytest.fixture(autouse=True)
def in_time():
    "No input may take longer than a minute."

    def late(*_):
        raise TimeoutError('a minute is over')

    signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)


def read(folder):
    return read_spectra(folder, jobs=1)


def reasons(spectra):
    return dict(
        zip(spectra.rejected['name'].tolist(), spectra.rejected['reason'].tolist())
    )


def beside_good(tmp_path, change=lambda hdus: None, **row):
    "Read an odd file beside a good one: the good one is there whatever the other is. Returns the odd one's rows, and its reason."
    write_spec(tmp_path / 'good.fits', fiber=1)
    write_spec(tmp_path / 'odd.fits', change, **row)
    spectra = read(tmp_path)
    assert (
        'good.fits' in spectra.catalog['file']
        and len(spectra) + len(spectra.rejected) == 2
    )
    return spectra[spectra.catalog['file'] == 'odd.fits'], reasons(spectra).get(
        'odd.fits', ''
    )


def column(hdu, name, form, values, **cards):
    "A change that replaces a column, and adds cards about it: TZERO, TSCAL, TNULL, TUNIT."

    def change(hdus):
        columns = [
            fits.Column(c.name, c.format, array=hdus[hdu].data[c.name])
            if c.name != name
            else fits.Column(name, form, array=np.asarray(values))
            for c in hdus[hdu].columns
        ]
        hdus[hdu] = fits.BinTableHDU.from_columns(columns, name=hdus[hdu].name)
        number = hdus[hdu].columns.names.index(name) + 1
        for card, value in cards.items():
            hdus[hdu].header[f'{card}{number}'] = value

    return change


# ---------------------------------------------------------------- identity


@pytest.mark.parametrize(
    'specobjid, right',
    [
        (('29A', ['123456780150005914610001']), PACKED),
        (('22A', ['-1']), PACKED),
        (('K', [-1]), PACKED),
        (('K', [-5838665566640955392]), PACKED),
        (('D', [float(PACKED)]), PACKED),
        (('22A', ['nonsense']), PACKED),
        (('22A', [str(2**64)]), PACKED),
        (('2K', [[1, 2]]), PACKED),
        (('22A', [f'{PACKED + 7:>22}']), PACKED + 7),
        (None, PACKED),
    ],
    ids=str,
)
def test_id_that_is_stated(tmp_path, specobjid, right):
    "It counts when it is one of 64 bits; else it is packed. It never ends the reading."
    odd, _ = beside_good(tmp_path, specobjid=specobjid)
    assert odd.catalog['specobjid'].tolist() == [right]


def test_id_whose_sign_was_lost(tmp_path):
    right = int(make_specobjid(10247, 58162, 5, 1300))
    odd, _ = beside_good(
        tmp_path, plate=10247, mjd=58162, fiber=5, specobjid=('K', [right - 2**64])
    )
    assert odd.catalog['specobjid'][0] == right


@pytest.mark.parametrize(
    'one, other',
    [
        (dict(plate=100000), dict(plate=1696)),
        (dict(mjd=49000), dict(mjd=49000 + 2**14)),
        (dict(fiber=914 + 2**12), dict(plate=7103, fiber=914)),
        (dict(run2d='test_a'), dict(run2d='test_b')),
        (dict(run2d='v5_1_3'), dict(run2d='103')),
        (dict(run2d='v5_10_0'), dict(run2d='1000')),
    ],
    ids=str,
)
def test_two_spectra_never_share_an_id(tmp_path, one, other):
    write_spec(tmp_path / 'a.fits', **one)
    write_spec(tmp_path / 'b.fits', **other)
    spectra = read(tmp_path)
    assert len(set(spectra.catalog['specobjid'].tolist())) == len(spectra) == 2


def test_one_id_stated_by_two_spectra(tmp_path):
    write_spec(tmp_path / 'a.fits', fiber=1, specobjid=('K', [77]))
    write_spec(tmp_path / 'b.fits', fiber=2, specobjid=('K', [77]))
    assert reasons(read(tmp_path)) == {
        'b.fits': 'another spectrum with the id of a.fits (specobjid 77)'
    }


@pytest.mark.parametrize(
    'row, words',
    [
        (dict(fiber=0), 'FIBERID = 0'),
        (dict(plate=-3), 'PLATE = -3'),
        (dict(mjd=0), 'MJD = 0'),
        (
            dict(FIBERID=('K', [27021597911984191])),
            'fiberid = 27021597911984191 is no whole number of 32 bits',
        ),
        (dict(ZWARNING=('K', [2**40])), 'zwarning = 1099511627776'),
        (dict(PLATE=('D', [np.nan])), 'plate is missing'),
        (dict(PLATE=('D', [7102.5])), 'plate = 7102.5'),
        (dict(ZWARNING=('2J', [[6, 0]])), 'the column ZWARNING holds 2 numbers a row'),
        (dict(CLASS=('J', [3])), 'class is a number'),
        (dict(Z=('5A', ['.1'])), 'z is text'),
        (dict(CLASS=('6A', [b'GA\0XY'])), 'is not text'),
        (dict(SUBCLASS=('6A', [b'AG\0\0N'])), 'is not text'),
        (dict(CLASS=('20A', ['GALAXY_WITH_A_TAIL'])), 'longer than 8'),
        (
            dict(Z=('PE()', np.array([[0.1, 0.2]], object))),
            'the column Z has the format PE',
        ),
        (dict(Z=('C', [0.1 + 0.2j])), 'neither a number nor text'),
        (dict(MJD=None), 'no column MJD'),
        (
            dict(
                PLATE=None,
                FIBERID=None,
                CATALOGID=('K', [0]),
                FIBERID_LIST=('8A', ['217']),
                FIELD=('J', [15000]),
            ),
            'must be above 0',
        ),
    ],
    ids=str,
)
def test_row_that_cannot_be_held(tmp_path, row, words):
    _, why = beside_good(tmp_path, **row)
    assert words in why


def test_a_plate_that_is_null(tmp_path):
    _, why = beside_good(tmp_path, column(2, 'PLATE', 'J', [-99], TNULL=-99))
    assert why == 'plate is missing'


@pytest.mark.parametrize(
    'row',
    [
        dict(VDISP=('3E', [[1, 2, 3]])),
        dict(VDISP=('6A', ['none'])),
        dict(VDISP=('PE()', np.array([[0.1]], object))),
        dict(RUN1D=('PJ()', np.array([[1, 2]], object))),
        dict(VDISP=('M', [1j])),
        dict(THETA=('4M', [[1j] * 4])),
        dict(BITS=('20X', np.ones((1, 20), bool))),
        dict(LOGIC=('L', [True])),
        dict(NOTHING=('0J', np.zeros((1, 0)))),
    ],
    ids=lambda r: next(iter(r)),
)
def test_columns_that_nobody_needs_cost_nothing(tmp_path, row):
    odd, why = beside_good(tmp_path, **row)
    assert len(odd) == 1 and np.isnan(odd.catalog['vdisp'][0]), why


@pytest.mark.parametrize('factor', [1e30, 1e17, 1e-17, 1e-30])
def test_a_flux_that_cannot_be_costs_its_file_alone(tmp_path, factor):
    def change(hdus):
        hdus[1].data['flux'] *= factor

    odd, why = beside_good(tmp_path, change)
    assert not len(odd) and 'a factor is wrong' in why


def test_a_fibre_whose_flux_cannot_be_costs_no_other(tmp_path):
    def change(plate, zbest):
        plate[0].data[1] *= 1e25

    write_plate(tmp_path, change=change)
    spectra = read(tmp_path)
    assert len(spectra) == 3 and len(spectra.rejected) == 1
    assert 'a factor is wrong' in spectra.rejected['reason'][0]


# ---------------------------------------------------------------- plates


def redshifts(spectra):
    return dict(
        zip(
            spectra.catalog['file'].tolist(), np.round(spectra.catalog['z'], 3).tolist()
        )
    )


def test_plate_and_single_spectrum(tmp_path):
    write_plate(tmp_path)
    write_spec(tmp_path / 'spec-0001.fits', fiber=77)
    spectra = read(tmp_path)
    assert len(spectra) == 5 and not len(spectra.rejected)
    np.testing.assert_array_equal(
        spectra.flux[1][35800 - SDSS_K[0] :][:PIXELS], flux_of(2)
    )


def test_some_files_only(tmp_path):
    "A plate keeps the redshifts that it had among all, whatever else is left out."
    for run2d, z in (('v5_10_0', 0.19), ('v5_13_2', 0.11)):
        write_plate(tmp_path / run2d / '7102', run2d, z=z, run2d=run2d)
    for fiber in (1, 2, 3):
        write_spec(tmp_path / f'{fiber}.fits', fiber=fiber, plate=7103)
    files, root = find_spectra(tmp_path)
    names = ['v5_13_2/7102/spPlate-7102-56666.fits#0003', '2.fits']
    some = list(iter_spectra(files, root=root, only=names))
    found = {f: z for s in some for f, z in redshifts(s).items()}
    assert set(found) == {'2.fits', *(f'{names[0][:-1]}{i}' for i in (1, 2, 3, 4))}
    assert found[names[0]] == 0.11


def test_two_reductions_of_a_plate(tmp_path):
    for run2d, z in (('v5_10_0', 0.19), ('v5_13_2', 0.11)):
        write_plate(tmp_path / run2d / '7102', run2d, z=z, run2d=run2d)
    spectra = read(tmp_path)
    assert {(f.split('/')[0], z) for f, z in redshifts(spectra).items()} == {
        ('v5_10_0', 0.19),
        ('v5_13_2', 0.11),
    }
    assert len(set(spectra.catalog['specobjid'].tolist())) == len(spectra) == 8


def test_the_redshifts_of_another_reduction_are_not_taken(tmp_path):
    "Not when a plate has none, and not when the nearest file says that it is of another one."
    write_plate(tmp_path / 'v5_10_0/7102', 'v5_10_0')
    write_plate(tmp_path / 'v5_13_2/7102', run2d='v5_13_2', zbest=False)
    spectra = read(tmp_path)
    assert (
        len(spectra) == 4
        and 'no spZbest-7102-56666.fits with its redshifts'
        in reasons(spectra)['v5_13_2/7102/spPlate-7102-56666.fits']
    )
    write_plate(tmp_path / 'v5_13_2/7102', 'old', run2d='v5_13_2', stated='v5_10_0')
    assert (
        'of its own reduction, v5_13_2'
        in reasons(read(tmp_path))['v5_13_2/7102/spPlate-7102-56666.fits']
    )
    write_plate(
        tmp_path / 'v5_13_2/7102', 'old/new', run2d='v5_13_2', stated='v5_13_2', z=0.11
    )
    spectra = read(tmp_path)  # farther away, but of its own reduction
    assert (
        len(spectra) == 8
        and redshifts(spectra)['v5_13_2/7102/spPlate-7102-56666.fits#0001'] == 0.11
    )


def test_two_files_that_are_equally_near(tmp_path):
    write_plate(tmp_path, 'a')
    write_plate(tmp_path, 'b', z=0.11)
    assert 'equally near' in reasons(read(tmp_path))['spPlate-7102-56666.fits']
    write_plate(
        tmp_path, 'a', stated='v5_10_0'
    )  # now one of them says that it is the right one
    assert set(redshifts(read(tmp_path)).values()) == {0.19}


def test_a_plate_in_two_folders(tmp_path):
    for name in 'ab':
        write_plate(tmp_path / name)
    spectra = read(tmp_path)
    assert [f[:2] for f in spectra.catalog['file']] == ['a/'] * 4
    assert reasons(spectra)['b/spPlate-7102-56666.fits#0003'].startswith(
        'the same spectrum as a/spPlate-7102-56666.fits#0003'
    )


@pytest.mark.parametrize(
    'gz', [(False, False), (True, False), (False, True), (True, True)]
)
def test_gzipped_or_not(tmp_path, gz):
    path = write_plate(tmp_path, 'v5_10_0', gz=gz)
    assert (
        len(read(tmp_path)) == len(read(path)) == len(read_plate(path)) == 4
    )  # also when only the plate is named


def test_one_fibre_does_not_cost_the_others(tmp_path):
    def change(plate, zbest):
        plate[1].data[2, 5] = np.nan
        zbest[1] = table(
            {
                c.name: (c.format, zbest[1].data[c.name])
                if c.name != 'ZWARNING'
                else ('K', [0, 2**40, 0, 0])
                for c in zbest[1].columns
            }
        )

    write_plate(tmp_path, change=change)
    spectra = read(tmp_path)
    assert spectra.catalog['fiberid'].tolist() == [1, 4]
    assert [
        w in r
        for w, r in zip(
            ('zwarning = 1099511627776', 'ivar is not a number'),
            spectra.rejected['reason'],
        )
    ] == [True, True]


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda p, z: p[0].header.set('VACUUM', False), 'in air'),
        (lambda p, z: p[0].header.set('BUNIT', 'counts'), "BUNIT = 'counts'"),
        (lambda p, z: p[0].header.set('COEFF1', 1.5e-4), 'not on the SDSS lattice'),
        (lambda p, z: p[0].header.set('PLATEID', 'x'), 'PLATEID = x'),
        (lambda p, z: z[1].data.field('PLATE').fill(7103), 'is of plate 7103'),
        (lambda p, z: z.pop(), 'holds no table|header'),
        (lambda p, z: z[1].data.field('FIBERID').fill(1), 'once each'),
        (lambda p, z: p.pop(), 'first three HDUs'),
    ],
)
def test_plate_that_cannot_be_used(tmp_path, change, words):
    write_plate(tmp_path, change=change)
    write_spec(tmp_path / 'spec-0001.fits', fiber=77)
    spectra = read(tmp_path)
    assert len(spectra) == 1 and re.search(words, spectra.rejected['reason'][0])


def test_plate_of_scaled_integers(tmp_path):
    "BSCALE and BZERO of an image are obeyed."

    def change(plate, zbest):
        plate[0].scale('int16', bscale=0.002, bzero=40)

    write_plate(tmp_path, change=change)
    spectra = read(tmp_path)
    np.testing.assert_allclose(
        spectra.flux[3][35800 - SDSS_K[0] :][:PIXELS], flux_of(4), atol=0.0011
    )


# ---------------------------------------------------------------- what a file says of itself


def test_units_are_converted_or_refused(tmp_path):
    for i, (unit, factor) in enumerate(
        {
            'erg/cm^2/s/Ang': 1e-17,
            '1E-17 erg/cm^2/s/Ang': 1,
            '1e-17 erg s^-1 cm^-2 Angstrom^-1': 1,
            'W/m^2/um': 1e-16,
        }.items()
    ):

        def change(hdus, unit=unit, factor=factor):
            hdus[0].header['BUNIT'] = unit
            hdus[1].data['flux'] *= factor
            hdus[1].data['ivar'] = np.minimum(4 / factor**2, 3e38) * (
                hdus[1].data['ivar'] > 0
            )

        odd, why = beside_good(tmp_path / str(i), change)
        np.testing.assert_allclose(
            odd.flux[0][odd.good[0]], np.delete(flux_of(914), 100), rtol=1e-5
        )
        np.testing.assert_allclose(odd.ivar[0][odd.good[0]], 4, rtol=1e-5)
    for card in ('Jy', 'counts', 17, ''):

        def change(hdus, card=card):
            hdus[0].header['BUNIT'] = card

        _, why = beside_good(tmp_path / f'no{card}', change)
        assert f"BUNIT = '{card}'" in why or card == ''
    odd, _ = beside_good(
        tmp_path / 'column',
        column(1, 'flux', 'D', flux_of(914) * 1e-17, TUNIT='erg/s/cm^2/Angstrom'),
    )  # the unit of the column goes before
    assert odd.flux[0].max() == pytest.approx(flux_of(914).max(), rel=1e-5)


@pytest.mark.parametrize('value', ['F', 0])
def test_air_or_vacuum_is_not_said(tmp_path, value):
    _, why = beside_good(tmp_path, lambda hdus: hdus[0].header.set('VACUUM', value))
    assert 'VACUUM' in why


def test_wavelengths_in_air(tmp_path):
    "A line is where it is in vacuum, to a tenth of a pixel, and no brighter."
    odd, _ = beside_good(tmp_path, lambda hdus: hdus[0].header.set('VACUUM', False))
    line = (odd.flux[0] - np.median(odd.flux[0][odd.good[0]])) * odd.good[0]
    window = np.abs(odd.wave - 7000) < 60
    centre = np.average(odd.wave[window], weights=line[window].clip(0))
    assert abs(centre - air_to_vacuum(7000)) < 0.16


def test_masks_of_every_kind(tmp_path):
    "Unsigned, signed, wide: the same bits. More than 32, or halves: refused."
    bits = np.where(np.arange(PIXELS) == 7, 2**31 + 1, 2**28)
    for form, values in {
        'J': bits.astype('u4').view('i4'),
        'K': bits,
        'D': bits,
    }.items():
        odd, why = beside_good(tmp_path / form, column(1, 'and_mask', form, values))
        assert set(odd.mask[0].tolist()) == {0, 2**28, 2**31 + 1}, why
    odd, _ = beside_good(
        tmp_path / 'unsigned',
        column(1, 'and_mask', 'J', (bits - 2**31).astype('i4'), TZERO=2**31),
    )
    assert set(odd.mask[0].tolist()) == {0, 2**28, 2**31 + 1}
    assert (
        'more than 32 bits'
        in beside_good(
            tmp_path / 'wide', column(1, 'and_mask', 'K', np.full(PIXELS, 2**40))
        )[1]
    )
    assert (
        'not whole'
        in beside_good(
            tmp_path / 'half', column(1, 'and_mask', 'J', np.ones(PIXELS), TSCAL=0.5)
        )[1]
    )


def test_scaled_flux_and_nulls(tmp_path):
    stored = np.round((flux_of(914) - 100) / 0.002).astype('i2')
    odd, _ = beside_good(
        tmp_path / 'a', column(1, 'flux', 'I', stored, TSCAL=0.002, TZERO=100.0)
    )
    np.testing.assert_allclose(
        odd.flux[0][odd.good[0]], np.delete(flux_of(914), 100), atol=0.0011
    )
    assert (
        'flux is not a number in 1 pixels'
        in beside_good(
            tmp_path / 'b',
            column(1, 'flux', 'I', np.where(np.arange(PIXELS) == 9, -1, 5), TNULL=-1),
        )[1]
    )
    assert (
        'TSCAL1 is not a number'
        in beside_good(tmp_path / 'c', column(1, 'flux', 'I', stored, TSCAL='two'))[1]
    )


def test_formats_that_contradict_the_row_length(tmp_path):
    "Each column of both tables with another width: never read out of step."
    path = write_spec(tmp_path / 'a.fits')
    whole = path.read_bytes()
    tried = 0
    for form, other in (
        (b"'J       '", b"'K       '"),
        (b"'E       '", b"'D       '"),
        (b"'J       '", b"'I       '"),
        (b"'E       '", b"'2E      '"),
        (b"'21A     '", b"'20A     '"),
    ):
        at = whole.find(form)
        while at >= 0:
            path.write_bytes(whole[:at] + other + whole[at + len(form) :])
            assert 'need' in read(tmp_path).rejected['reason'][0]
            at, tried = whole.find(form, at + 1), tried + 1
    assert tried > 25


# ---------------------------------------------------------------- sizes, pipes, names, processes


def card(name, value):
    return f'{name:8}= {value:>20}'.ljust(80).encode()


@pytest.mark.parametrize(
    'name, value',
    [
        ('NAXIS', -1),
        ('NAXIS1', -4),
        ('NAXIS2', -1),
        ('NAXIS2', 10**12),
        ('NAXIS1', 10**15),
        ('PCOUNT', -(10**6)),
        ('PCOUNT', -36),
        ('GCOUNT', -1),
        ('GCOUNT', 10**9),
        ('TFIELDS', -1),
        ('TFIELDS', 10**9),
        ('BITPIX', 7),
        ('BITPIX', 0),
        ('NAXIS', 10**9),
        ('NAXIS2', 'T'),
        ('NAXIS2', '1_0'),
    ],
)
def test_sizes_are_checked_before_they_are_believed(tmp_path, name, value):
    for hdu in (0, 1, 2):
        path = write_spec(tmp_path / f'{hdu}.fits')
        whole = path.read_bytes()
        start = [
            whole.find(b'SIMPLE'),
            *(
                whole.find(f"EXTNAME = '{n}".encode()) - 8000
                for n in ('COADD', 'SPALL')
            ),
        ][hdu]
        start = whole.find(b'XTENSION', max(start, 0)) if hdu else 0
        at = whole.find(f'{name:8}= '.encode(), start)
        if at < 0:
            continue
        path.write_bytes(whole[:at] + card(name, value) + whole[at + 80 :])
        assert len(read(path).rejected) == 1


def test_a_plate_of_millions(tmp_path):
    "A small file that claims a great many fibres of few pixels must not be given the memory for them."
    path = write_plate(tmp_path)

    def change(plate, zbest):
        for hdu in plate:
            hdu.data = np.zeros((5000, 10), hdu.data.dtype)

    write_plate(tmp_path, change=change)
    assert '5000 fibres' in reasons(read(path))[path.name]


def test_more_pixels_than_the_lattice(tmp_path):
    def change(hdus):
        hdus[1] = table(
            dict(
                flux=('E', np.ones(9000)),
                loglam=('E', np.ones(9000)),
                ivar=('E', np.ones(9000)),
                and_mask=('J', np.zeros(9000)),
            ),
            'COADD',
        )

    assert '9000 pixels' in beside_good(tmp_path, change)[1]


def test_a_file_with_holes(tmp_path):
    "A terabyte that takes no room on the disk."
    path = write_spec(tmp_path / 'a.fits')
    whole = path.read_bytes()
    at = whole.find(b'NAXIS2  =', whole.find(b'XTENSION'))
    path.write_bytes(whole[:at] + card('NAXIS2', 10**10) + whole[at + 80 :])
    os.truncate(path, 2**40)
    assert len(read(tmp_path).rejected) == 1


def test_a_header_without_end(tmp_path):
    (tmp_path / 'a.fits').write_bytes(
        b'SIMPLE  =                    T'.ljust(80) + b' ' * 4_000_000
    )
    assert 'inside a header' in read(tmp_path).rejected['reason'][0]


def test_bomb_and_damage_in_gzip(tmp_path):
    write_spec(tmp_path / 'good.fits', fiber=1)
    whole = gzip.compress(write_spec(tmp_path / 'x').read_bytes())
    with gzip.open(tmp_path / 'bomb.fits.gz', 'wb', 1) as file:
        for _ in range(300):
            file.write(bytes(2**20))
    (tmp_path / 'cut.fits.gz').write_bytes(whole[:-1000])
    (tmp_path / 'flipped.fits.gz').write_bytes(
        whole[:5000] + bytes([whole[5000] ^ 8]) + whole[5001:]
    )
    (tmp_path / 'fine.fits.gz').write_bytes(whole)
    (tmp_path / 'header.fits.gz').write_bytes(whole[:7])
    spectra = read(tmp_path)
    assert sorted(spectra.catalog['file']) == ['fine.fits.gz', 'good.fits']
    assert 'unpacks to more than' in reasons(spectra)['bomb.fits.gz'] and all(
        'cannot be unpacked' in r
        for n, r in reasons(spectra).items()
        if n != 'bomb.fits.gz'
    )


def test_what_is_no_file(tmp_path):
    "Pipes, folders with the name of a file, links to nowhere, in circles and to other folders, names that are not UTF-8."
    (tmp_path / 'in').mkdir()
    write_spec(tmp_path / 'in/good.fits', fiber=1)
    write_spec(tmp_path / 'elsewhere/linked.fits', fiber=2)
    os.mkfifo(tmp_path / 'in/a.fits')
    (tmp_path / 'in/folder.fits').mkdir()
    (tmp_path / 'in/nowhere.fits').symlink_to('missing')
    (tmp_path / 'in/link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'in/circle').symlink_to(tmp_path / 'in')
    write_spec(tmp_path / 'y', fiber=3)
    os.rename(tmp_path / 'y', os.fsencode(tmp_path / 'in') + b'/b\xff.fits')
    write_spec(tmp_path / 'in/line\nbreak.fits', fiber=4)
    spectra = read(tmp_path / 'in')
    assert sorted(spectra.catalog['file']) == sorted(
        ['good.fits', 'link/linked.fits', r'b\udcff.fits', r'line\nbreak.fits']
    )
    assert sorted(spectra.rejected['name']) == ['a.fits', 'nowhere.fits']
    assert (
        'not a regular file' in reasons(spectra)['a.fits']
        and 'No such file' in reasons(spectra)['nowhere.fits']
    )
    spectra.write(tmp_path / 'set.zarr')


def test_a_file_given_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_spec(tmp_path / 'a.fits')
    spectra = read(
        [path, 'a.fits', Path('.') / 'a.fits', f'{tmp_path}/../{tmp_path.name}/a.fits']
    )
    assert len(spectra) == 1 and not len(spectra.rejected)
    assert find_spectra([path, 'a.fits']) == ([path], tmp_path)


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    path = write_plate(tmp_path)
    size = path.stat().st_size
    assert size > 2**17
    with fitsfile.open_file(path) as source:
        source = source._replace(head=source.head[:5760])
        os.truncate(path, size // 2)
        with pytest.raises(BadFile, match='truncated'):
            list(map(fitsfile.read_image, [source] * 3, fitsfile.walk_hdus(source)))


def die_at(name):
    "A reader whose process dies when it meets a file."
    honest = sdss.read_spec

    def read_spec(path):
        if path.name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(path)

    return read_spec


def test_a_process_that_dies(tmp_path, monkeypatch):
    "Its file is named, all others are read, in the same order."
    names = [
        write_spec(tmp_path / f'{i:02d}.fits', fiber=i + 1).name for i in range(24)
    ]
    monkeypatch.setattr(sdss, 'read_spec', die_at('13.fits'))
    monkeypatch.setattr(
        surveys,
        '_pool',
        lambda n: ProcessPoolExecutor(
            n, __import__('multiprocessing').get_context('fork')
        ),
    )
    sets = list(iter_spectra(tmp_path, jobs=2, chunk=4))
    assert [f for s in sets for f in s.catalog['file']] == [
        n for n in names if n != '13.fits'
    ]
    assert [r for s in sets for r in s.rejected['name']] == ['13.fits'] and 'died' in [
        r for s in sets for r in s.rejected['reason']
    ][0]


def test_a_machine_that_gives_no_process(tmp_path, monkeypatch):
    names = [write_spec(tmp_path / f'{i:02d}.fits', fiber=i + 1).name for i in range(6)]

    class None_:
        def __init__(self, n):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, *_):
            raise RuntimeError('no process before the main module is ready')

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(surveys, '_pool', None_)
    assert [
        f for s in iter_spectra(tmp_path, jobs=2, chunk=2) for f in s.catalog['file']
    ] == names


def test_old_files(tmp_path):
    path = write_old(tmp_path / 'spSpec-52235-0750-459.fit')
    spectra = read(tmp_path)
    assert spectra.good.sum() == PIXELS - 7 and spectra.catalog['specobjid'][
        0
    ] == make_specobjid(750, 52235, 459)
    for name, value, words in (
        ('FIBERID', 'x', 'fiberid is text'),
        ('Z', True, 'z is text|z is a number'),
        ('BUNIT', 'Jy', 'BUNIT'),
        ('NAXIS2', 3, 'header|flux, continuum'),
    ):
        write_old(path)
        if name != 'NAXIS2':
            fits.setval(path, name, value=value)
        else:
            path.write_bytes(
                path.read_bytes().replace(
                    b'NAXIS2  =                    5', b'NAXIS2  =                    3'
                )
            )
        assert re.search(words, read(tmp_path).rejected['reason'][0]), name


# ---------------------------------------------------------------- the inputs on which the program was wrong

RIGHT = dict(
    plate_ok=(4, 0),
    mixed=(5, 0),
    plate_two=(8, 0),
    plate_copy=(4, 4),
    plate_gz=(4, 0),
    bigid=(2, 0),
    negid=(2, 0),
    collide=(2, 0),
    fiber0=(0, 2),
    sdssv=(1, 0),
    tzero=(1, 0),
    unit=(1, 0),
    air=(1, 0),
    vla=(1, 0),
)


@pytest.mark.skipif(
    not CASES.exists(), reason='the collected inputs are not beside the project'
)
@pytest.mark.parametrize('name', RIGHT)
def test_collected_inputs(name):
    spectra = read(CASES / name)
    assert (len(spectra), len(spectra.rejected)) == RIGHT[name], reasons(spectra)
    assert len(set(spectra.catalog['specobjid'].tolist())) == len(spectra) and all(
        reasons(spectra).values()
    )


@pytest.mark.skipif(
    not CASES.exists(), reason='the collected inputs are not beside the project'
)
def test_collected_inputs_say_the_same(tmp_path):
    "An unsigned mask, another unit and a column of variable length change nothing of the spectrum."
    right = read(CASES / 'mixed' / 'spec-0725-52258-0580.fits')
    for name in ('tzero', 'unit', 'vla'):
        odd = read(CASES / name)
        np.testing.assert_allclose(odd.flux, right.flux, rtol=1e-6)
        np.testing.assert_allclose(odd.ivar, right.ivar, rtol=1e-6)
        np.testing.assert_array_equal(odd.mask, right.mask)
    two = read(CASES / 'plate_two')
    assert {
        (f.split('/')[0], round(z, 2))
        for f, z in zip(two.catalog['file'], two.catalog['z'])
    } == {('v5_10_0', 0.19), ('v5_13_2', 0.11)}
