"""Servers that misbehave: what they send in place of a file or of a page of the catalogue, byte for byte. Used by the tests and by fuzz.py."""

import gzip
import re
import time
import zlib
from collections import Counter

import numpy as np
from sdss_server import ReplayServer, make_archive

from specanom.objects import spec_name
from specanom.download import download_spectra
from specanom.query import query_catalog
from specanom.web import SurveyError

LIMIT = 60  # seconds in which any of them must be dealt with, on a busy machine
SETTINGS = dict(tries=2, pause=0.01, timeout=(1, 1), longest=3)
SLOW = (
    'trailer does not end',
    'always 100',
    'header without end',
    'header by the byte',
    'empty chunks',
    'a byte a second',
    'gzip bomb as a file',
)  # seconds each


def http(body=b'', *lines, status='200 OK', length=True):
    "An answer as a server writes it."
    given = [line if isinstance(line, bytes) else line.encode() for line in lines]
    if length:
        given.append(f'Content-Length: {len(body)}'.encode())
    return b'\r\n'.join([f'HTTP/1.1 {status}'.encode(), *given, b'', b'']) + body


def chunk(body):
    return b'%x\r\n%b\r\n' % (len(body), body)


def forever(piece, pause=None):
    "A piece again and again, for as long as anybody listens."
    while True:
        yield piece
        if pause:
            yield pause


def after(first, more):
    yield first
    yield from more


CHUNKED = http(b'', 'Transfer-Encoding: chunked', length=False)
BOMB = gzip.compress(bytes(2**28 + 2**20), 1)
NEGATIVE = b''.join(
    c.ljust(80)
    for c in (
        b'SIMPLE  =                    T',
        b'BITPIX  =                    8',
        b'NAXIS   =                    0',
        b'END',
    )
).ljust(2880) + b''.join(
    c.ljust(80)
    for c in (
        b"XTENSION= 'BINTABLE'",
        b'BITPIX  =                    8',
        b'NAXIS   =                    2',
        b'NAXIS1  =                    0',
        b'NAXIS2  =                    0',
        b'PCOUNT  =                -5760',
        b'GCOUNT  =                    1',
        b'TFIELDS =                    0',
        b'END',
    )
).ljust(2880)


def redirect(where):
    return lambda body: [http(b'', b'Location: ' + where, status='302 Found')]


def whole(*lines, **kwargs):
    return lambda body: [http(body, *lines, **kwargs)]


# In place of a file: from its bytes to what is sent. 'fine' files arrive whole in spite of it.
FILES = {
    'length in words': whole('Content-Length: many', length=False),
    'negative length': whole('Content-Length: -5', length=False),
    'length as a float': whole('Content-Length: 1e5', length=False),
    'two lengths': whole('Content-Length: 17', 'Content-Length: 18', length=False),
    'absurd length': whole(f'Content-Length: {10**30}', length=False),
    'length of a terabyte': whole(f'Content-Length: {10**12}', length=False),
    'length too small': whole('Content-Length: 3000', length=False),
    'no length': whole(length=False),
    'part that nobody asked for': lambda body: [
        http(
            body[:5760],
            f'Content-Range: bytes 0-5759/{len(body)}',
            status='206 Partial Content',
        )
    ],
    'part that does not say which': lambda body: [
        http(body[2880:], status='206 Partial Content')
    ],
    'always 416': lambda body: [
        http(b'', 'Content-Range: bytes */0', status='416 Range Not Satisfiable')
    ],
    'negative chunk': lambda body: [CHUNKED + b'-5\r\n' + body],
    'chunk in words': lambda body: [CHUNKED + b'five\r\n' + body],
    'endless chunk': lambda body: after(
        CHUNKED + b'FFFFFFFFFFFF\r\n', forever(bytes(2**16))
    ),
    'size of a chunk does not end': lambda body: after(CHUNKED, forever(b'0' * 2**12)),
    'chunks end early': lambda body: [CHUNKED + chunk(body[:50_000])],
    'chunk is cut': lambda body: [CHUNKED + chunk(body)[:40_000]],
    'empty chunks': lambda body: after(
        CHUNKED + chunk(body), forever(b'0;\r\nX: y\r\n')
    ),
    'trailer does not end': lambda body: after(
        CHUNKED + chunk(body) + b'0\r\n', forever(b'X: y\r\n', 0.05)
    ),
    'to half an address': redirect(b'http://[::1'),
    'to nowhere': redirect(b''),
    'to port 99999': redirect(b'http://localhost:99999/x'),
    'to a file': redirect(b'file:///etc/passwd'),
    'to another host': redirect(b'http://elsewhere.invalid/x'),
    'to itself': redirect(b'?again'),
    'to strange letters': redirect(b'http://\xff\xfe\x01/'),
    'to ftp': redirect(b'ftp://127.0.0.1/x'),
    'to a long address': redirect(b'/' + b'x' * 60_000),
    'to text': redirect(b'javascript:alert(1)'),
    'gzip that is cut': lambda body: [
        http(gzip.compress(body)[:-100], 'Content-Encoding: gzip')
    ],
    'gzip that explodes': lambda body: [http(BOMB, 'Content-Encoding: gzip')],
    'gzip that is none': lambda body: [http(body, 'Content-Encoding: gzip')],
    'deflate': lambda body: [http(zlib.compress(body), 'Content-Encoding: deflate')],
    'unknown packing': lambda body: [http(body, 'Content-Encoding: rot13')],
    'tag with a control character': lambda body: [
        http(
            body[:60_000],
            b'ETag: "a\x01b"',
            f'Content-Length: {len(body)}',
            length=False,
        )
    ],
    'tag with a line': lambda body: [
        http(
            body[:60_000],
            b'ETag: "a\r\n b"',
            f'Content-Length: {len(body)}',
            length=False,
        )
    ],
    'tag without quotes': lambda body: [
        http(body[:60_000], 'ETag: abc', f'Content-Length: {len(body)}', length=False)
    ],
    'tag in umlauts': lambda body: [
        http(
            body[:60_000],
            b'ETag: "\xc3\xa4"',
            f'Content-Length: {len(body)}',
            length=False,
        )
    ],
    'tag of 60 kB': lambda body: [
        http(
            body[:60_000],
            'ETag: "' + 'a' * 60_000 + '"',
            f'Content-Length: {len(body)}',
            length=False,
        )
    ],
    'a byte a second': lambda body: after(
        http(b'', f'Content-Length: {len(body)}', length=False),
        (x for i in range(len(body)) for x in (body[i : i + 1], 0.5)),
    ),
    'header by the byte': lambda body: (
        x for i in range(len(http(body))) for x in (http(body)[i : i + 1], 0.5)
    ),
    'header without end': lambda body: after(
        b'HTTP/1.1 200 OK\r\n', forever(b'X-Y: z\r\n', 0.02)
    ),
    'long line in the header': lambda body: [
        b'HTTP/1.1 200 OK\r\nX: ' + b'y' * 10**6 + b'\r\n\r\n' + body
    ],
    'header without colons': lambda body: [http(body, 'nothing here', b'\x00\x01')],
    'body without end': lambda body: after(
        http(b'', length=False), forever(bytes(2**16))
    ),
    'status in words': whole(status='fine OK'),
    'status 999': whole(status='999 What'),
    'status -200': whole(status='-200 What'),
    'always 100': lambda body: forever(b'HTTP/1.1 100 Continue\r\n\r\n', 0.01),
    'no HTTP': lambda body: [b'220 ftp.example.org ready\r\n'],
    'only a body': lambda body: [body],
    'nothing': lambda body: [b''],
    'empty body': lambda body: [http(b'')],
    'no content': lambda body: [http(b'', status='204 No Content')],
    'not modified': lambda body: [http(b'', status='304 Not Modified')],
    'status 418': whole(status='418 Teapot'),
    'retry after nan': lambda body: [http(b'', 'Retry-After: nan', status='503 Busy')],
    'retry after -9': lambda body: [http(b'', 'Retry-After: -9', status='503 Busy')],
    'PCOUNT -5760': lambda body: [http(NEGATIVE)],
    'gzip bomb as a file': lambda body: [http(BOMB)],
    'a web page': lambda body: [http(b'<html>maintenance</html>')],
    'half the file': lambda body: [http(body[: len(body) // 2880 // 2 * 2880])],
    'one bit': lambda body: [http(body[:100] + bytes([body[100] ^ 64]) + body[101:])],
    'a directory': lambda body: [http(b'Index of /sas', 'Content-Type: text/html')],
}


def rows(change):
    "A page of the catalogue whose lines are changed."

    def reply(body):
        first, header, *lines = body.decode().rstrip('\n').split('\n')
        changed = change([first, header, *lines])
        text = (
            changed if isinstance(changed, (bytes, str)) else '\n'.join(changed) + '\n'
        )
        return [http(text if isinstance(text, bytes) else text.encode())]

    return reply


def entry(column, value, row=3):
    "Another value in one row."

    def change(lines):
        if len(lines) <= row:
            return lines
        cells = lines[row].split(',')
        cells[lines[1].lower().split(',').index(column)] = value
        return [*lines[:row], ','.join(cells), *lines[row + 1 :]]

    return rows(change)


def same_page():
    "The first page, whatever is asked for."
    first = []

    def reply(body):
        first.append(body)
        return [http(first[0])]

    return reply


# In place of a page of the catalogue.
PAGES = {
    'the same page for ever': same_page,
    'rows backwards': lambda: rows(lambda lines: [*lines[:2], *lines[:1:-1]]),
    'a row twice': lambda: rows(lambda lines: [*lines, lines[-1]]),
    'an id of 65 bits': lambda: entry('specobjid', str(2**64)),
    'an id of 24 digits': lambda: entry('specobjid', '1' * 24),
    'a negative id': lambda: entry('specobjid', '-5'),
    'an id that is a float': lambda: entry('specobjid', '2.99E+17'),
    'an id that is text': lambda: entry('specobjid', 'id'),
    'no id': lambda: entry('specobjid', ''),
    'a null id': lambda: entry('specobjid', 'null'),
    'a plate of text': lambda: entry('plate', 'x'),
    'a plate of 2^40': lambda: entry('plate', str(2**40)),
    'no fibre': lambda: entry('fiberid', ''),
    'text in z': lambda: entry('z', 'high'),
    'underlines in z': lambda: entry('z', '1_0'),
    'a date in zErr': lambda: entry('zerr', '2020-01-01'),
    'hex in a flag': lambda: entry('zwarning', '0x4'),
    'a huge field': lambda: entry('class', 'A' * 200_000),
    'a large field': lambda: entry('subclass', 'A' * 5000),
    'an open quote': lambda: entry('class', '"GALAXY'),
    'a null character': lambda: entry('class', 'GAL\0AXY'),
    'a number of 5000 digits': lambda: entry('plate', '9' * 5000),
    'a column more': lambda: rows(lambda lines: [line + ',1' for line in lines]),
    'a column less': lambda: rows(
        lambda lines: [line.rpartition(',')[0] for line in lines]
    ),
    'a row cut': lambda: rows(lambda lines: '\n'.join(lines)[:-30]),
    'other names': lambda: rows(
        lambda lines: [lines[0], lines[1].replace('plate', 'tile'), *lines[2:]]
    ),
    'names only': lambda: rows(lambda lines: lines[1]),
    'nothing': lambda: rows(lambda lines: ''),
    'spaces': lambda: rows(lambda lines: ' \n' * 100),
    'comments': lambda: rows(lambda lines: '#Table\n' * 10_000),
    'JSON': lambda: rows(lambda lines: '[{"Rows": []}]'),
    'UTF-16': lambda: rows(lambda lines: '\n'.join(lines).encode('utf-16')),
    'latin letters': lambda: entry('subclass', '\xe4\xf6'),
    'a BOM': lambda: rows(lambda lines: ('\ufeff' + '\n'.join(lines) + '\n').encode()),
    'lines of Windows': lambda: rows(lambda lines: '\r\n'.join(lines) + '\r\n'),
    'no final newline': lambda: rows(lambda lines: '\n'.join(lines)),
    'upper case': lambda: rows(lambda lines: [lines[0], lines[1].upper(), *lines[2:]]),
    'rows without end': lambda: (
        lambda body: after(
            http(body, length=False), forever(body.split(b'\n', 2)[2] or b'1,2\n')
        )
    ),
    'a line without end': lambda: (
        lambda body: after(http(body, length=False), forever(b'x' * 2**16))
    ),
    'gzip that explodes': lambda: lambda body: [http(BOMB, 'Content-Encoding: gzip')],
    'gzip that is cut': lambda: (
        lambda body: [http(gzip.compress(body)[:-9], 'Content-Encoding: gzip')]
    ),
    'a negative chunk': lambda: lambda body: [CHUNKED + b'-5\r\n' + body],
    'chunks end early': lambda: lambda body: [CHUNKED + chunk(body[: len(body) // 2])],
    'a byte a second': lambda: (
        lambda body: after(
            http(b'', length=False),
            (x for i in range(len(body)) for x in (body[i : i + 1], 0.5)),
        )
    ),
    'header by the byte': lambda: (
        lambda body: (x for i in range(4000) for x in (http(body)[i : i + 1], 0.5))
    ),
    'header without end': lambda: (
        lambda body: after(b'HTTP/1.1 200 OK\r\n', forever(b'X-Y: z\r\n', 0.02))
    ),
    'always 100': lambda: lambda body: forever(b'HTTP/1.1 100 Continue\r\n\r\n', 0.01),
    'length in words': lambda: (
        lambda body: [http(body, 'Content-Length: many', length=False)]
    ),
    'to another host': lambda: redirect(b'http://elsewhere.invalid/x'),
    'to half an address': lambda: redirect(b'http://[::1'),
    'to itself': lambda: redirect(b'?again'),
    'no HTTP': lambda: lambda body: [b'hello\r\n'],
    'status 403': lambda: (
        lambda body: [http(b'<html><h1>Forbidden</h1></html>', status='403 Forbidden')]
    ),
}


# ---------------------------------------------------------------- what must hold


def try_file(server, catalog, name, folder):
    "One of eight files misbehaves: the others are read, it is read right or named. Returns what is wrong, or ''."
    server.forget()
    bad = spec_name(catalog[3:4])[0]
    server.fail(f'*spec-{bad}*', 'raw', reply=FILES[name])
    try:
        data = download_spectra(
            catalog[:8], folder, sas=f'{server.url}/sas', layout='lite', **SETTINGS
        )
    except Exception as error:
        return f'the download ended: {type(error).__name__}: {error}'
    if len(data) + len(data.rejected) != 8 or len(data) < 7:
        return f'{len(data)} read and {len(data.rejected)} rejected'
    if len(data) == 7 and not (
        bad in data.rejected['name'][0] and data.rejected['reason'][0]
    ):
        return f"not {bad} but {data.rejected['name'][0]} was rejected"
    left = [p.name for p in folder.rglob('*') if '.part' in p.name or '.etag' in p.name]
    return f'{left} was left behind' if left else ''


def try_page(server, right, name, home):
    "The catalogue is right, or an error names the server and what is wrong. Returns what is wrong, or ''."
    server.forget()
    server.fail('*x_results*', 'raw', reply=PAGES[name]())
    try:
        catalog = query_catalog(
            'b23', skyserver=server.url, page=7, tries=2, pause=0.01, timeout=2
        )
    except SurveyError as error:
        return (
            ''
            if re.search(r'SkyServer', str(error)) and len(str(error)) < 1000
            else f'the message is {str(error)[:200]!r}'
        )
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    same = catalog['specobjid'].tolist() == right['specobjid'].tolist() and np.allclose(
        catalog['z'], right['z']
    )
    return '' if same else f'{len(catalog)} rows that are not those of the catalogue'


def fuzz(n, seed, folder):
    "Counts of what was tried, and descriptions of what was lost."
    import os

    from fuzz import Late, in_time

    count, lost = Counter(), []
    order = np.random.default_rng(seed).permutation(
        [f'file: {k}' for k in FILES] + [f'page: {k}' for k in PAGES]
    )[:n]
    archive = make_archive(folder / 'archive', plates=0)
    os.environ['SPECANOM_HOME'] = str(folder / 'home')
    with ReplayServer(archive) as server:
        right = query_catalog('b23', skyserver=server.url)
        for i, what in enumerate(order):
            kind, name = what.split(': ', 1)
            os.environ['SPECANOM_HOME'], start = (
                str(folder / f'home{i}'),
                time.monotonic(),
            )
            try:
                with in_time(LIMIT):
                    wrong = (try_file if kind == 'file' else try_page)(
                        server, right, name, folder / str(i)
                    )
            except Late as error:
                wrong = str(error)
            count['tried'] += 1
            count[f'{kind}s'] += 1
            count['slowest, s'] = max(
                count['slowest, s'], round(time.monotonic() - start)
            )
            if wrong:
                lost.append(f'{what}: {wrong}')
        lost += [f'the server of the test: {error}' for error in server.errors]
    return count, lost
