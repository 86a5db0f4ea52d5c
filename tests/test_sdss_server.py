"""The server of `sdss_server.py` keeps what it promises: answers of SQL, files and their parts, and every way to misbehave."""

import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.io import fits
from conftest import once
from specanom.surveys import read_spectra
from specanom.write import SKY, write_plate
from sdss_server import (
    BOSS_PLATE,
    CATALOGUE,
    BadQuery,
    Fault,
    ReplayServer,
    archive_survey,
    make_archive,
    redux_folder,
    translate,
)

LITE = '/sas/dr16/sdss/spectro/redux/26/spectra/lite/0266/spec-0266-51602-0001.fits'


@pytest.fixture(scope='module')
def archive():
    return once('sdss-archive', make_archive)


@pytest.fixture(scope='module')
def survey():
    return archive_survey()


@pytest.fixture(scope='module')
def running(archive):
    with ReplayServer(archive) as server:
        yield server


@pytest.fixture
def server(running):
    running.forget()
    yield running
    assert not running.errors


@pytest.fixture
def sdss(server):
    "astroquery, which knows nothing of the server but its address."
    from astroquery import cache_conf
    from astroquery.sdss import SDSS, conf

    with (
        cache_conf.set_temp('cache_active', False),
        conf.set_temp('skyserver_baseurl', server.url),
        conf.set_temp('sas_baseurl', server.url + '/sas'),
    ):
        yield SDSS


def get(server, path, method='GET', timeout=10, **headers):
    request = urllib.request.Request(
        server.url + path,
        method=method,
        headers={k.replace('_', '-'): v for k, v in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(server, sql, form='csv', page=True):
    path = (
        '/dr16/en/tools/search/x_results.aspx'
        if page
        else '/dr16/SkyServerWS/SearchTools/SqlSearch'
    )
    return get(
        server,
        path
        + '?'
        + urllib.parse.urlencode(dict(searchtool='SQL', cmd=sql, format=form)),
    )


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize('kind', ['sdss', 'boss'])
def test_plate_and_spec_files_hold_the_same(kind, archive, survey, tmp_path):
    "Flux, ivar and bits of a spec file are those of its row in spPlate, bit for bit; spZbest has its redshift and class."
    one = survey[survey.catalog['plate'] == (266 if kind == 'sdss' else BOSS_PLATE)]
    redux = archive / 'sas' / redux_folder(one.catalog['run2d'][0])
    folder = redux if kind == 'sdss' else tmp_path
    paths = (
        [
            next(folder.rglob('spPlate-0266-51602.fits')),
            next(folder.rglob('spZbest-0266-51602.fits')),
        ]
        if kind == 'sdss'
        else write_plate(one, folder, kind=kind)
    )
    assert paths[1].parent.name == ('0266' if kind == 'sdss' else 'v5_13_0') and paths[
        1
    ].is_relative_to(paths[0].parent)
    with fits.open(paths[0]) as plate, fits.open(paths[1]) as best:
        flux, rows = plate[0], best[1].data
        assert [h.name for h in plate[1:]] == [
            'IVAR',
            'ANDMASK',
            'ORMASK',
            'WAVEDISP',
            'PLUGMAP',
            'SKY',
        ]
        assert len(rows) == len(plate['PLUGMAP'].data) == flux.shape[0] == {
            'sdss': 640,
            'boss': 1000,
        }[kind] and all(plate[i].shape == flux.shape for i in (1, 2, 3, 4, 6))
        assert [plate[i].header['BITPIX'] for i in range(5)] == [
            -32,
            -32,
            32,
            32,
            -32,
        ] and best[2].shape == flux.shape
        for row in one.catalog:
            at = row['fiberid'] - 1
            with fits.open(
                redux
                / f"spectra/lite/{row['plate']:04d}/spec-{row['plate']:04d}-{row['mjd']}-{row['fiberid']:04d}.fits"
            ) as spec:
                coadd = spec[1].data
                pixel = np.rint(
                    (coadd['loglam'] - flux.header['COEFF0']) / flux.header['COEFF1']
                ).astype(int)
                for name, image in (
                    ('flux', flux),
                    ('ivar', plate['IVAR']),
                    ('and_mask', plate['ANDMASK']),
                ):
                    np.testing.assert_array_equal(coadd[name], image.data[at, pixel])
                assert (plate['IVAR'].data[at] > 0).sum() == (coadd['ivar'] > 0).sum()
                assert spec[0].header['COEFF0'] == flux.header['COEFF0']
                for name in (
                    'Z',
                    'Z_ERR',
                    'ZWARNING',
                    'CLASS',
                    'SUBCLASS',
                    'PLATE',
                    'MJD',
                    'FIBERID',
                ):
                    assert rows[name][at] == spec[2].data[name][0]
            assert (
                plate['PLUGMAP'].data['OBJTYPE'][at] == row['objtype']
                and plate['PLUGMAP'].data['RA'][at] == row['ra']
            )
        empty = ~np.isin(rows['FIBERID'], one.catalog['fiberid'])
        assert (
            empty.sum() == len(rows) - len(one)
            and (plate['IVAR'].data[empty] == 0).all()
            and (rows['ZWARNING'][empty] > 0).all()
        )
        assert (
            set(plate['PLUGMAP'].data['OBJTYPE'][empty]) == {'SKY', 'NA'}
            and (rows['ZWARNING'][rows['OBJTYPE'] == 'SKY'] == SKY).all()
        )


def test_every_spectrum_of_the_catalogue_has_its_file(server, survey):
    "And a directory of the server lists what is in it, no more."

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == 'a':
                found.append(dict(attrs)['href'])

    for plate in set(survey.catalog['plate'].tolist()):
        one, found = survey.catalog[survey.catalog['plate'] == plate], []
        path = f"/sas/{redux_folder(one['run2d'][0])}/spectra/lite/{plate:04d}"
        status, headers, body = get(server, path)  # redirected to the same with a slash
        Links().feed(body.decode())
        assert (
            found[1:]
            == [
                f"spec-{r['plate']:04d}-{r['mjd']}-{r['fiberid']:04d}.fits" for r in one
            ]
            and found[0] == path.rpartition('/')[0] + '/'
        )
        assert body.startswith(b'<html>') and f'Index of {path}'.encode() in body
    assert (
        get(server, '/sas/dr16/sdss/spectro/redux/v5_13_0/spectra/lite/')[0] == 200
    )  # linked, as there
    for outside in (
        f'/sas/../{CATALOGUE}',
        f'/{CATALOGUE}',
        f'/sas/%2e%2e/{CATALOGUE}',
        '/sas/dr16/none',
        '/sas//etc/passwd',
    ):
        assert get(server, outside)[0] == 404


def test_spec_files_read_back(archive, survey):
    "What the project's reader finds in the tree is the survey that was written."
    back = read_spectra(sorted(archive.rglob('lite/*/spec-*.fits')))
    back, ours = (s[np.argsort(s.catalog['specobjid'])] for s in (back, survey))
    for name in ('flux', 'ivar', 'mask'):
        np.testing.assert_array_equal(getattr(back, name), getattr(ours, name))
    for name in (
        'specobjid',
        'plate',
        'mjd',
        'fiberid',
        'run2d',
        'class',
        'zwarning',
        'primtarget',
    ):
        assert (back.catalog[name] == ours.catalog[name]).all()


# ---------------------------------------------------------------- SkyServer

B23 = 'SELECT plate, mjd, fiberid FROM SpecObj WHERE ((legacy_target1 & (2+4+64)) > 0) AND (z > 0) AND zwarning=0'


def test_astroquery_gets_the_catalogue(sdss, survey):
    c = survey.catalog
    table = sdss.query_sql(
        "SELECT specObjID, plate, mjd, fiberID, run2d, [class], subClass, z, zWarning, ra, dec, snMedian FROM dbo.SpecObjAll WITH (nolock) -- all\nORDER BY specObjID",
        data_release=16,
        cache=False,
    )
    order = np.argsort(c['specobjid'])
    assert (table['specObjID'] == c['specobjid'][order]).all() and table[
        'specObjID'
    ].max() > 2**63
    for ours, theirs in (
        ('plate', 'plate'),
        ('fiberid', 'fiberID'),
        ('zwarning', 'zWarning'),
        ('run2d', 'run2d'),
        ('class', 'class'),
    ):
        assert (table[theirs] == c[ours][order]).all()
    np.testing.assert_allclose(table['z'], c['z'][order], rtol=1e-6)
    np.testing.assert_allclose(table['ra'], c['ra'][order], rtol=1e-14)
    wanted = c[
        (c['primary'] == 1)
        & (np.asarray(c['primtarget']) & 70 > 0)
        & (c['zwarning'] == 0)
    ]
    got = sdss.query_sql(B23, data_release=16, cache=False)
    assert len(wanted) == len(got) < len(c) and {
        *map(tuple, wanted['plate', 'mjd', 'fiberid'])
    } == {*map(tuple, got)}
    assert (
        sdss.query_sql(
            'SELECT plate FROM SpecObj WHERE z > 9', data_release=16, cache=False
        )
        is None
    )


def test_astroquery_takes_pages_for_tables(sdss, server):
    "A page and a shortened answer are tables to it: a caller must look at what came. An error in the status it raises."
    from requests.exceptions import ChunkedEncodingError, ConnectionError, HTTPError

    ask = lambda sql='SELECT plate FROM PlateX ORDER BY plate': sdss.query_sql(
        sql, data_release=16, cache=False
    )
    assert ask('SELECT colour FROM SpecObj').colnames == ['<html><head>']
    server.fail('*', 'truncated', 1, after=len('#Table1\nplate\n266\n267\n1'))
    assert ask()['plate'].tolist() == [266, 267, 1]  # of 10247
    for kind, error in (
        ('status', HTTPError),
        ('cut', ChunkedEncodingError),
        ('hang', ConnectionError),
    ):
        server.fail('*', kind, 1, seconds=0.1)
        with pytest.raises(error):
            ask()
    assert ask()['plate'].tolist() == [266, 267, BOSS_PLATE]


def test_astroquery_gets_spectra(sdss, survey):
    "By plate and fibre, through the list of columns that it asks for first."
    (one,) = sdss.get_spectra(
        plate=266, mjd=51602, fiberID=2, data_release=16, cache=False
    )
    np.testing.assert_array_equal(
        one['COADD'].data['flux'],
        survey.flux[1, survey.good[1] | (survey.mask[1] > 0)][: len(one['COADD'].data)],
    )
    assert len(one) == 6


def test_pages_by_id_cover_all(archive, survey):
    "TOP, ORDER BY and a bound on ids go around the cap, which cuts without a word."
    with ReplayServer(archive, cap=7) as server:
        assert ask(server, 'SELECT specObjID FROM SpecObjAll')[2].count(b'\n') == 2 + 7
        ids, last = [], 0
        page = lambda: ask(
            server,
            f'SELECT TOP 6 specObjID FROM SpecObjAll WHERE specObjID > {last} ORDER BY specObjID',
        )[2].split()[2:]
        while rows := page():
            ids += map(int, rows)
            last = ids[-1]
        assert ids == sorted(survey.catalog['specobjid'].tolist())
        unordered = [
            int(x)
            for x in ask(server, 'SELECT specObjID FROM SpecObjAll')[2].split()[2:]
        ]
        assert unordered != sorted(unordered)  # no order is promised without ORDER BY


@pytest.mark.parametrize(
    'sql, expected',
    [
        (
            "SELECT TOP (2) fiberID FROM SpecObj WHERE plate = 266 ORDER BY fiberID DESC",
            ['fiberID', '20', '19'],
        ),
        (
            "select count(*) from specobj where PLATEID > 0 and [SURVEY] = 'SDSS' and mjd*1.0 > .5 and z <= 1",
            ['Column1', '28'],
        ),
        (
            "SELECT COUNT(*) AS n, COUNT(DISTINCT plate) FROM SpecObjAll;",
            ['n,Column1', '40,3'],
        ),
        (
            "SELECT s.ra, p.ra FROM SpecObj AS s JOIN PhotoObj AS p ON s.bestObjID = p.objID WHERE s.plate = 0",
            ['ra,ra1'],
        ),
        (
            "SELECT 1.0/3 AS x, isnull(NULL, 'a,b') AS y, NULL AS z /* not there */",
            ['x,y,z', '0.333333333333333,"a,b",'],
        ),
        (
            "SELECT n FROM (SELECT TOP 3 fiberID AS n FROM SpecObj WHERE plate = 266 ORDER BY n) AS t ORDER BY n DESC",
            ['n', '3', '2', '1'],
        ),
        (
            "SELECT q.plateQuality, COUNT(*) AS n FROM SpecObj s JOIN PlateX q ON s.plateID = q.plateID GROUP BY q.plateQuality",
            ['plateQuality,n', 'good,38'],
        ),
        (
            "SELECT s.fiberID FROM SpecObj s JOIN emissionLinesPort e ON s.specObjID = e.specObjID WHERE s.specObjID = 299489676975171584",
            ['fiberID', '1'],
        ),
        (
            "SELECT fiberID FROM SpecObj WHERE specObjID IN (299489676975171584, '299489951853078528') ORDER BY 1",
            ['fiberID', '1', '2'],
        ),
        (
            "SELECT COUNT(*) AS n FROM SpecObj WHERE specObjID BETWEEN 9223372036854775808 AND 18446744073709551615",
            ['n', '10'],
        ),
        (
            "SELECT MIN(specObjID) AS first, MAX(plate) AS last FROM SpecObj",
            ['first,last', '299489676975171584,10247'],
        ),
    ],
)
def test_sql(server, sql, expected):
    assert ask(server, sql)[2].decode().splitlines() == ['#Table1', *expected]


@pytest.mark.parametrize(
    'sql, words',
    [
        ('SELECT s.colour FROM SpecObj s', "Invalid column name 'colour'."),
        ('SELECT plate FROM Nowhere', "Invalid object name 'Nowhere'."),
        ('SELECT plate FROM SpecObj WHERE AND', "Incorrect syntax near 'AND'."),
        ('DROP TABLE SpecObjAll', 'Only SELECT'),
        ('', 'no SQL command'),
        ('SELECT 1; DELETE FROM SpecObjAll', 'Multiple'),
        ('SELECT plate INTO mine FROM SpecObj', 'Only SELECT'),
        ('WITH x AS (SELECT 1 AS a) DELETE FROM SpecObjAll', ''),
        ("SELECT load_extension('x')", ''),
        ('SELECT TOP x plate FROM SpecObj', "Incorrect syntax near 'x'"),
        ('SELECT TOP', "near 'TOP'"),
        ("SELECT plate FROM pragma_table_info('SpecObjAll')", ''),
    ],
)
def test_errors(server, sql, words):
    "The page that astroquery asks calls an error a success; the web service does not."
    status, headers, page = ask(server, sql)
    assert (status, headers['Content-Type']) == (
        200,
        'text/html',
    ) and b'<title>SDSS error message</title>' in page
    status, headers, body = ask(server, sql, page=False)
    assert (
        status == 500
        and 'json' in headers['Content-Type']
        and words in json.loads(body)['ErrorMessage']
    )
    assert ask(server, 'SELECT COUNT(*) AS n FROM SpecObjAll')[2] == b'#Table1\nn\n40\n'


def test_json_and_web_page(server, survey):
    tables = json.loads(
        ask(
            server,
            'SELECT TOP 1 specObjID, run2d, z, run1d FROM SpecObj WHERE plate = 10247 ORDER BY specObjID',
            'json',
        )[2]
    )
    row = tables[0]['Rows'][0]
    assert [t['TableName'] for t in tables] == ['Table1', 'SqlQuery'] and row[
        'run2d'
    ] == 'v5_13_0'
    assert (
        row['specObjID']
        == survey.catalog['specobjid'][survey.catalog['plate'] == 10247][0]
        and abs(row['z'] - survey.catalog['z'][30]) < 1e-6
    )
    assert {
        ask(server, 'SELECT plate FROM PlateX', form)[1]['Content-Length']
        for form in ('csv', 'json')
    } == {None}  # the server does not know it
    assert (
        b'<td nowrap>' in ask(server, 'SELECT plate FROM PlateX', 'html')[2]
        and b'SDSS error' in ask(server, 'SELECT 1', 'votable')[2]
    )


def test_slow_query_ends(archive):
    with ReplayServer(archive, timeout=0.2, longest_query=500) as server:
        start = time.monotonic()
        status, _, body = ask(
            server,
            'SELECT COUNT(*) FROM SpecObjAll a, SpecObjAll b, SpecObjAll c, SpecObjAll d, SpecObjAll e',
            page=False,
        )
        assert (
            status == 500
            and 'Timeout Expired' in json.loads(body)['ErrorMessage']
            and time.monotonic() - start < 5
        )
        assert (
            ask(
                server, 'SELECT plate FROM PlateX WHERE plate IN (' + '1,' * 500 + '1)'
            )[0]
            == 400
        )
        assert ask(server, 'SELECT COUNT(*) AS n FROM PlateX')[2] == b'#Table1\nn\n3\n'


def test_translate():
    assert (
        translate('SELECT DISTINCT TOP 5 a FROM dbo.T ORDER BY a')
        == 'SELECT DISTINCT a FROM T ORDER BY a LIMIT 5'
    )
    assert (
        translate("SELECT 'TOP 5 -- dbo.' FROM T WHERE id=18446744073709551615")
        == "SELECT 'TOP 5 -- dbo.' FROM T WHERE id = '18446744073709551615'"
    )
    with pytest.raises(BadQuery):
        translate('EXEC x')


# ---------------------------------------------------------------- files and their parts


def test_whole_file_and_parts(server, archive):
    whole = (archive / LITE[1:]).read_bytes()
    status, headers, body = get(server, LITE)
    assert (
        status == 200
        and body == whole
        and headers['Accept-Ranges'] == 'bytes'
        and int(headers['Content-Length']) == len(whole)
    )
    tag, date = headers['ETag'], headers['Last-Modified']
    for span, first, last in (
        ('bytes=100-', 100, len(whole)),
        ('bytes=5-9', 5, 10),
        ('bytes=-7', len(whole) - 7, len(whole)),
        ('bytes=0-99999999', 0, len(whole)),
    ):
        status, headers, body = get(server, LITE, Range=span)
        assert (status, body, headers['Content-Range']) == (
            206,
            whole[first:last],
            f'bytes {first}-{last - 1}/{len(whole)}',
        )
    status, headers, _ = get(server, LITE, Range=f'bytes={len(whole)}-')
    assert (status, headers['Content-Range']) == (416, f'bytes */{len(whole)}')
    assert (
        get(server, LITE, Range='bytes=9-', If_Range=tag)[0]
        == get(server, LITE, Range='bytes=9-', If_Range=date)[0]
        == 206
    )
    status, _, body = get(server, LITE, Range='bytes=9-', If_Range='"another"')
    assert (status, body) == (200, whole)
    assert (
        get(server, LITE, If_None_Match=tag)[0]
        == get(server, LITE, If_Modified_Since=date)[0]
        == 304
    )
    status, headers, body = get(server, LITE, 'HEAD')
    assert (status, body, headers['ETag'], int(headers['Content-Length'])) == (
        200,
        b'',
        tag,
        len(whole),
    )


def test_log(server, archive):
    "Every request, the bytes of its body, in order."
    size = (archive / LITE[1:]).stat().st_size
    get(server, LITE)
    get(server, LITE, Range='bytes=10-')
    get(server, LITE, 'HEAD')
    get(server, '/sas/nothing')
    ask(server, 'SELECT 1 AS a')
    assert server.requests[:3] == [
        ('GET', LITE, None, size),
        ('GET', LITE, 'bytes=10-', size - 10),
        ('HEAD', LITE, None, 0),
    ]
    assert server.requests[4].path.endswith(
        'cmd=SELECT 1 AS a&format=csv'
    ) and server.requests[4].sent == len(b'#Table1\na\n1\n')


def test_many_at_once(server, archive):
    paths = [
        '/' + p.relative_to(archive).as_posix()
        for p in sorted((archive / 'sas').rglob('lite/*/spec-*.fits'))
    ]
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda p: get(server, p)[2], paths))
    assert [(archive / p[1:]).read_bytes() for p in paths] == bodies and len(
        server.requests
    ) == len(paths) == 40
    assert (
        1 <= server.peak <= 8
        and server.busy == 0
        and (np.diff(server.times) >= 0).all()
    )
    server.forget()
    server.fail('*', 'slow', seconds=0.5, rate=1e9)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda p: get(server, p), paths[:3]))
    assert server.peak == 3
    server.forget()
    [get(server, p) for p in paths]
    assert server.peak == 1  # one after the other


# ---------------------------------------------------------------- misbehaviour


def test_times_and_skip(server):
    "One fault after the other, then peace; the first of the list that is ready is taken."
    server.fail('*0001.fits', 'status', 1, status=429, retry_after=7)
    server.fail('*/lite/*', 'status', 2)
    server.fail('*/lite/*', 'status', 1, skip=4, status=503)
    answers = [get(server, LITE) for _ in range(6)]
    assert (
        [a[0] for a in answers] == [429, 500, 500, 200, 503, 200]
        and answers[0][1]['Retry-After'] == '7'
        and answers[1][1]['Retry-After'] is None
    )
    server.fail('*x_results*SpecObj*', 'status', status=503)
    assert (
        ask(server, 'SELECT plate FROM SpecObj')[0] == 503
        and ask(server, 'SELECT plate FROM PlateX')[0] == 200
    )
    with pytest.raises(ValueError, match="no fault 'tired'"):
        server.fail('*', 'tired')


def test_cut_then_resumed(server, archive):
    whole = (archive / LITE[1:]).read_bytes()
    server.fail(LITE, 'cut', 1, after=50_000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(server, LITE)
    assert caught.value.partial == whole[:50_000]
    assert caught.value.partial + get(server, LITE, Range='bytes=50000-')[2] == whole
    assert [r.sent for r in server.requests] == [50_000, len(whole) - 50_000]
    server.fail(LITE, 'cut', 1, after=0, reset=True)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        get(server, LITE)


def test_changed_between_requests(server):
    "Cut, and by the time of the second request the file is another: If-Range brings the whole new one."
    server.fail(LITE, 'cut', 1)
    server.fail(LITE, 'changed')
    connection = http.client.HTTPConnection(server.url[7:])
    connection.request('GET', LITE)
    tag = (answer := connection.getresponse()).headers['ETag']
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    status, headers, new = get(server, LITE, Range='bytes=100-', If_Range=tag)
    assert status == 200 and headers['ETag'] != tag
    server.forget()
    status, headers, old = get(server, LITE)
    assert (
        headers['ETag'] == tag
        and len(old) == len(new)
        and sum(a != b for a, b in zip(old, new)) == 1
    )
    with fits.open(io.BytesIO(new)) as hdus:
        assert hdus[1].name == 'COADD'


def test_wrong_length_and_truncated(server, archive):
    whole = (archive / LITE[1:]).read_bytes()
    server.fail(LITE, 'wrong length', 1)
    with pytest.raises(http.client.IncompleteRead):
        get(server, LITE)
    server.fail(LITE, 'wrong length', 1, extra=-1000)
    assert (
        get(server, LITE)[2] == whole[:-1000]
    )  # the client stops where the header says
    server.fail(LITE, 'truncated', after=30_000)
    for _ in range(2):
        status, headers, body = get(server, LITE)
        assert (status, headers['Content-Length'], body) == (
            200,
            '30000',
            whole[:30_000],
        )
    assert get(server, LITE, Range='bytes=30000-')[0] == 416
    server.fail('*x_results*', 'truncated', after=12)
    assert ask(server, 'SELECT plate FROM PlateX')[2] == b'#Table1\nplat'


def test_page_redirect_and_names(server):
    server.fail(LITE, 'html', 1)
    status, headers, body = get(server, LITE)
    assert (status, headers['Content-Type'][:9]) == (
        200,
        'text/html',
    ) and b'<html>' in body
    server.fail(LITE, 'redirect', 1, location='http://other.invalid')
    connection = http.client.HTTPConnection(server.url[7:])
    connection.request('GET', LITE)
    assert (answer := connection.getresponse()).status == 302 and answer.headers[
        'Location'
    ] == 'http://other.invalid' + LITE
    connection.close()
    server.fail('*', 'dotdot', name='../../../escape.fits')
    assert (
        b'<a href="../../../escape.fits">'
        in get(server, LITE.rpartition('/')[0] + '/')[2]
    )
    assert '../../../escape.fits' in get(server, LITE)[1]['Content-Disposition']
    assert (
        ask(server, 'SELECT run2d, plate FROM PlateX WHERE plate < 300 ORDER BY plate')[
            2
        ]
        == b'#Table1\nrun2d,plate\n../../../escape.fits,266\n26,267\n'
    )


def test_slow_and_hanging(server, archive):
    whole = (archive / LITE[1:]).read_bytes()
    server.fail(LITE, 'slow', 1, rate=4 * len(whole))
    start = time.monotonic()
    assert get(server, LITE)[2] == whole and 0.15 < time.monotonic() - start < 5
    server.fail(LITE, 'hang', 1)
    with pytest.raises(TimeoutError):
        get(server, LITE, timeout=0.2)
    server.fail(LITE, 'hang', 1, after=1000)  # silent in mid-file
    with pytest.raises(TimeoutError):
        get(server, LITE, timeout=0.2)
    server.fail(LITE, 'hang', 1, seconds=0.1)
    with pytest.raises(http.client.RemoteDisconnected):
        get(server, LITE)
    assert get(server, LITE)[2] == whole


def test_fault_is_for_one_method(server):
    server.faults.append(Fault('*', 'status', method='HEAD'))
    assert get(server, LITE)[0] == 200 and get(server, LITE, 'HEAD')[0] == 500
