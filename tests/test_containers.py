"""What a container is fed: taken in the forms that people have, or refused at once with the column and the remedy; files that are whole or named."""

import errno
import json
import logging
import pickle
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from fuzz_stores import test_damaged_files  # noqa: F401 (a bounded part of it)
from specanom import files, objects, sealed
from specanom.files import atomic, read_json, read_table, write_table
from specanom.flux import FLUX_UNIT
from specanom.grid import SDSS_WAVE
from specanom.modelfile import load_network, read_arrays, write_arrays
from specanom.objects import make_catalog, text_id
from specanom.sealed import store_digest, write_chunks
from specanom.spectra import Spectra, check_store

N, D = 6, 400
WAVE = SDSS_WAVE[:D]
IDS = np.arange(1, N + 1, dtype='u8') + 2**63
COLUMNS = {
    'specobjid': IDS,
    'z': np.linspace(0.06, 0.3, N),
    'class': 'GALAXY',
    'subclass': '',
}


def pixels(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(5, 1, (N, D)).astype('f4'), rng.uniform(0.5, 2, (N, D)).astype(
        'f4'
    )


def make(n=N, **changes):
    flux, ivar = pixels()
    return Spectra(
        **dict(
            flux=flux[:n],
            ivar=ivar[:n],
            grid=WAVE,
            catalog=make_catalog(
                {k: v if isinstance(v, str) else v[:n] for k, v in COLUMNS.items()}
            ),
        )
        | changes
    )


def same(a, b):
    for name in ('flux', 'ivar', 'wave', 'mask'):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in a.catalog.colnames:
        np.testing.assert_array_equal(
            np.asarray(a.catalog[name]), np.asarray(b.catalog[name])
        )
    assert a.unit == b.unit


FORMS = {
    'lists': lambda a: a.tolist(),
    'float64': lambda a: a.astype(float),
    'big-endian': lambda a: a.astype('>f4'),
    'Fortran': np.asfortranarray,
    'masked': lambda a: np.ma.array(a, mask=False),
    'strided': lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    'memory-mapped': lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize('form', FORMS)
def test_forms_of_pixels(form):
    "Every form of array gives the same set: native float32, by rows."
    flux, ivar = pixels()
    got = make(flux=FORMS[form](flux), ivar=FORMS[form](ivar), grid=list(WAVE))
    same(got, make())
    assert got.flux.dtype == got.ivar.dtype == np.dtype('=f4') and not (
        got.flux.flags.f_contiguous and not got.flux.flags.c_contiguous
    )


def test_units():
    "Quantities and named units are converted: flux, ivar, wavelengths and angles."
    flux, ivar = pixels()
    si = u.W / u.m**3
    same(make(flux=flux * u.Unit(FLUX_UNIT)), make())
    for got in (
        make(
            flux=(flux * u.Unit(FLUX_UNIT)).to(si),
            ivar=(ivar / u.Unit(FLUX_UNIT) ** 2).to(si**-2),
        ),
        make(flux=flux * 1e-17, ivar=ivar * 1e34, unit='erg / (s cm2 AA)'),
        make(
            flux=(flux * u.Unit(FLUX_UNIT)).to(u.uJy, u.spectral_density(WAVE * u.AA)),
            ivar=(ivar / u.Unit(FLUX_UNIT) ** 2),
        ),
        make(grid=(WAVE * u.AA).to(u.um)),
    ):
        assert got.unit == FLUX_UNIT
        np.testing.assert_allclose(got.flux, flux, rtol=1e-5)
        np.testing.assert_allclose(got.ivar, ivar, rtol=1e-5)
        np.testing.assert_allclose(got.wave, WAVE)
    assert (
        make(unit='').unit == ''
        and make(unit='1e-17 erg / (s cm2)').unit == '1e-17 erg / (s cm2)'
    )
    np.testing.assert_allclose(
        make_catalog(QTable(dict(ra=[90.0, 180.0] * u.deg)))['ra'], [90, 180]
    )
    np.testing.assert_allclose(
        make_catalog(dict(ra=[1.0, 2.0] * u.rad))['ra'], np.degrees([1, 2])
    )
    with pytest.raises(ValueError, match='column ra.*not convertible'):
        make_catalog(dict(ra=[1.0, 2.0] * u.m))


def test_forms_of_catalog():
    "A table in any of its forms: dict of lists, structured array, big-endian FITS table, upper-case names of classes."
    expected = make_catalog(COLUMNS | {'class': ['GALAXY'] * N})
    full = {
        'specobjid': IDS.tolist(),
        'z': COLUMNS['z'].tolist(),
        'class': ['galaxy '] * N,
        'subclass': [''] * N,
    }
    structured = np.zeros(
        N, [('specobjid', '>u8'), ('z', '>f8'), ('class', 'S8'), ('subclass', 'S4')]
    )
    structured['specobjid'], structured['z'], structured['class'] = (
        IDS,
        COLUMNS['z'],
        b'Galaxy',
    )
    for given in (
        full,
        Table(full),
        structured,
        Table(structured),
        {k: np.array(v) for k, v in full.items()},
    ):
        got = make(catalog=given).catalog
        for name in expected.colnames:
            np.testing.assert_array_equal(
                np.char.strip(got[name]) if got[name].dtype.kind == 'U' else got[name],
                expected[name],
            )
        assert got['specobjid'].dtype == np.uint64 and got['specobjid'].dtype.isnative
    assert make_catalog(
        {'class': ['galaxy', 'star'], 'subclass': ['agn', 'CalciumWD']}
    )['subclass'].tolist() == ['AGN', 'CalciumWD']
    long = 'a survey with a very long name'
    assert make_catalog(dict(survey=[long]))['survey'][0] == long


def test_pandas():
    "A pandas frame, with what pandas calls missing."
    pandas = pytest.importorskip('pandas')
    frame = pandas.DataFrame(
        {
            'specobjid': IDS,
            'z': COLUMNS['z'],
            'class': ['GALAXY'] * N,
            'subclass': [None, 'AGN', '', pandas.NA, '', ''],
            'vdisp': pandas.array([200, None, 1, 2, 3, 4], 'Int64'),
            'note': ['a', None] * 3,
        }
    )
    flux, ivar = pixels()
    got = make(flux=pandas.DataFrame(flux), ivar=pandas.DataFrame(ivar), catalog=frame)
    same(
        got,
        make(
            catalog=make_catalog(
                COLUMNS
                | {
                    'subclass': ['', 'AGN', '', '', '', ''],
                    'vdisp': [200, np.nan, 1, 2, 3, 4],
                    'note': ['a', ''] * 3,
                }
            )
        ),
    )
    frame.loc[2, 'z'] = None
    frame['z'] = frame['z'].astype('Float64')
    with pytest.raises(ValueError, match='z is masked in row 2'):
        make(catalog=frame)


def test_text_ids():
    "Texts that spell a number are that number; other texts are hashed, and kept."
    got = make_catalog(COLUMNS | dict(specobjid=[f' {i}' for i in IDS]))
    assert (got['specobjid'] == IDS).all() and 'id_text' not in got.colnames
    names = ['J1234+5678', '007', '7', '-1', str(2**64), '夜']
    got = make_catalog(COLUMNS | dict(specobjid=names))
    assert (
        got['id_text'].tolist() == names
        and len(set(got['specobjid'])) == N
        and got['specobjid'][2] == 7
    )
    assert (
        make_catalog(COLUMNS | dict(specobjid=[n.encode() for n in names]))['specobjid']
        == got['specobjid']
    ).all()
    assert (text_id(names[:2]) == text_id(names)[:2]).all()


BAD_CATALOG = {
    'array of shape': np.zeros((N, 3)),
    'must be a table': 7,
    'specobjid is missing or 0 in row 1': COLUMNS | dict(specobjid=[1, 0, 3, 4, 5, 6]),
    'specobjid 3 stands in rows 1, 2': COLUMNS | dict(specobjid=[1, 3, 3, 4, 5, 6]),
    'specobjid is missing in row 2': COLUMNS
    | dict(specobjid=MaskedColumn(IDS, mask=np.arange(N) == 2)),
    'specobjid is missing in row 4': COLUMNS | dict(specobjid=[1, 2, 3, 4, None, 6]),
    'floats, which have lost': COLUMNS | dict(specobjid=IDS.astype(float)),
    'specobjid is negative in row 0': COLUMNS | dict(specobjid=[-1, 2, 3, 4, 5, 6]),
    'give it as text': COLUMNS | dict(specobjid=[10**24, 2, 3, 4, 5, 6]),
    'specobjid is empty in row 5': COLUMNS
    | dict(specobjid=['a', 'b', 'c', 'd', 'e', ' ']),
    'every spectrum needs an id': {
        k: v for k, v in COLUMNS.items() if k != 'specobjid'
    },
    'z is masked in row 3': COLUMNS
    | dict(z=MaskedColumn(COLUMNS['z'], mask=np.arange(N) == 3)),
    'column z has 2 rows': COLUMNS | dict(z=[0.1, 0.2]),
    r'column z .* shape \(6, 2\)': COLUMNS | dict(z=np.zeros((N, 2))),
    'column z .* could not convert': COLUMNS | dict(z=['a'] * N),
    'zwarning is missing in row 1': COLUMNS
    | dict(zwarning=MaskedColumn(np.zeros(N, int), mask=np.arange(N) == 1)),
    'plate is missing in row 0': COLUMNS | dict(plate=[np.nan, 1, 2, 3, 4, 5]),
    'plate is 1.5 in row 0': COLUMNS | dict(plate=[1.5, 1, 2, 3, 4, 5]),
    'zwarning is 1099511627776 in rows 0, 1, 2 and 3 more': COLUMNS
    | dict(zwarning=np.full(N, 2**40)),
}


@pytest.mark.parametrize('reason', BAD_CATALOG)
def test_refused_catalogs(reason):
    "The column and the remedy are named."
    with pytest.raises(ValueError, match=reason):
        make(catalog=BAD_CATALOG[reason])


flux0, ivar0 = pixels()
BAD_PIXELS = {
    'flux has shape': dict(flux=flux0[:, 1:]),
    'all of one length': dict(flux=[[1.0, 2.0], [1.0]]),
    'flux must hold numbers': dict(flux=flux0.astype(str)),
    'not negative': dict(ivar=-ivar0),
    'ivar must be finite': dict(ivar=ivar0 * np.float64(1e300)),
    r'wave must increase.*\[::-1\]': dict(grid=WAVE[::-1]),
    'nanometres: 10\\*wave': dict(grid=WAVE / 10),
    'micrometres: 1e4': dict(grid=WAVE / 1e4),
    'log10 of Å: 10': dict(grid=np.log10(WAVE)),
    'ln of Å': dict(grid=np.log(WAVE)),
    'cannot be Å': dict(grid=np.arange(D)),
    'one finite wavelength': dict(grid=np.full(D, np.nan)),
    "say unit='erg": dict(flux=flux0 * 1e-17, ivar=np.float64(1) / 1e-34 * ivar0),
    'once too often': dict(
        flux=flux0 * np.float32(1e17), ivar=ivar0 * np.float32(1e-34)
    ),
    "unit 'flux' is not a unit": dict(unit='flux'),
}


@pytest.mark.parametrize('reason', BAD_PIXELS)
def test_refused_pixels(reason):
    "Arrays that do not fit, wavelengths that cannot be Å, a flux whose factor was forgotten: with the remedy."
    with pytest.raises(ValueError, match=reason):
        make(**BAD_PIXELS[reason])


def test_one_bad_pixel(caplog):
    "A NaN in a measured pixel unmasks that pixel and no other, and is counted; masked pixels likewise."
    flux, ivar = pixels()
    flux[1, 5], flux[2, 7], ivar[2, 7], ivar[3, 9] = np.nan, np.nan, 0, np.nan
    with caplog.at_level(logging.WARNING):
        got = make(flux=flux, ivar=ivar)
    assert [tuple(i) for i in np.argwhere(got.ivar == 0)] == [
        (1, 5),
        (2, 7),
        (3, 9),
    ] and (got.flux[got.ivar == 0] == 0).all()
    assert '2 measured pixels of 2 spectra' in caplog.text
    good = np.ones(flux.shape, bool)
    good[0, 3] = False
    clean = pixels()
    assert [
        tuple(i)
        for i in np.argwhere(make(flux=np.ma.array(clean[0], mask=~good)).ivar == 0)
    ] == [(0, 3)]
    assert not np.isnan(flux0).any() and np.isnan(flux).sum() == 2, (
        'what was given is left as it was'
    )


def test_masked_never_becomes_a_number():
    "Masked numbers are NaN and masked texts empty, in our columns and in those of the user."
    mask = np.arange(N) == 2
    given = COLUMNS | {
        name: MaskedColumn(np.full(N, 9), mask=mask) for name in ('vdisp', 'ra', 'mine')
    }
    given |= {
        name: MaskedColumn(['text'] * N, mask=mask) for name in ('subclass', 'note')
    }
    got = make_catalog(given)
    for name in ('vdisp', 'ra', 'mine'):
        np.testing.assert_array_equal(np.isnan(got[name]), mask)
    for name in ('subclass', 'note'):
        np.testing.assert_array_equal(np.asarray(got[name]) == '', mask)
    assert not any(isinstance(got[name], MaskedColumn) for name in got.colnames)


def test_missing_subclass(caplog):
    "It is said aloud, with what to write instead."
    few = {k: v for k, v in COLUMNS.items() if k != 'subclass'}
    with caplog.at_level(logging.WARNING):
        make(catalog=few)
    assert "no subclass" in caplog.text and "subclass=''" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make(catalog=few | dict(subclass=''))
    assert not caplog.text


def test_slices_are_not_checked_again(monkeypatch):
    "A set is checked when it is made; slices, copies and stacks of it are not, and may repeat a row."
    data = make()
    monkeypatch.setattr(objects, '_check_ids', None)
    monkeypatch.setattr(Spectra, '__post_init__', None)
    assert (
        len(data[np.zeros(3, int)]) == 3
        and len(Spectra.concatenate([data[:2], data])) == N + 2
    )
    assert (
        len(list(data.chunks(4))) == 2
        and len(data.reject(np.arange(N) == 1, 'read', ['x'])) == N - 1
    )
    assert type(pickle.loads(pickle.dumps(data.catalog))) is type(data.catalog)


def test_one_grid():
    "Sets of different wavelengths, units or masks are not joined, in memory or in a store."
    data = make()
    for other, reason in (
        (make(grid=WAVE * 1.0001), 'different wavelengths'),
        (make(unit=''), 'different units'),
        (make(mask=np.zeros((N, D), 'u4')), 'has a mask'),
    ):
        with pytest.raises(ValueError, match=reason):
            Spectra.concatenate([data, other])


# ---- stores


@pytest.fixture()
def store(tmp_path):
    make(mask=np.zeros((N, D), 'u4')).write(tmp_path / 'x.zarr')
    return tmp_path / 'x.zarr'


def test_same_bytes(tmp_path):
    "Equal sets are equal files: stores, FITS, models, tables; whether written at once or from a stream."
    data = make(mask=np.zeros((N, D), 'u4'))
    for run in 'ab':
        data.write(tmp_path / run / 'x.zarr')
        data.write(tmp_path / run / 'x.fits')
        write_table(data.catalog, tmp_path / run / 't.ecsv')
        write_table(data.catalog, tmp_path / run / 't.fits')
        write_arrays(
            tmp_path / run / 'm.safetensors',
            {k: np.eye(3) for k in 'qwertyuiop'},
            'Toy',
            **{k: 1 for k in 'asdfghjkl'},
        )
    files = sorted(
        p.relative_to(tmp_path / 'a')
        for p in (tmp_path / 'a').rglob('*')
        if p.is_file()
    )
    assert len(files) > 10
    assert [
        p
        for p in files
        if (tmp_path / 'a' / p).read_bytes() != (tmp_path / 'b' / p).read_bytes()
    ] == []
    assert (
        store_digest(tmp_path / 'a/x.zarr')
        == store_digest(tmp_path / 'b/x.zarr')
        != store_digest(make(4).write(tmp_path / 'd.zarr'))
    )
    write_chunks(tmp_path / 'c.zarr', data.chunks(4))
    assert (tmp_path / 'c.zarr/flux/c/0/0').read_bytes() == (
        tmp_path / 'a/x.zarr/flux/c/0/0'
    ).read_bytes()


@pytest.mark.parametrize('lazy', [False, True])
def test_deleted_chunk(store, lazy):
    "Never zeros, whether it was gone before the store was opened or vanishes afterwards."
    data = Spectra.read(store, lazy=True)
    (store / 'flux/c/0/0').unlink()
    with pytest.raises(ValueError, match='flux/c/0/0 is missing'):
        data.flux[:]
    with pytest.raises(ValueError, match='flux/c/0/0 is missing'):
        data[2:3]
    with pytest.raises(ValueError, match='flux/c/0/0 is missing'):
        Spectra.read(store, lazy=lazy)


def test_flipped_byte(store):
    "A flip in a chunk is found when it is read, in anything else when the store is opened; the file is named."
    check_store(store)
    for name in sorted(
        p.relative_to(store).as_posix() for p in store.rglob('*') if p.is_file()
    ):
        whole = (store / name).read_bytes()
        for at in (0, len(whole) // 3, len(whole) - 1):
            flipped = bytearray(whole)
            flipped[at] ^= 4
            (store / name).write_bytes(flipped)
            with pytest.raises(ValueError, match=name):
                check_store(store)
        (store / name).write_bytes(whole)
    assert check_store(store) == N


def test_lazy_arrays(store):
    "Rows of a store by every index that NumPy knows."
    whole, lazy = Spectra.read(store), Spectra.read(store, lazy=True)
    same(whole, make(mask=np.zeros((N, D), 'u4')))
    for index in (
        slice(None),
        slice(1, 4),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(3, 3),
        2,
        -1,
        [4, 1],
        np.array([5, 0, 5]),
        np.arange(N) % 2 == 0,
        [],
        (slice(1, 3), slice(2, 9)),
        (2, 5),
        Ellipsis,
    ):
        key = np.array(index, int) if isinstance(index, list) else index
        np.testing.assert_array_equal(lazy.flux[key], whole.flux[key])
    np.testing.assert_array_equal(np.asarray(lazy.ivar), whole.ivar)
    assert (
        lazy.flux.shape == (N, D)
        and lazy.flux.dtype == np.float32
        and len(lazy.flux) == N
    )
    same(whole[[3, 1]], lazy[[3, 1]])
    same(Spectra.read(f'{store}/'), whole)


def test_foreign_stores(store, tmp_path):
    "Older, newer, foreign and half-copied stores are refused by name."
    import zarr

    with pytest.raises(FileNotFoundError, match='none.zarr'):
        Spectra.read(tmp_path / 'none.zarr')
    (tmp_path / 'file.zarr').write_text('no folder')
    zarr.create_group(tmp_path / 'two.zarr', zarr_format=2)
    old = shutil.copytree(store, tmp_path / 'old.zarr')
    (old / 'store.json').unlink()
    for name, reason in (
        ('file.zarr', 'is a file'),
        ('two.zarr', 'no store.json'),
        ('old.zarr', 'older version'),
    ):
        with pytest.raises(ValueError, match=f'{name}.*{reason}'):
            Spectra.read(tmp_path / name)
    sealed._seal(store, dict(sealed._check_seal(store), format=3) | {})
    facts = json.loads((store / 'store.json').read_text())
    facts.pop('seal')
    facts['format'] = 3
    (store / 'store.json').write_text(
        json.dumps(dict(facts, seal=sealed._json_hash(facts)))
    )
    with pytest.raises(ValueError, match='is of format 3.*reads format 2'):
        Spectra.read(store)


def test_fits_sets(tmp_path):
    "A flip in a FITS set is an error that names it, unless it changes nothing; an older set is refused by name."
    from astropy.io import fits

    path = tmp_path / 'x.fits'
    make().write(path)
    same(Spectra.read(path), make())
    whole = path.read_bytes()
    for at in range(700, len(whole), len(whole) // 23):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        path.write_bytes(flipped)
        try:
            same(Spectra.read(path), make())  # a letter of a comment
        except ValueError as error:
            assert 'x.fits' in str(error)
    with fits.open(tmp_path / 'x.fits' if path.write_bytes(whole) else None) as hdus:
        for hdu in hdus:
            for card in ('SPECANOM', 'CHECKSUM', 'DATASUM'):
                hdu.header.remove(card, ignore_missing=True)
        hdus.writeto(tmp_path / 'old.fits')
    with pytest.raises(ValueError, match='old.fits.*older version'):
        Spectra.read(tmp_path / 'old.fits')
    with pytest.raises(ValueError, match='must end in .zarr or .fits'):
        make().write(tmp_path / 'x.hdf5')


# ---- model files, tables, JSON


def test_models(tmp_path):
    "Every byte of a model file counts; a header that asks for more than its weights is refused before memory is."
    torch = pytest.importorskip('torch')
    path = tmp_path / 'm.safetensors'
    write_arrays(
        path,
        dict(
            weight=np.ones((3, 4), 'f4'), bias=torch.zeros(3), scalar=torch.tensor(2.0)
        ),
        'Toy',
        size=4,
    )
    header, arrays = read_arrays(path, 'Toy')
    assert header['size'] == 4 and arrays['scalar'].shape == ()
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match='m.safetensors'):
            read_arrays(path, 'Toy')
    arrays.pop('scalar')
    net = load_network(path, arrays, lambda: torch.nn.Linear(4, 3))
    assert (net.weight == 1).all()
    with pytest.raises(ValueError, match='m.safetensors.*shape .1000000,'):
        load_network(path, arrays, lambda: torch.nn.Linear(10**6, 10**6))
    with pytest.raises(ValueError, match='m.safetensors.*describes no network'):
        load_network(path, arrays, lambda: torch.nn.Linear(-4, 'x'))


def test_network_under_another_default():
    "torch.set_default_dtype changes nothing."
    torch = pytest.importorskip('torch')
    from specanom.vae import VAE

    torch.set_default_dtype(torch.float64)
    try:
        net = VAE(50, rng=3)
    finally:
        torch.set_default_dtype(torch.float32)
    same_net = VAE(50, rng=3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), same_net.state_dict().values())
    )


def test_huge_network(tmp_path):
    "A VAE whose header asks for 400 GB."
    pytest.importorskip('torch')
    from specanom.vae import VAE

    net = VAE(50, hidden=(4,), n_latent=2)
    path = tmp_path / 'v.safetensors'
    net.save(path)
    write_arrays(
        path,
        net.state_dict(),
        'VAE',
        settings=net.settings | dict(n_in=10**9, hidden=[100]),
        history=[],
        grid=None,
    )
    with pytest.raises(ValueError, match='v.safetensors.*its weights have'):
        VAE.load(path)


def test_tables(tmp_path):
    "Texts in any alphabet, in ECSV, CSV and FITS; a byte-order mark; endings and damage are refused by name."
    table = make_catalog(COLUMNS | dict(file=['夜/é.fits'] * N, run2d=[''] * N))
    for ending in ('ecsv', 'fits'):
        write_table(table, tmp_path / f't.{ending}')
        back = read_table(tmp_path / f't.{ending}')
        for name in table.colnames:
            np.testing.assert_array_equal(back[name], table[name])
        assert (
            back['ra'].unit == u.deg
            and back['specobjid'].dtype == np.uint64
            and back['z'].dtype.isnative
        )
    (tmp_path / 'bom.csv').write_bytes(b'\xef\xbb\xbfplate,z\n1,0.5\n')
    assert read_table(tmp_path / 'bom.csv').colnames == ['plate', 'z']
    with pytest.raises(
        ValueError, match="must end in .ecsv, .fits, .csv, .parquet, not in '.txt'"
    ):
        write_table(table, tmp_path / 't.txt')
    with pytest.raises(FileNotFoundError, match='no such table'):
        read_table(tmp_path / 'none.ecsv')
    for name in ('t.ecsv', 't.fits'):
        whole = (tmp_path / name).read_bytes()
        for damaged in (b'', whole[: len(whole) // 2], b'\x00\xff' * 300):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(ValueError, match=f'{name} is damaged or no table'):
                read_table(tmp_path / name)


def test_json(tmp_path):
    "A damaged record names its file."
    path = tmp_path / 'manifest.json'
    for text in ('', '[1]', '{"stages": 1}', '{', '\xff', '[' * 100_000):
        path.write_text(text, encoding='latin-1')
        with pytest.raises(ValueError, match='manifest.json is damaged'):
            read_json(path, stages=dict)


# ---- writing


def test_nothing_is_replaced_by_another_kind(tmp_path):
    "A table does not replace a folder of its name, nor a store a file."
    (tmp_path / 't.ecsv').mkdir()
    (tmp_path / 't.ecsv/mine').write_text('precious')
    with pytest.raises(FileExistsError, match='t.ecsv'):
        write_table(make_catalog(COLUMNS), tmp_path / 't.ecsv')
    with pytest.raises(FileExistsError, match='t.ecsv'):
        with atomic(tmp_path / 't.ecsv') as aside:
            aside.write_text('x')
    (tmp_path / 'x.zarr').write_text('precious')
    with pytest.raises(FileExistsError, match='x.zarr'):
        make().write(tmp_path / 'x.zarr')
    assert (
        (tmp_path / 't.ecsv/mine').read_text()
        == (tmp_path / 'x.zarr').read_text()
        == 'precious'
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ['t.ecsv', 'x.zarr']


KILLED = '''
import sys, time
from specanom.files import atomic
with atomic(sys.argv[1]) as aside:
    aside.mkdir(); (aside/'half').write_text('half')
    print('writing', flush=True)
    time.sleep(60)
'''


def test_leftovers(tmp_path):
    "What a killed writer left is removed by the next one; what a living one writes is left alone."
    writers = [
        subprocess.Popen(
            [sys.executable, '-c', KILLED, tmp_path / 'x'], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for w in writers:
        assert w.stdout.readline() == b'writing\n'
    try:
        writers[0].kill()
        writers[0].wait()
        assert len(list((tmp_path / '.writing').iterdir())) == 2
        with atomic(tmp_path / 'y') as aside:
            aside.write_text('y')
        left = list((tmp_path / '.writing').iterdir())
        assert (
            len(left) == 1
            and left[0].name.startswith(f'{writers[1].pid}-')
            and (left[0] / 'x/half').exists()
        )
    finally:
        for w in writers:
            w.kill(), w.wait()
    with atomic(tmp_path / 'y') as aside:
        aside.write_text('y')
    assert [p.name for p in tmp_path.iterdir()] == ['y']


def test_cut_between_two_renames(tmp_path):
    "A writer that was killed after it had moved the old folder away, and before the new one was in its place: the new one is there afterwards."
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    left = tmp_path / '.writing' / f'{ended.pid}-{files._HOST}-abc'
    make().write(left / 'x.zarr')
    shutil.copytree(left / 'x.zarr', left / '.old')
    same(Spectra.read(tmp_path / 'x.zarr'), make())
    assert not left.exists()


@pytest.mark.parametrize(
    'what', ['x.zarr', 'x.fits', 't.ecsv', 't.fits', 'm.safetensors']
)
def test_full_disk(tmp_path, what):
    "One message that names the file; what was there before is untouched, and nothing is left beside it."
    rng = np.random.default_rng(0)
    data = make()
    table = Table({f'c{i}': rng.normal(size=3000) for i in range(20)})
    write = {
        'x.zarr': lambda p: data.write(p),
        'x.fits': lambda p: data.write(p),
        't.ecsv': lambda p: write_table(table, p),
        't.fits': lambda p: write_table(table, p),
        'm.safetensors': lambda p: write_arrays(
            p, dict(a=rng.normal(size=10_000)), 'Toy'
        ),
    }[what]
    make(3).write(tmp_path / what) if what.startswith('x') else (
        tmp_path / what
    ).write_text('before')
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob('*')) if p.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=what) as caught:
            write(tmp_path / what)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC) and 'untouched' in str(
        caught.value
    )
    assert {
        p: p.read_bytes() for p in sorted(tmp_path.rglob('*')) if p.is_file()
    } == before
