"""Catalogue and spectra from a server that speaks as SkyServer and the SAS do, and misbehaves when it is told to."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from misbehaviour import http, rows
from sdss_server import BOSS_PLATE, ReplayServer, make_archive

from specanom.files import read_table, write_table
from specanom.objects import spec_name
from specanom.spectra import Spectra
from specanom.download import download_spectra, plan_download
from specanom.query import match_portsmouth, query_catalog
from specanom.spplate import read_plate
from specanom.surveys import read_spectra
from specanom.web import SurveyError

ROOT = Path(__file__).parents[1]
FAST = dict(tries=3, pause=0.01, timeout=(2, 2))


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp('archive'), n=40, plates=2)


@pytest.fixture
def server(archive, tmp_path, monkeypatch):
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'cache'))
    with ReplayServer(archive) as server:
        yield server
    assert not server.errors


@pytest.fixture
def catalog(server):
    found = query_catalog('b23', skyserver=server.url, tries=3, pause=0.01)
    server.forget()
    return found


def fetch(catalog, folder, server, **settings):
    return download_spectra(catalog, folder, sas=f'{server.url}/sas', **FAST | settings)


def one(catalog, i=3):
    return f'*spec-{spec_name(catalog[i : i + 1])[0]}*'


def files_of(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob('*'))
        if p.is_file()
    }


def bytes_sent(server, pattern='.fits'):
    return sum(r.sent for r in server.requests if pattern in r.path)


def same(a, b):
    for name in ('flux', 'ivar', 'mask'):
        np.testing.assert_array_equal(getattr(a, name)[:], getattr(b, name)[:])
    assert a.catalog['specobjid'].tolist() == b.catalog['specobjid'].tolist()


# ---------------------------------------------------------------- the catalogue


def test_catalogue_is_complete_and_in_order(server, archive):
    "Small pages and a server that cuts: nothing is lost, nothing comes twice; the selection is that of the paper."
    server.database.cap = 4
    catalog = query_catalog('b23', skyserver=server.url, page=7)
    truth = Table.read(archive / 'catalogue.fits', hdu='SPECOBJALL')
    wanted = truth[
        (truth['sciencePrimary'] == 1)
        & (truth['zWarning'] == 0)
        & (truth['legacy_target1'] & 70 > 0)
        & np.isin(np.char.strip(truth['class'].astype(str)), ['GALAXY', 'QSO'])
    ]
    assert catalog['specobjid'].tolist() == sorted(int(i) for i in wanted['specObjID'])
    assert (
        np.isfinite(catalog['ebv']).all()
        and (catalog['ebv'] > 0).all()
        and set(catalog['platequality']) == {'good'}
    )


def test_both_selections_and_ids_beyond_63_bits(server):
    galaxies = query_catalog('o25', skyserver=server.url)
    assert (
        set(galaxies['class']) == {'GALAXY'}
        and (galaxies['sn_median'] > 4).all()
        and set(galaxies['survey']) == {'sdss'}
    )
    known = query_catalog(
        'b23', n=5, known=True, skyserver=server.url
    )  # none of them is in a mock archive
    assert len(known) == 5


def test_portsmouth(server, catalog):
    matched = match_portsmouth(catalog, skyserver=server.url, page=9)
    galaxy = catalog['class'] == 'GALAXY'
    assert (
        np.isfinite(matched['halpha_ew'][galaxy]).all()
        and np.isnan(matched['halpha_ew'][~galaxy]).all()
    )


@pytest.mark.parametrize(
    'fault',
    [
        dict(kind='status', status=503),
        dict(kind='status', status=429, retry_after='1'),
        dict(kind='cut'),
        dict(kind='hang'),
        dict(kind='truncated'),
    ],
)
def test_catalogue_after_passing_trouble(server, catalog, fault, tmp_path, monkeypatch):
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'other'))
    server.fail('*x_results*', times=1, **fault)
    again = query_catalog('b23', skyserver=server.url, tries=3, pause=0.01, timeout=2)
    assert again['specobjid'].tolist() == catalog['specobjid'].tolist()


@pytest.mark.parametrize(
    'fault, words',
    [
        (dict(kind='html'), 'closed for maintenance'),
        (dict(kind='status', status=500), 'did not answer in 2'),
        (dict(kind='redirect', times=1), 'neither the same host nor https'),
        (dict(kind='dotdot'), None),
    ],
)
def test_catalogue_that_cannot_be_had(server, fault, words):
    "One clear message; or, for a name that leads out of the folder, refusal before anything is fetched."
    elsewhere = (
        dict(location=server.url.replace('127.0.0.1', 'localhost'))
        if fault['kind'] == 'redirect'
        else {}
    )
    server.fail('*x_results*', **fault, **elsewhere)
    if words is None:
        with pytest.raises(ValueError, match='not a version of the SDSS reduction'):
            plan_download(query_catalog('b23', skyserver=server.url))
    else:
        with pytest.raises(SurveyError, match=words):
            query_catalog('b23', skyserver=server.url, tries=2, pause=0.01, timeout=2)


def test_an_error_in_the_query_is_reported(server, monkeypatch):
    monkeypatch.setitem(
        __import__('specanom.query').query.SELECTIONS, 'b23', 's.colour = 1'
    )
    with pytest.raises(SurveyError, match="Invalid column name 'colour'"):
        query_catalog('b23', skyserver=server.url)


def test_an_interrupted_query_goes_on(server):
    "Pages that came are kept."
    server.fail('*x_results*', 'status', skip=3)
    with pytest.raises(SurveyError):
        query_catalog('b23', skyserver=server.url, page=5, tries=1)
    assert 'specObjID > 0 ' in server.requests[0].path
    server.forget()
    assert len(query_catalog('b23', skyserver=server.url, page=5)) > 15
    assert 'specObjID > 0 ' not in ' '.join(r.path for r in server.requests)


def test_the_last_row_without_a_final_newline(server, catalog, monkeypatch, tmp_path):
    "It is asked for again, in the pages of a selection and in the short answers about single objects."
    import specanom.query as query

    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'other'))
    names = [(r['plate'], r['mjd'], r['fiberid']) for r in catalog[:3]]
    which = ' OR '.join(
        f'(s.plate = {p} AND s.mjd = {m} AND s.fiberID = {f})' for p, m, f in names
    )
    sql = f"SELECT TOP 10 {query._COLUMNS.format(z='s.z')} FROM {query._TABLES} WHERE ({which}) ORDER BY s.specObjID"
    monkeypatch.setattr(query, '_known_sql', lambda: [sql])
    server.fail('*x_results*', 'raw', reply=lambda body: [http(body.rstrip(b'\n'))])
    again = query_catalog(
        'b23', n=1, known=True, skyserver=server.url, page=5, tries=2, pause=0.01
    )
    assert set(again['specobjid'].tolist()) >= set(catalog['specobjid'][:3].tolist())


@pytest.mark.parametrize('again', [0, 1, 3])
def test_a_row_sent_twice_is_one_row(server, catalog, monkeypatch, tmp_path, again):
    "Beside its twin or elsewhere in the page; two rows of one id that differ are refused by name."
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'other'))
    ask = dict(skyserver=server.url, page=1000, tries=1, pause=0.01)
    server.fail('*x_results*', 'raw', reply=rows(lambda x: x[: 3 + again] + x[2:]))
    assert (
        query_catalog('b23', **ask)['specobjid'].tolist()
        == catalog['specobjid'].tolist()
    )
    server.forget()
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'third'))
    other = rows(lambda x: [*x, x[-1].replace('GALAXY', 'QSO')])
    server.fail('*x_results*', 'raw', reply=other)
    with pytest.raises(SurveyError, match='not in the order'):
        query_catalog('b23', **ask)


def test_another_host_is_not_asked(server, archive, catalog, tmp_path):
    "A redirection is looked at before it is followed, for pages and for files."
    with ReplayServer(archive) as other:
        where = other.url.replace('127.0.0.1', 'localhost')
        server.fail('*', 'redirect', location=where)
        with pytest.raises(SurveyError, match='neither the same host nor https'):
            query_catalog('o25', skyserver=server.url, tries=2, pause=0.01)
        data = fetch(catalog[:3], tmp_path / 's', server)
        assert len(data) == 0 and all(
            'neither the same host nor https' in r for r in data.rejected['reason']
        )
        assert not other.requests


def test_a_damaged_page_of_the_cache_is_asked_for_again(server, catalog, tmp_path):
    for path in (tmp_path / 'cache/query').iterdir():
        path.write_text('%ECSV, once')
    assert (
        query_catalog('b23', skyserver=server.url)['specobjid'].tolist()
        == catalog['specobjid'].tolist()
    )


# ---------------------------------------------------------------- the spectra


@pytest.mark.parametrize('layout', ['lite', 'plate'])
def test_what_arrives_is_what_was_observed(server, archive, catalog, tmp_path, layout):
    "Both layouts give the same store, bit for bit that of the files; the catalogue is that of the query."
    data = fetch(catalog, tmp_path / layout, server, layout=layout)
    direct = read_spectra(
        [
            p
            for p in (archive / 'sas').rglob('*/lite/*/spec-*.fits')
            if int(p.name[5:9]) != BOSS_PLATE
        ]
    )
    keep = np.isin(direct.catalog['specobjid'], catalog['specobjid'])
    direct = direct[keep]
    same(data, direct[np.argsort(direct.catalog['specobjid'])])
    assert len(data) == len(catalog) and not len(data.rejected)
    np.testing.assert_array_equal(data.catalog['ebv'], catalog['ebv'])
    assert (data.mask[:] > 0).any()


def test_a_release_of_sdss_v(tmp_path, monkeypatch):
    "From release 18 on, files of the surveys before are below one folder; the same arrives."
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'cache'))
    later = make_archive(tmp_path / 'archive', n=12, plates=0, full=0, release=19)
    with ReplayServer(later) as server:
        catalog = query_catalog('b23', skyserver=server.url, release=19)
        data = fetch(catalog, tmp_path / 'lite', server, layout='lite', release=19)
        asked = [str(request) for request in server.requests]
    assert len(data) == len(catalog) > 0 and not len(data.rejected)
    assert any('dr19/prior-surveys/sdss2-dr8-sdss' in request for request in asked)


def test_plate_and_single_files_agree(archive):
    "Every fibre of a plate, flux, ivar, bits and every column that both know."
    pair = next((archive / 'sas').rglob('spPlate-0266*'))
    single = read_spectra(archive / 'sas/dr16/sdss/spectro/redux/26/spectra/lite/0266')
    plate = read_plate(pair, fibers=single.catalog['fiberid'])
    same(plate, single)
    for name in set(single.catalog.colnames) - {
        'file',
        'run2d',
        'survey',
        'platequality',
    }:
        assert (
            plate.catalog[name].tolist() == single.catalog[name].tolist()
            or np.isnan(single.catalog[name]).all()
        ), name
    everything = read_spectra(pair.parent)
    assert (
        len(everything) == 640 and (everything.catalog['objtype'] == 'SKY').sum() > 20
    )


@pytest.mark.parametrize(
    'fault',
    [
        dict(kind='cut', times=1),
        dict(kind='cut', times=1, reset=True),
        dict(kind='cut', times=2, after=1000),
        dict(kind='wrong length', times=1),
        dict(kind='wrong length', times=1, extra=-3000),
        dict(kind='truncated', times=1),
        dict(kind='html', times=1),
        dict(kind='status', status=500, times=2),
        dict(kind='status', status=429, retry_after='1', times=1),
        dict(kind='hang', times=1),
        dict(kind='hang', times=1, after=5000),
        dict(kind='slow', rate=400_000),
        dict(kind='dotdot'),
    ],
    ids=lambda f: ' '.join(str(v) for v in f.values()),
)
def test_passing_trouble_leaves_no_trace(server, catalog, tmp_path, fault):
    "The store is the same as without it, byte for byte."
    clean = fetch(catalog[:8], tmp_path / 'clean', server)
    server.forget()
    server.fail(one(catalog), **fault)
    data = fetch(catalog[:8], tmp_path / 'troubled', server)
    same(data, clean)
    assert files_of(tmp_path / 'troubled') == files_of(tmp_path / 'clean')


def test_a_cut_file_is_continued_not_repeated(server, catalog, tmp_path):
    server.fail(one(catalog), 'cut', times=1, after=100_000)
    fetch(catalog[:8], tmp_path / 's', server)
    ours = [r for r in server.requests if one(catalog).strip('*') in r.path]
    first, second = [r.range for r in ours]
    assert first is None and 80_000 < int(second[6:-1]) <= 100_000
    again = bytes_sent(server) - read_table(tmp_path / 's/manifest.ecsv')['bytes'].sum()
    assert 0 <= again < 2**14


def test_a_file_that_changes_while_it_is_fetched(server, catalog, tmp_path):
    "Its parts are never joined: the second version is fetched from its first byte."
    server.fail(one(catalog), 'cut', times=1, after=100_000)
    server.fail(one(catalog), 'changed', skip=1)
    data = fetch(catalog[:8], tmp_path / 's', server)
    assert len(data) + len(data.rejected) == 8
    assert read_table(tmp_path / 's/manifest.ecsv')['bytes'].min() > 100_000


@pytest.mark.parametrize(
    'fault, reason',
    [
        (dict(kind='status', status=404), 'HTTP 404'),
        (dict(kind='truncated'), 'truncated'),
        (dict(kind='html'), 'not a FITS file'),
        (dict(kind='redirect'), 'neither the same host nor https'),
        (dict(kind='status', status=500), 'HTTP 500'),
        (dict(kind='wrong length'), 'cut after|broke off|shorter'),
    ],
)
def test_a_file_that_stays_bad_is_set_aside(server, catalog, tmp_path, fault, reason):
    import re

    server.fail(one(catalog), **fault)
    data = fetch(catalog[:8], tmp_path / 's', server)
    assert len(data) == 7 and len(data.rejected) == 1
    row = read_table(tmp_path / 's/rejected.ecsv')[0]
    assert spec_name(catalog[3:4])[0] in row['name'] and re.search(
        reason, row['reason']
    ), row['reason']


def test_a_plate_that_stays_bad(server, catalog, tmp_path):
    server.fail('*spZbest-0267*', 'truncated')
    data = fetch(catalog, tmp_path / 's', server, layout='plate')
    lost = catalog['plate'] == 267
    assert (
        lost.any() and len(data) == (~lost).sum() and len(data.rejected) == lost.sum()
    )
    assert all('truncated' in r for r in data.rejected['reason'])


def test_trouble_that_passes_later_is_tried_again_at_the_end(server, catalog, tmp_path):
    server.fail(one(catalog), 'status', times=3, status=500)
    data = fetch(catalog[:8], tmp_path / 's', server)
    assert len(data) == 8


def test_an_archive_that_is_down(server, catalog, tmp_path):
    server.fail('*.fits', 'status', status=503)
    with pytest.raises(SurveyError, match='files in a row'):
        fetch(catalog, tmp_path / 's', server, tries=1)
    server.forget()
    assert len(fetch(catalog, tmp_path / 's', server)) == len(catalog)


def test_the_server_is_not_asked_while_it_wants_peace(server, catalog, tmp_path):
    server.fail('*.fits', 'status', times=1, status=429, retry_after='2')
    start = time.monotonic()
    fetch(catalog[:8], tmp_path / 's', server)
    assert time.monotonic() - start > 1.9


def test_nothing_is_fetched_twice(server, catalog, tmp_path):
    "Not by a second call; not for a larger sample when the files were kept; and a finished file is never overwritten."
    fetch(catalog[:8], tmp_path / 's', server, keep_fits=True)
    kept = sorted((tmp_path / 's/fits').rglob('*.fits'))
    stamps = [p.stat().st_mtime_ns for p in kept]
    server.forget()
    fetch(catalog[:8], tmp_path / 's', server, keep_fits=True)
    assert not server.requests
    data = fetch(catalog[:12], tmp_path / 's', server, keep_fits=True)
    assert (
        len(data) == 12
        and len({r.path for r in server.requests}) == len(server.requests) == 4
    )
    assert [p.stat().st_mtime_ns for p in kept] == stamps


def test_nothing_leaves_the_folder(server, catalog, tmp_path):
    server.fail('*', 'dotdot')
    fetch(catalog[:8], tmp_path / 'a/b/s', server)
    assert [p.name for p in (tmp_path / 'a').iterdir()] == ['b'] and [
        p.name for p in (tmp_path / 'a/b').iterdir()
    ] == ['s']


# ---------------------------------------------------------------- the command


def command(*words, **kwargs):
    return subprocess.Popen(
        [Path(sys.executable).with_name('specanom'), *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_killed_and_started_again(server, catalog, tmp_path):
    "kill -9 in mid-download, several times; the store at the end is that of a download that was left alone."
    write_table(catalog, tmp_path / 'catalog.ecsv')
    words = lambda name: (
        'download',
        tmp_path / 'catalog.ecsv',
        '--sas',
        f'{server.url}/sas',
        '--out',
        tmp_path / name,
        '--jobs',
        2,
        '--layout',
        'lite',
    )
    finish(command(*words('clean')))
    server.forget()
    server.fail('*.fits', 'slow', rate=1_000_000)
    for seconds in (0.3, 0.9):
        process, sent = command(*words('killed')), len(server.requests)
        while len(server.requests) == sent and process.poll() is None:
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = {p.name for p in (tmp_path / 'killed').rglob('*.fits')}
    assert not (tmp_path / 'killed/spectra.zarr').exists() and done
    server.forget()
    said = finish(command(*words('killed'))).split()  # lines break where paths are long
    assert 'spectra, 0 set aside' in ' '.join(said)
    assert not done & {Path(r.path).name for r in server.requests}
    assert files_of(tmp_path / 'killed') == files_of(tmp_path / 'clean')


def test_catalogue_of_somebody_else(server, catalog, tmp_path):
    "SkyServer's names, upper case, a BOM, repeated rows, an id that a spreadsheet has rounded: the same store."
    rows = [
        f"{int(r['specobjid']):.14E},{r['plate']},{r['mjd']},{r['fiberid']},{r['run2d']},{r['z']:.6f},{r['subclass']}"
        for r in catalog[[3, 0, 3, 1]]
    ]
    (tmp_path / 'c.csv').write_text(
        '\ufeffspecObjID,PLATE,Mjd,fiberID,run2d,Z,subClass\n' + '\n'.join(rows),
        encoding='utf-8',
    )
    finish(
        command(
            'download',
            tmp_path / 'c.csv',
            '--sas',
            f'{server.url}/sas',
            '--out',
            tmp_path / 's',
            '--layout',
            'lite',
        )
    )
    same(
        Spectra.read(tmp_path / 's/spectra.zarr'),
        fetch(catalog[[0, 1, 3]], tmp_path / 't', server),
    )
    (tmp_path / 'd.csv').write_text('plate,mjd,fiberID\n266,51602,1\n')
    process = command('download', tmp_path / 'd.csv', '--dry-run')
    assert (
        'no column run2d' in process.communicate(timeout=60)[1]
        and process.returncode == 2
    )


def test_query_dry_run_download_run(server, tmp_path):
    "The way of a new user, from a selection to a store; --source sdss makes the same and says what is missing."
    env = os.environ | dict(SPECANOM_HOME=str(tmp_path / 'home'))
    out = finish(
        command(
            'query',
            'b23',
            '--n',
            12,
            '--portsmouth',
            '--skyserver',
            server.url,
            '--out',
            tmp_path / 'c.ecsv',
            env=env,
        )
    )
    assert (
        '12 objects' in out and 'halpha_ew' in read_table(tmp_path / 'c.ecsv').colnames
    )
    assert '12 spectra in 12 files' in finish(
        command('download', tmp_path / 'c.ecsv', '--dry-run', env=env)
    )
    finish(
        command(
            'download',
            tmp_path / 'c.ecsv',
            '--sas',
            f'{server.url}/sas',
            '--out',
            tmp_path / 'sdss',
            env=env,
        )
    )
    stored = Spectra.read(tmp_path / 'sdss/spectra.zarr')
    process = command(
        'run',
        '--source',
        'sdss',
        '--n',
        12,
        '--set',
        f'query.skyserver="{server.url}"',
        '--set',
        f'query.sas="{server.url}/sas"',
        '--out',
        tmp_path / 'run',
        env=env,
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and 'needed to train' in err
    same(Spectra.read(tmp_path / 'run/download/spectra.zarr'), stored)
    assert '12 spectra in 12 files (0 whole plates), 0.00 GiB, 0 s at' in err


def test_paper_profile_says_its_size_first(server, tmp_path):
    "The whole selection, and what both papers published: how many files, GiB and hours are said before the first file is fetched; a second call says what is missing."
    server.fail('*spec-*', 'status', status=404)
    words = ('run', '--source', 'sdss', '--profile', 'paper', '--published')
    for name, url in (('skyserver', server.url), ('sas', f'{server.url}/sas')):
        words += ('--set', f'query.{name}="{url}"')
    env = os.environ | dict(SPECANOM_HOME=str(tmp_path / 'home'))
    process = command(*words, '--out', tmp_path / 'run', env=env)
    _, err = process.communicate(timeout=120)
    said = re.search(
        r'to fetch +(\d+) spectra in (\d+) files .* GiB, .* at 10 MB/s', err
    )
    assert said and int(said[1]) >= int(said[2]) > 0, err
    assert process.returncode == 2
