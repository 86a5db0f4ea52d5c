"""A local copy of what SkyServer and the SAS speak, for tests, with mock data: python tests/sdss_server.py FOLDER --port 8016

`make_archive` writes a mock survey as the archive holds the real one, `ReplayServer` serves it and misbehaves when told to.
What it imitates: SkyServer's SQL search as in the public source of its web service (github.com/sciserver/SkyServerWS: the
CSV and JSON writers, the error page, names of unnamed columns), the SAS tree and plate files as in the SDSS data model.
What it does not: cross-identification, MyDB, functions of the database other than fDocColumns, formats other than csv, json, html.
"""

import argparse
import fnmatch
import html
import io
import itertools
import json
import os
import re
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit

import numpy as np
from astropy.io import fits
from astropy.table import Table

from specanom.objects import make_specobjid
from specanom.spectra import Spectra
from specanom.bits import run2d_code
from specanom.mock import mock_survey
from specanom.write import write_plate, write_spec

# ---------------------------------------------------------------- the archive: files and catalogue

CATALOGUE = 'catalogue.fits'  # Beside the tree of files, not in it
RELEASED = 1575763200  # All files were released at one time: 2019-12-08, when DR16 was
BOSS_PLATE, BOSS_MJD, BOSS_RUN2D = 10247, 58162, 'v5_13_0'


def redux_folder(run2d: str, release: int = 16) -> str:
    "Where the SAS keeps a reduction, below its root; from DR18 on the tree has another order."
    legacy = str(run2d).isdigit()
    if release > 17:
        survey = 'sdss2-dr8-sdss' if legacy else 'sdss4-dr17-eboss'
        return f'dr{release}/prior-surveys/{survey}/spectro/redux/{run2d}'
    survey = 'sdss' if legacy else 'eboss'
    return f'dr{release}/{survey}/spectro/redux/{run2d}'


def archive_survey(n: int = 40, rng: int = 0) -> Spectra:
    "A mock survey with what a catalogue must be able to hold: two SDSS plates, a BOSS plate with ids above 2**63, repeats, bad redshifts."
    if n < 10:
        raise ValueError(f'the archive needs at least 10 objects, not n={n}')
    whole, first, second = mock_survey(1280, rng=rng), n - 2 * (n // 4), n // 4
    if first > 640:
        raise ValueError(f'at most 1280 objects, not n={n}')
    boss = whole[640 + second : 640 + 2 * second]
    (
        boss.catalog['plate'],
        boss.catalog['mjd'],
        boss.catalog['run2d'],
        boss.catalog['survey'],
        boss.catalog['primtarget'],
    ) = BOSS_PLATE, BOSS_MJD, BOSS_RUN2D, 'eboss', 0
    sdss = Spectra.concatenate([whole[:first], whole[640 : 640 + second]])
    sdss.catalog['survey'] = 'sdss'
    both = Spectra.concatenate([sdss, boss])
    c = both.catalog
    c['zwarning'][[2, first + 1]] = 4  # SMALL_DELTA_CHI2
    c['specobjid'] = np.concatenate(
        [
            make_specobjid(
                r['plate'], r['mjd'], np.array([r['fiberid']]), run2d_code(r['run2d'])
            )
            for r in c
        ]
    )
    c['primary'] = 1
    c['primary'][first + second - 2 : first + second] = 0  # observed again elsewhere
    return both


def make_archive(
    folder: Path,  # Made if missing
    n: int = 40,  # Number of spectra
    rng: int = 0,  # Seed
    *,
    plates: int = 1,  # How many plates are written whole, too: 266 and 267 of SDSS, then 10247 of BOSS; 60 MB and more each
    full: int = 2,  # How many spectra of each plate are written as full files, too
    release: int = 16,  # Of which the tree has the order
) -> Path:  # The folder, for `ReplayServer`
    "Write a mock survey in the tree of the SAS, and the catalogue that SkyServer would hold of it."
    folder, survey = Path(folder), archive_survey(n, rng)
    for i, plate in enumerate(sorted(set(survey.catalog['plate'].tolist()))):
        one = survey[survey.catalog['plate'] == plate]
        run2d = one.catalog['run2d'][0]
        kind, redux = (
            'sdss' if run2d.isdigit() else 'boss',
            folder / 'sas' / redux_folder(run2d, release),
        )
        write_spec(
            one, redux / 'spectra/lite' / f'{plate:04d}', layout='lite', kind=kind
        )
        if full:
            write_spec(
                one[:full],
                redux
                / ('spectra' if kind == 'sdss' else 'spectra/full')
                / f'{plate:04d}',
                layout='full',
                kind=kind,
            )
        if i < plates:
            write_plate(one, redux, kind=kind)
    if release < 18:  # the SAS links it there
        legacy = folder / f'sas/dr{release}/sdss/spectro/redux'
        (legacy / BOSS_RUN2D).symlink_to(f'../../../eboss/spectro/redux/{BOSS_RUN2D}')
    catalogue_hdus(survey, rng).writeto(folder / CATALOGUE)
    for path in (folder / 'sas').rglob('*'):
        os.utime(path, (RELEASED, RELEASED))
    return folder


EXTINCTION = dict(
    u=4.239, g=3.303, r=2.285, i=1.698, z=1.263
)  # A/E(B-V), Schlafly & Finkbeiner (2011), R_V = 3.1


def _line_table(survey: Spectra) -> Table:
    "emissionLinesPort: what the mock survey knows of the lines of its galaxies, in the units of the Portsmouth catalogue."
    c, wave = survey.catalog, survey.wave
    near = np.abs(wave / (1 + c['true_z'][:, None]) - 6565) < 100
    usable = np.where(near & survey.good, survey.flux, np.nan)
    continuum = np.nanmedian(
        np.where(np.isfinite(usable).any(1)[:, None], usable, 0), axis=1
    )
    ha = np.maximum(c['true_halpha_ew'], 0) * continuum
    flux = dict(
        Ha_6562=ha,
        Hb_4861=ha / 2.86,
        NII_6583=ha * 10 ** c['true_n2ha'],
        OIII_5006=ha / 2.86 * 10 ** c['true_o3hb'],
    )
    n2, o3 = c['true_n2ha'], c['true_o3hb']
    sf = (n2 < 0.05) & (
        o3 < 0.61 / np.minimum(n2 - 0.05, -1e-3) + 1.3
    )  # Kauffmann et al. (2003)
    maximal = (n2 < 0.47) & (
        o3 < 0.61 / np.minimum(n2 - 0.47, -1e-3) + 1.19
    )  # Kewley et al. (2001)
    table = Table(
        {
            name: c[name]
            for name in (
                'specobjid',
                'plate',
                'mjd',
                'fiberid',
                'ra',
                'dec',
                'z',
                'zerr',
            )
        }
    )
    table['velStars'], table['sigmaStars'], table['sigmaStarsErr'] = (
        0.0,
        np.asarray(c['vdisp'], float),
        0.1 * c['vdisp'],
    )
    table['bpt'] = np.select(
        [ha < 1, sf, maximal], ['BLANK', 'Star Forming', 'Composite'], 'Seyfert'
    )
    for name, value in flux.items():
        table[f'Flux_{name}'], table[f'Flux_{name}_Err'] = value, 0.05 * value + 1
    table['EW_Ha_6562'], table['EW_Ha_6562_Err'] = (
        c['true_halpha_ew'],
        0.05 * c['true_halpha_ew'] + 0.1,
    )
    return table[c['class'] == 'GALAXY']


def catalogue_hdus(survey: Spectra, rng: int = 0) -> fits.HDUList:
    "The tables of the database, as named there, one HDU each."
    c, random = survey.catalog, np.random.default_rng(rng)
    n, boss = len(c), ~np.char.isdigit(c['run2d'].astype(str))
    photo_id = (
        (2 << 59)
        | (301 << 48)
        | (756 << 32)
        | (1 + np.arange(n) % 6 << 29)
        | (100 + np.arange(n) // 6 << 16)
        | 1 + np.arange(n)
    )
    plate_id = make_specobjid(
        c['plate'], c['mjd'], np.zeros(n, int), [run2d_code(r) for r in c['run2d']]
    )
    measured = np.where(survey.good, survey.wave, np.nan)
    spec = Table(
        dict(
            specObjID=c['specobjid'],
            bestObjID=photo_id,
            plateID=plate_id,
            sciencePrimary=c['primary'],
            legacyPrimary=np.where(boss, 0, c['primary']),
            survey=c['survey'],
            instrument=np.where(boss, 'BOSS', 'SDSS'),
            programname=np.where(boss, 'eboss', 'legacy'),
            plate=c['plate'],
            mjd=c['mjd'],
            fiberID=c['fiberid'],
            run1d=np.where(boss, c['run2d'], ''),
            run2d=c['run2d'],
            legacy_target1=c['primtarget'],
            legacy_target2=np.zeros(n, int),
            special_target1=np.zeros(n, int),
            special_target2=np.zeros(n, int),
            primTarget=c['primtarget'],
            targetType=np.full(n, 'SCIENCE'),
            sourceType=c['objtype'],
            z=c['z'].astype('f4'),
            zErr=c['zerr'],
            zWarning=c['zwarning'],
            subClass=c['subclass'],
            velDisp=c['vdisp'],
            z_noqso=np.where(boss, c['z'], 0).astype('f4'),
            zErr_noqso=np.where(boss, c['zerr'], 0).astype('f4'),
            zWarning_noqso=np.where(boss, c['zwarning'], 0),
            class_noqso=np.where(boss, 'GALAXY', ''),
            snMedian=c['sn_median'],
            waveMin=np.nanmin(measured, axis=1).astype('f4'),
            waveMax=np.nanmax(measured, axis=1).astype('f4'),
            ra=c['ra'],
            dec=c['dec'],
        )
        | {'class': c['class']}
    )
    first = np.unique(plate_id, return_index=True)[1]
    plate = Table(
        dict(
            plateID=plate_id,
            plate=c['plate'],
            mjd=c['mjd'],
            run2d=c['run2d'],
            run1d=spec['run1d'],
            survey=c['survey'],
            programName=spec['programname'],
            plateQuality=c['platequality'],
        )
    )[first]
    reddening = random.exponential(0.03, n)
    photo = Table(
        dict(
            objID=photo_id,
            ra=c['ra'],
            dec=c['dec'],
            run=photo_id >> 32 & 0xFFFF,
            rerun=np.full(n, 301),
            camcol=photo_id >> 29 & 7,
            field=photo_id >> 16 & 0xFFF,
            obj=photo_id & 0xFFFF,
            mode=np.ones(n, int),
            type=np.full(n, 3),
            clean=np.ones(n, int),
            fiberMag_r=c['true_fibermag'].astype('f4'),
            specObjID=c['specobjid'],
            **{
                f'extinction_{b}': (a * reddening).astype('f4')
                for b, a in EXTINCTION.items()
            },
        )
    )
    tables = dict(
        SpecObjAll=spec,
        PlateX=plate,
        PhotoObjAll=photo,
        emissionLinesPort=_line_table(survey),
    )
    shuffled = {
        name: t[random.permutation(len(t))] for name, t in tables.items()
    }  # without ORDER BY no order is promised
    return fits.HDUList(
        [fits.PrimaryHDU()]
        + [fits.BinTableHDU(t, name=name) for name, t in shuffled.items()]
    )


# ---------------------------------------------------------------- SkyServer: T-SQL on SQLite

CAP = 500_000
VIEWS = {
    'SpecObj': ('SpecObjAll', 'sciencePrimary = 1'),
    'PhotoObj': ('PhotoObjAll', 'mode IN (1, 2)'),
    'PhotoPrimary': ('PhotoObjAll', 'mode = 1'),
}
_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\[[^\]]*\]|"[^"]*"|0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|(?<![\w\]])\.\d+)(?:[eE][-+]?\d+)?|[\w@#$]+|<=|>=|<>|!=|\|\||\S""",
    re.S,
)


class BadQuery(ValueError):
    "What the database says of a query that it does not run."


def translate(sql: str) -> str:
    "T-SQL as SkyServer takes it, in the words of SQLite. Raises `BadQuery` for anything but one SELECT."
    tokens = [t for t in _TOKEN.findall(sql) if not t.startswith(('--', '/*'))]
    while tokens and tokens[-1] == ';':
        tokens.pop()
    upper = [t.upper() for t in tokens] + [''] * 6
    if not tokens:
        raise BadQuery('no SQL command was given')
    if ';' in tokens:
        raise BadQuery('Multiple statements are not allowed.')
    if upper[0] not in ('SELECT', 'WITH') or 'INTO' in upper:
        raise BadQuery(f"Only SELECT statements are allowed, not '{tokens[0]}'.")
    out, limits, i = [], [None], 0
    while i < len(tokens):
        word, skip = upper[i], 1
        if word == 'DBO' and upper[i + 1] == '.':
            skip = 2
        elif word == 'WITH' and upper[i + 1] == '(' and ')' in tokens[i:]:
            skip = tokens.index(')', i) + 1 - i  # WITH (NOLOCK)
        elif word == '(' and upper[i + 1 : i + 3] == ['NOLOCK', ')']:
            skip = 3
        elif word == 'TOP' and upper[i - 1] in ('SELECT', 'DISTINCT', 'ALL'):
            skip = 4 if upper[i + 1] == '(' else 2
            limits[-1] = upper[i + skip // 2]
            if not limits[-1].isdigit():
                raise BadQuery(f"Incorrect syntax near '{tokens[i : i + 2][-1]}'.")
        elif word == 'FDOCCOLUMNS' and upper[i + 1] == '(' and upper[i + 3] == ')':
            out.append(
                f'(SELECT name, type, description FROM DocColumns WHERE tablename = {tokens[i + 2]})'
            )
            skip = 4
        else:
            if word == '(':
                limits.append(None)
            if word == ')' and len(limits) > 1:
                out += _limit(limits.pop())
            if word == 'ISNULL' and upper[i + 1] == '(':
                out.append('ifnull')
            elif word.isdigit() and len(word) > 15:
                out.append(f"'{word}'")  # an id: may be above 2**63, see `_compare_ids`
            else:
                out.append(tokens[i])
        i += skip
    return ' '.join(out + _limit(limits[0]))


def _limit(n) -> list:
    return [] if n is None else ['LIMIT', n]


def _compare_ids(a: str, b: str) -> int:
    "SQLite's integers end at 2**63 and ids do not: they are kept as text that compares as numbers."
    a, b = (int(x) if x.isdigit() else 0 for x in (a, b))
    return (a > b) - (a < b)


class Database:
    "The tables of an archive in memory, asked in T-SQL. One query at a time, as long as `timeout` seconds, no more than `cap` rows."

    def __init__(self, path: Path, cap: int = CAP, timeout: float = 600.0):
        self.cap, self.timeout, self._lock = cap, timeout, threading.Lock()
        self._db = sqlite3.connect(':memory:', check_same_thread=False)
        self._db.create_collation('ID', _compare_ids)
        for name, function, count in (
            ('log', np.log, 1),
            ('log10', np.log10, 1),
            ('power', pow, 2),
            ('square', lambda x: x * x, 1),
            ('sqrt', np.sqrt, 1),
        ):
            self._db.create_function(
                name,
                count,
                lambda *x, f=function: None if None in x else float(f(*x)),
                deterministic=True,
            )
        self._db.execute(
            'CREATE TABLE DocColumns (tablename TEXT COLLATE NOCASE, name, type, description)'
        )
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus[1:]:
                self._fill(hdu)
        for view, (table, condition) in VIEWS.items():
            self._db.execute(
                f'CREATE VIEW {view} AS SELECT * FROM {table} WHERE {condition}'
            )
            self._db.execute(
                'INSERT INTO DocColumns SELECT ?, name, type, description FROM DocColumns WHERE tablename = ?',
                (view, table),
            )
        self._db.execute(
            'PRAGMA short_column_names = OFF'
        )  # a column is called as the query calls it
        allowed = {
            sqlite3.SQLITE_SELECT,
            sqlite3.SQLITE_READ,
            sqlite3.SQLITE_FUNCTION,
            getattr(sqlite3, 'SQLITE_RECURSIVE', 33),
        }
        self._db.set_authorizer(
            lambda action, *_: (
                sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY
            )
        )

    def _fill(self, hdu):
        "One table. Floats of 4 bytes keep the 7 digits that the server prints; text compares without regard to case."
        name = {
            k.upper(): k
            for k in ('SpecObjAll', 'PlateX', 'PhotoObjAll', 'emissionLinesPort')
        }.get(hdu.name, hdu.name)
        kinds, values = [], []
        for column in hdu.columns.names:
            data = hdu.data[column]
            if column.lower() in ('specobjid', 'plateid'):
                kinds.append('TEXT COLLATE ID')
                values.append([str(int(x)) for x in data])
            elif data.dtype.kind == 'U':
                kinds.append('TEXT COLLATE NOCASE')
                values.append([x.strip() for x in data])
            elif data.dtype.kind == 'f':
                kinds.append('REAL')
                values.append(
                    [float(f'{x:.7g}') for x in data]
                    if data.dtype.itemsize == 4
                    else data.tolist()
                )
            else:
                kinds.append('INTEGER')
                values.append(data.tolist())
        types = {
            'TEXT COLLATE ID': 'numeric',
            'TEXT COLLATE NOCASE': 'varchar',
            'REAL': 'float',
            'INTEGER': 'bigint',
        }
        self._db.execute(
            f'CREATE TABLE {name} ('
            + ', '.join(f'[{c}] {k}' for c, k in zip(hdu.columns.names, kinds))
            + ')'
        )
        self._db.executemany(
            f'INSERT INTO {name} VALUES ({", ".join("?" * len(kinds))})', zip(*values)
        )
        self._db.executemany(
            'INSERT INTO DocColumns VALUES (?, ?, ?, ?)',
            [(name, c, types[k], '') for c, k in zip(hdu.columns.names, kinds)],
        )

    def query(self, sql: str) -> tuple[list, list]:  # Names of columns, rows
        "The first `cap` rows: like the real one, it does not say that there were more. Raises `BadQuery`."
        translated, end = translate(sql), time.monotonic() + self.timeout
        with self._lock:
            self._db.set_progress_handler(lambda: time.monotonic() > end, 1000)
            try:
                cursor = self._db.execute(translated)
                rows = cursor.fetchmany(self.cap)
            except (sqlite3.Error, sqlite3.Warning) as error:
                raise BadQuery(_words_of_sql_server(str(error))) from None
            return _names(column[0] for column in cursor.description), rows


def _words_of_sql_server(error: str) -> str:
    if error == 'interrupted':
        return 'Execution Timeout Expired.  The timeout period elapsed prior to completion of the operation or the server is not responding.'
    for pattern, words in (
        (r'no such column: (?:\S+\.)?(\S+)', "Invalid column name '{}'."),
        (r'no such table: (\S+)', "Invalid object name '{}'."),
        (r'near "(.+)": syntax error', "Incorrect syntax near '{}'."),
        (
            r'no such function: (\S+)',
            "'{}' is not a recognized built-in function name.",
        ),
    ):
        if found := re.match(pattern, error):
            return words.format(found[1])
    return error


def _names(written) -> list:
    "Names of columns: without their table; expressions without a name are Column1, ...; a name that comes again gets a number."
    out, unnamed = [], itertools.count(1)
    for text in written:
        last = re.fullmatch(r'(?:[\w\[\]"]+ ?\. ?)*[\["]?(\w+)[\]"]?', text)
        name = last[1] if last and not text.isdigit() else f'Column{next(unnamed)}'
        taken = {n.lower() for n in out}
        out.append(
            next(
                n
                for n in itertools.chain(
                    [name], (f'{name}{i}' for i in itertools.count(1))
                )
                if n.lower() not in taken
            )
        )
    return out


def _escape(text: str) -> str:
    return html.escape(text).replace('&#x27;', '&#39;')  # as .NET does


def _print(value) -> str:
    return (
        ''
        if value is None
        else f'{value:.15G}'
        if isinstance(value, float)
        else str(value)
    )


def _csv(names, rows, sql) -> str:
    cell = lambda v: f'"{v}"' if isinstance(v, str) and ',' in v else _print(v)
    return '\n'.join(
        ['#Table1', ','.join(names), *(','.join(map(cell, row)) for row in rows), '']
    )


def _is_text(value) -> bool:
    return isinstance(value, str) and not re.fullmatch(
        r'\d{17,20}', value
    )  # ids are numbers


def _json(names, rows, sql) -> str:
    cell = lambda v: (
        'null' if v is None else json.dumps(v) if _is_text(v) else _print(v)
    )
    lines = ',\n'.join(
        '{' + ', '.join(f'"{n}": {cell(v)}' for n, v in zip(names, row)) + '}'
        for row in rows
    )
    return f'[{{"TableName": "Table1", "Rows": [{lines}]}}, {{"TableName": "SqlQuery", "Rows": [{{"query": {json.dumps(sql)}}}]}}]'


def _table_page(names, rows, sql) -> str:
    line = lambda cells: (
        '<tr align=center>'
        + ''.join(
            f'<td nowrap><font size=-1>{_escape(_print(c))}</font></td>' for c in cells
        )
        + '</tr>\n'
    )
    table = (
        f"<table border='1' BGCOLOR=cornsilk>\n{line(names)}{''.join(map(line, rows))}</TABLE>"
        if rows
        else '<h3><br><font color=red>No entries have been found</font> </h3>'
    )
    return f'<html><head>\n<title>SDSS Query Results</title>\n</head><body bgcolor=white>\n<h3>Your SQL command was: <br><pre>{_escape(sql)}</pre></h3>{table}<hr></BODY></HTML>\n'


WRITERS = {
    'csv': (_csv, 'text/plain'),
    'json': (_json, 'application/json'),
    'html': (_table_page, 'text/html'),
}


def _error_page(message, sql) -> str:
    return (
        f'<html><head>\n<title>SDSS error message</title>\n</head><body bgcolor=white>\n<h2>SDSS error message</h2><H3 BGCOLOR=pink><font color=red>{_escape(message)}'
        f'</font></H3><h3>Your SQL command was: <br><pre>{_escape(sql)}</pre></h3><hr></BODY></HTML>\n'
    )


# ---------------------------------------------------------------- misbehaviour

KINDS = (
    'slow',
    'status',
    'cut',
    'wrong length',
    'truncated',
    'html',
    'redirect',
    'dotdot',
    'hang',
    'changed',
    'raw',
)


@dataclass
class Fault:
    "One way to misbehave, for requests whose path (with its query, decoded) matches a pattern."

    pattern: str  # As for a shell: '*spec-0266*', '*x_results*', '*/lite/*'
    kind: str  # One of `KINDS`
    times: int = None  # How often, before it behaves; None: for ever
    skip: int = None  # How many such requests pass unharmed before; None: 1 for 'changed', else 0
    status: int = 500  # status, or of redirect when it is 3xx
    retry_after: str = None  # Retry-After with the status: seconds, or a date
    rate: float = 20_000  # slow: bytes per second
    after: int = None  # cut, truncated, hang: bytes sent before (of the part that was asked for); None: half of them (cut, truncated), none at all, no header either (hang)
    reset: bool = False  # cut: with a reset, not a close
    extra: int = 1000  # wrong length: announced minus sent, may be negative
    location: str = 'http://elsewhere.invalid'  # redirect: to this host, same path; or to a whole URL when it has a path
    name: str = '../../etc/x'  # dotdot: name in listings, in text of the first row of SQL answers, in Content-Disposition of files
    seconds: float = None  # hang: how long, None: until the server stops; slow: pause before the first byte
    method: str = None  # 'GET' or 'HEAD' only; None: all
    reply: Callable = None  # raw: from the honest body to what goes over the wire, header and all: bytes, or seconds of silence
    seen: int = 0  # Requests that matched
    used: int = 0  # Requests that suffered

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f'no fault {self.kind!r}; there are: {", ".join(KINDS)}')
        if self.skip is None:
            self.skip = int(self.kind == 'changed')

    def matches(self, method: str, target: str) -> bool:
        return self.method in (None, method) and (
            fnmatch.fnmatchcase(target, self.pattern)
            or fnmatch.fnmatchcase(target.partition('?')[0], self.pattern)
        )

    def ready(self) -> bool:
        return self.seen > self.skip and (self.times is None or self.used < self.times)


class Request(NamedTuple):
    "One line of the log."

    method: str
    path: str  # Decoded, with the query
    range: str  # The Range header, or None
    sent: int  # Bytes of the body


@dataclass
class Answer:
    "What goes back: status, headers, and a body that is open at its first byte."

    status: int
    headers: dict
    body: object = None
    length: int = 0
    stream: bool = False  # Sent in chunks, its length not announced, as SkyServer does with what the database says

    @staticmethod
    def text(
        status: int, text: str, kind: str = 'text/html; charset=utf-8', **headers
    ) -> 'Answer':
        data = text.encode()
        return Answer(
            status,
            {'Content-Type': kind}
            | {k.replace('_', '-'): v for k, v in headers.items()},
            io.BytesIO(data),
            len(data),
        )


def _page(status: int, text: str, **headers) -> Answer:
    return Answer.text(
        status,
        f'<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>{status} {text}</title>\n</head><body>\n<h1>{text}</h1>\n</body></html>\n',
        **headers,
    )


# ---------------------------------------------------------------- the server


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm, timeout = 'HTTP/1.1', True, 60

    def do_GET(self):
        self._serve()

    do_HEAD = do_POST = do_GET

    def version_string(self):
        return 'Apache'

    def log_message(self, *_):
        pass

    def _serve(self):
        self.replay = self.server.replay
        self.form = (
            self.rfile.read(int(self.headers.get('Content-Length') or 0)).decode()
            if self.command == 'POST'
            else ''
        )
        target, span = (
            unquote_plus(self.path) if '?' in self.path else unquote(self.path),
            self.headers.get('Range'),
        )
        self.entry = self.replay._note(self.command, target, span)
        self.busy = True
        try:
            self._respond(self.replay._choose(self.command, target))
        finally:
            self._done()

    def _done(self):
        "Said before the last byte leaves, so that a client's next request does not count as one at the same time."
        if self.busy:
            self.replay._done()
        self.busy = False

    def _respond(self, fault: Fault | None):
        self.fault = fault
        kind = fault.kind if fault else None
        if kind == 'hang' and fault.after is None:
            return self._hang()
        if kind == 'raw':
            return self._raw()
        if kind == 'slow' and fault.seconds:
            self.replay._stop.wait(fault.seconds)
        try:
            self._send(
                {
                    'status': self._status,
                    'redirect': self._redirect,
                    'html': self._html,
                }.get(kind, self._answer)(),
                kind,
            )
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the other side has had enough

    def _hang(self):
        self.replay._stop.wait(self.fault.seconds)
        self.close_connection = True

    def _raw(self):
        "Whatever the fault says in place of an answer."
        self.close_connection, answer = True, self._answer()
        body = answer.body.read(answer.length) if answer.body else b''
        try:
            for piece in self.fault.reply(body):
                if isinstance(piece, bytes):
                    self.wfile.write(piece)
                elif self.replay._stop.wait(piece):
                    break
        except OSError:
            pass  # the other side has had enough

    def _status(self) -> Answer:
        extra = (
            {}
            if self.fault.retry_after is None
            else {'Retry_After': str(self.fault.retry_after)}
        )
        return _page(
            self.fault.status,
            self.responses.get(self.fault.status, ('Error', ''))[0],
            **extra,
        )

    def _redirect(self) -> Answer:
        where = (
            self.fault.location
            if urlsplit(self.fault.location).path
            else self.fault.location + self.path
        )
        return _page(
            self.fault.status if 300 <= self.fault.status < 400 else 302,
            'Found',
            Location=where,
        )

    def _html(self) -> Answer:
        return _page(200, 'The archive is closed for maintenance')

    def _answer(self) -> Answer:
        url = urlsplit(self.path)
        if re.fullmatch(
            r'(?i)/dr\d+/\w+/tools/search/x_(results|sql)\.aspx?', url.path
        ):
            return self._sql(url, page=True)
        if re.search(r'(?i)/SearchTools/SqlSearch/?$', url.path):
            return self._sql(url, page=False)
        path = self.replay._find(unquote(url.path))
        if path is None:
            return _page(404, 'Not Found')
        if not path.is_dir():
            return self._file(path)
        return (
            self._listing(path, unquote(url.path))
            if url.path.endswith('/')
            else _page(
                301, 'Moved Permanently', Location=self.replay.url + url.path + '/'
            )
        )

    def _sql(self, url, page: bool) -> Answer:
        "The page x_results and the web service behind it differ in what they make of an error: a page with status 200, or JSON with its status."
        longest = self.replay.longest_query
        if longest and len(url.query) > longest:
            return _page(
                400,
                'The length of the query string for this request exceeds the configured maxQueryStringLength value.',
            )
        values = {k.lower(): v for k, v in parse_qsl(url.query + '&' + self.form)}
        sql, form = (
            values.get('cmd', ''),
            values.get('format', 'html' if page else 'json').lower(),
        )
        try:
            if form not in WRITERS:
                raise BadQuery(f'this server does not write the format {form}')
            names, rows = self.replay.database.query(sql)
        except BadQuery as error:
            if page or form == 'html':
                return Answer.text(200, _error_page(str(error), sql), 'text/html')
            message = dict(
                ErrorCode=500,
                ErrorType='InternalServerError',
                ErrorMessage=str(error),
                LogMessageID='',
            )
            return Answer.text(
                500, json.dumps(message), 'application/json; charset=utf-8'
            )
        if self.fault and self.fault.kind == 'dotdot':
            rows[:1] = [
                tuple(self.fault.name if _is_text(v) else v for v in row)
                for row in rows[:1]
            ]
        write, kind = WRITERS[form]
        answer = Answer.text(200, write(names, rows, sql), kind)
        answer.stream = form != 'html'
        return answer

    def _listing(self, folder: Path, path: str) -> Answer:
        names = sorted(p.name + '/' * p.is_dir() for p in folder.iterdir())
        links = [
            f'<a href="{quote(n)}">{html.escape(n)}</a>{" " * max(1, 40 - len(n))}{self._stamp(folder / n)}'
            for n in names
        ]
        if self.fault and self.fault.kind == 'dotdot':
            links.insert(
                0,
                f'<a href="{self.fault.name}">{html.escape(self.fault.name)}</a>   2019-12-08 00:00  1.0K',
            )
        head = f'<html>\n <head>\n  <title>Index of {html.escape(path.rstrip("/"))}</title>\n </head>\n <body>\n<h1>Index of {html.escape(path.rstrip("/"))}</h1>\n'
        return Answer.text(
            200,
            f'{head}<pre>Name  Last modified  Size<hr><a href="{quote(path.rstrip("/").rpartition("/")[0])}/">Parent Directory</a>\n'
            + '\n'.join(links)
            + '\n<hr></pre>\n</body></html>\n',
        )

    def _stamp(self, path: Path) -> str:
        stat = path.stat()
        return time.strftime('%Y-%m-%d %H:%M', time.gmtime(stat.st_mtime)) + (
            '    - ' if path.is_dir() else f'  {stat.st_size / 1024:.0f}K'
        )

    def _file(self, path: Path) -> Answer:
        "A file or a part of it, as the request's conditions say."
        kind, modified, size = (
            self.fault.kind if self.fault else None,
            path.stat().st_mtime,
            path.stat().st_size,
        )
        if kind == 'truncated':
            size = self._stops_at('cut', size)
        if kind == 'changed':
            modified += 86400
        tag, date = f'"{int(modified):x}-{size:x}"', formatdate(modified, usegmt=True)
        headers = {
            'Content-Type': 'application/fits'
            if path.suffix == '.fits'
            else 'application/octet-stream',
            'Accept-Ranges': 'bytes',
            'ETag': tag,
            'Last-Modified': date,
        }
        if kind == 'dotdot':
            headers['Content-Disposition'] = f'attachment; filename="{self.fault.name}"'
        if self._not_modified(tag, modified):
            return Answer(304, headers)
        first, last = (
            self._span(size)
            if self.headers.get('If-Range') in (None, tag, date)
            else (0, None)
        )
        if first is None:
            return _page(
                416, 'Requested Range Not Satisfiable', Content_Range=f'bytes */{size}'
            )
        body = _changed(path) if kind == 'changed' else open(path, 'rb')
        body.seek(first)
        if last is None:
            return Answer(200, headers, body, size)
        return Answer(
            206,
            headers | {'Content-Range': f'bytes {first}-{last}/{size}'},
            body,
            last + 1 - first,
        )

    def _not_modified(self, tag: str, modified: float) -> bool:
        if given := self.headers.get('If-None-Match'):
            return given in (tag, '*')
        try:
            return (
                int(modified)
                <= parsedate_to_datetime(self.headers['If-Modified-Since']).timestamp()
            )
        except (TypeError, ValueError):
            return False

    def _span(
        self, size: int
    ) -> tuple:  # first and last byte; (0, None): the whole; (None, None): impossible
        found = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range') or '')
        if not found or found[0] == 'bytes=-':
            return 0, None  # no range, or one that a server may ignore
        first, last = (int(x) if x else None for x in found.groups())
        if first is None:
            first, last = max(0, size - last), size - 1
        last = size - 1 if last is None else min(last, size - 1)
        return (first, last) if first <= last else (None, None)

    def _send(self, answer: Answer, kind: str):
        "Headers and body, with the faults of the way."
        fault, length = (
            self.fault,
            answer.length,
        )  # of the body that the headers announce
        if (
            kind == 'truncated'
            and answer.status == 200
            and 'ETag' not in answer.headers
        ):
            length = self._stops_at(
                'cut', length
            )  # not a file: these are short already
        close = kind in ('cut', 'wrong length', 'hang')
        self.chunked = (
            answer.stream
            and kind != 'wrong length'
            and self.request_version == 'HTTP/1.1'
        )
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.chunked:
            self.send_header('Transfer-Encoding', 'chunked')
        elif answer.status != 304:
            self.send_header(
                'Content-Length',
                str(length + (fault.extra if kind == 'wrong length' else 0)),
            )
        if close:
            self.close_connection = True
        length = self._stops_at(kind, length)
        if kind != 'hang' and (self.command == 'HEAD' or not length):
            self._done()
        self.end_headers()
        if answer.body is None:
            return
        with answer.body as body:
            if self.command == 'HEAD':
                return
            self._copy(body, length, fault.rate if kind == 'slow' else None)
        if self.chunked and not close:
            self.wfile.write(b'0\r\n\r\n')
        if kind == 'hang':
            self._hang()
        if kind == 'cut' and fault.reset:
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
            )

    def _stops_at(self, kind: str, length: int) -> int:
        if kind not in ('cut', 'hang'):
            return length
        return (
            length // 2 if self.fault.after is None else min(self.fault.after, length)
        )

    def _copy(self, body, length: int, rate: float):
        "Count before sending: who has the last byte finds it in the log."
        step = 1 << 18 if rate is None else max(1, int(rate / 20))
        while length > 0 and (chunk := body.read(min(step, length))):
            length -= len(chunk)
            self.replay._count(self.entry, len(chunk))
            if length == 0:
                self._done()
            self.wfile.write(
                b'%x\r\n%b\r\n' % (len(chunk), chunk) if self.chunked else chunk
            )
            if rate and self.replay._stop.wait(len(chunk) / rate):
                return


def _changed(path: Path) -> io.BytesIO:
    "Another version of a file: as long, one byte in the middle differs."
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    return io.BytesIO(data)


class _Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

    def handle_error(
        self, request, address
    ):  # a client that goes away is no error of ours; anything else is kept for the test
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            self.replay.errors.append(sys.exc_info()[1])


class ReplayServer:
    "Serves an archive of `make_archive` at `url`; `faults` may be changed at any time, `requests` says what was asked."

    def __init__(
        self,
        archive: Path,  # Folder
        cap: int = CAP,  # Rows of a SQL answer
        *,
        timeout: float = 600.0,  # Seconds of a SQL query
        longest_query: int = None,  # Characters of a query string; longer ones are refused
        port: int = 0,  # 0: any that is free
    ):
        self.folder, self.faults, self.errors, self.longest_query = (
            Path(archive).resolve(),
            [],
            [],
            longest_query,
        )
        self.database = Database(self.folder / CATALOGUE, cap, timeout)
        self._log, self._lock, self._stop = [], threading.Lock(), threading.Event()
        self.times, self.busy, self.peak = (
            [],
            0,
            0,
        )  # when each request came (time.monotonic), requests at this moment, most at one moment
        self._http = _Server(('127.0.0.1', port), _Handler)
        self._http.replay = self
        self.url = f'http://127.0.0.1:{self._http.server_address[1]}'

    def __enter__(self) -> 'ReplayServer':
        threading.Thread(
            target=self._http.serve_forever,
            kwargs=dict(poll_interval=0.02),
            daemon=True,
        ).start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()

    def fail(self, pattern: str, kind: str, times: int = None, **options) -> Fault:
        "Misbehave from now on; the first fault of the list that is ready for a request has it."
        self.faults.append(Fault(pattern, kind, times, **options))
        return self.faults[-1]

    @property
    def requests(self) -> list[Request]:
        with self._lock:
            return [Request(*entry) for entry in self._log]

    def forget(self):
        "Empty the log and the list of faults; begin counting anew."
        with self._lock:
            for each in (self._log, self.times, self.faults):
                each.clear()
            self.peak = self.busy

    def _note(self, *entry) -> list:
        with self._lock:
            self._log.append(line := [*entry, 0])
            self.times.append(time.monotonic())
            self.busy += 1
            self.peak = max(self.peak, self.busy)
            return line

    def _done(self):
        with self._lock:
            self.busy -= 1

    def _count(self, entry: list, sent: int):
        with self._lock:
            entry[-1] += sent

    def _choose(self, method: str, target: str):
        with self._lock:
            matching = [f for f in self.faults if f.matches(method, target)]
            for fault in matching:
                fault.seen += 1
            chosen = next((f for f in matching if f.ready()), None)
            if chosen:
                chosen.used += 1
            return chosen

    def _find(self, path: str):
        "The file or folder of a path of the SAS, or None; nothing outside the tree."
        tree = self.folder / 'sas'
        if (
            not (path + '/').startswith('/sas/')
            or '..' in path.split('/')
            or '\0' in path
        ):
            return None
        found = (self.folder / path.strip('/')).resolve()
        return found if found.exists() and found.is_relative_to(tree) else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='archive; made when it is not there')
    parser.add_argument('--port', type=int, default=8016)
    parser.add_argument('--n', type=int, default=40, help='spectra in a new archive')
    parser.add_argument(
        '--plates', type=int, default=1, help='whole plates in a new archive'
    )
    parser.add_argument('--cap', type=int, default=CAP, help='rows of a SQL answer')
    parser.add_argument(
        '--fault',
        nargs=2,
        action='append',
        default=[],
        metavar=('PATTERN', 'KIND'),
        help=f'kinds: {", ".join(KINDS)}',
    )
    given = parser.parse_args()
    if not (given.folder / CATALOGUE).exists():
        make_archive(given.folder, given.n, plates=given.plates)
    with ReplayServer(given.folder, given.cap, port=given.port) as server:
        for pattern, kind in given.fault:
            server.fail(pattern, kind)
        print(
            f'SkyServer: {server.url}\nSAS: {server.url}/sas\nCtrl-C ends it.',
            flush=True,
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == '__main__':
    main()
