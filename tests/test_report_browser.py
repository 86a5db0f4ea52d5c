"""The page of a run: what is in it, and, where there is a browser, what it does (Chrome, Chromium or Edge; SPECANOM_BROWSER may name the program)."""

import csv
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from astropy.table import Table
from conftest import once
from test_browser import CONTRAST, PATIENCE, browser  # noqa: F401
from test_stages import small

from specanom.cli import main
from specanom.labels import COLUMNS, read_any
from specanom.mock import mock_survey
from specanom.pipeline import run
from specanom.preprocess import preprocess
from specanom.report import page_links
from specanom.runs import Run
from specanom.segments import segment
from specanom.viewer import (
    SCRIPTS,
    column_facts,
    grid_facts,
    histogram,
    make_facts,
    object_facts,
    pack,
    page_file,
    page_html,
    read_page,
    show_object,
    table_facts,
    unpack,
    write_page,
)
from specanom.write import write_spec

HOSTILE = '</script><img src=x onerror="window.harmed = 1"><script>window.harmed = 1'
VI = (
    'TARGETID,EXPID,NIGHT,TILEID,Spec_version,Redrock_version,Template_version,'
    'Redrock_spectype,Redrock_z,Redrock_deltachi2,VI_scanner,VI_quality,VI_issue,VI_z,'
    'VI_spectype,VI_comment'
)  # of prospect's files


def made_up():
    "Facts of a page with everything that a page may have; the first object is hostile."
    data = preprocess(mock_survey(60, rng=0))[:12]
    n, cut = len(data), segment(data.wave, 'physical')
    data.catalog['file'] = np.array([HOSTILE] + [''] * (n - 1))
    data.catalog['plate'][0] = 0
    data.catalog['run2d'] = '26'
    drawn = np.where(data.good, 0.9 * data.flux, 1)
    weights = np.random.default_rng(0).normal(size=(n, len(cut)))
    table = Table(dict(p_all=np.linspace(0.001, 0.9, n), z=data.catalog['z']))
    table['class'] = np.array([HOSTILE, *data.catalog['class'][1:].tolist()])
    table['specobjid'] = data.catalog['specobjid']
    climb = dict(said='far away', logp=[-9.0, 1.0, 2.0], end=pack(drawn[0]))
    near = [dict(flux=pack(one), said='somebody') for one in drawn]
    objects = object_facts(
        data,
        table,
        links=page_links(data.catalog) | dict(bad=np.full(n, 'javascript:alert(1)')),
        model=[pack(one) for one in drawn],
        weights=[pack(one) for one in weights],
        near=near,
        ascent=[climb, *[None] * (n - 1)],
        scan=[[(5000.0, 5050.0, 'at 5000–5050 Å')], *[None] * (n - 1)],
        others=[[], [(0.8, 'alternative')], *[[]] * (n - 2)],
    )
    return data, make_facts(
        HOSTILE,
        objects,
        [grid_facts(data.grid, cut.label, cut.names)],
        column_facts(table, ['p_all', 'z', 'class']),
        key='test',
        cautions=[HOSTILE],
        tables=[
            table_facts('The selection', Table(dict(criterion=['all'], left=[12])))
        ],
        histograms=[histogram('z', 'redshift', table['z'])],
    )


@pytest.fixture(scope='module')
def facts():
    return made_up()[1]


@pytest.fixture(scope='module')
def page_path(facts, tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'page.html'
    write_page(facts, path)
    return path


@pytest.fixture
def open_page(request, page_path):
    "A function that opens the page; afterwards nothing may have gone wrong, nor anybody been asked."
    program, wrong, opened = request.getfixturevalue('browser'), [], []

    def asked(request):
        if not request.url.startswith(('file:', 'data:', 'blob:')):
            wrong.append(f'asks {request.url}')

    def said(message):
        if message.type in ('error', 'warning'):
            wrong.append(message.text)

    def open_(width=1280, scheme='light', path=page_path):
        size = {'width': width, 'height': 900}
        page = program.new_page(viewport=size, color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        opened.append(page)
        page.on('request', asked)
        page.on('console', said)
        page.on('dialog', lambda dialog: wrong.append(dialog.message))
        page.on('pageerror', lambda error: wrong.append(str(error)))
        page.goto(f'file://{path}', wait_until='load')
        return page

    yield open_
    for page in opened:
        page.close()
    assert not wrong, '\n'.join(wrong)


# what is in it, which needs no browser


def test_arrays_are_those_of_the_run():
    "The page of a run holds its ranked objects with their spectra, and says what was run."
    folder = once('run', lambda folder: run(small(), folder))
    facts, made = read_page(folder / 'report.html'), Run.load(folder)
    objects = facts['objects']
    listed = made.table('anomalies')['specobjid'].tolist()
    assert {str(i) for i in listed} <= {one['id'] for one in objects}
    ids = made.scores['specobjid'].astype(str).tolist()
    names = [column['name'] for column in facts['columns']]
    for one in objects[:3]:
        row = ids.index(one['id'])
        data = made.spectra[[row]]
        flux, sigma = unpack(one['flux']), unpack(one['sigma'])
        assert (np.isfinite(flux) == data.good[0]).all()
        good = data.good[0]
        assert np.allclose(flux[good], data.flux[0][good], rtol=1e-3, atol=1e-3)
        assert np.allclose(sigma[good], data.ivar[0][good] ** -0.5, rtol=1e-3)
        drawn = made.model.reconstruct(data)[0]
        assert np.allclose(unpack(one['model']), drawn, rtol=2e-3, atol=1e-2)
        p = one['cells'][names.index('p_all')]
        assert np.isclose(p, made.scores['p_all'][row], rtol=1e-6)
        assert one['links'] == [] and one['near']
    climbed = [one['ascent'] for one in objects if one['ascent']]
    assert len(climbed) == len(made.table('sensitivity'))
    for ascent in climbed:
        assert (np.diff(ascent['logp']) >= -1e-3).all()
    said = {table['title'] for table in facts['tables']}
    assert {'The run', 'The selection', 'Versions'} <= said
    assert facts['cautions'] == ['Mock survey: a demonstration, no discovery.']
    assert (folder / 'report.html').stat().st_size / len(objects) < 15e6 / 200


def test_nothing_is_markup_or_fetched(facts):
    "Names and classes stay text, addresses are of the web, and no part of the page is elsewhere."
    page = page_html(facts)
    assert HOSTILE not in page and 'onerror="' not in page
    assert page.count('<script') == page.count('</script>') == 2
    assert all(one['links'] == [] for one in facts['objects'])
    free = re.sub(r'http-equiv|http://www.w3.org/2000/svg', '', page)
    assert 'http' not in free and 'url(' not in free and '@import' not in free
    assert re.search(r"default-src 'none'; script-src 'sha256-\S+'", page)
    assert not re.search(r'innerHTML|insertAdjacent|document\.write|eval\(', page)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts
    ]
    return np.array(linear)


def colours(theme):
    "The colours of a theme, by name."
    part = re.search(re.escape(theme) + r' \{(.*?)\}', page_file('page.css'), re.S)[1]
    return dict(re.findall(r'--(\w+): (#\w{6})', part))


def contrast(one, other):
    light = sorted(luminance(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


# What remains for eyes without one kind of cone, in linear RGB (Viénot et al. 1999;
# Brettel et al. 1997 for the third, as fitted by Machado et al. 2009)
BLIND = dict(
    nobody=np.eye(3),
    protan=[[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    deutan=[[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    tritan=[
        [1.2555, -0.0767, -0.1788],
        [-0.0784, 0.9308, 0.1476],
        [0.0047, 0.6914, 0.3039],
    ],
)
XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def lab(colour, eyes):
    "CIE L*a*b* of a colour, seen by some eyes."
    seen = np.clip(np.array(BLIND[eyes]) @ luminance(colour), 0, 1)
    part = XYZ @ seen / (XYZ @ np.ones(3))
    x, y, z = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize('theme', [':root', ':root[data-theme="dark"]'])
def test_colours(theme):
    "Text has the contrast of WCAG AA on all grounds, curves that of graphics, and those that are seen together differ for all eyes."
    seen = colours(theme)
    for ground in ('page', 'faint', 'chosen', 'button'):
        for ink in ('text', 'soft', 'link') if ground == 'page' else ('text',):
            assert contrast(seen[ink], seen[ground]) > 4.5, f'{ink} on {ground}'
    for curve in ('data', 'model', 'near', 'end', 'rule', 'scan'):
        assert contrast(seen[curve], seen['page']) > 3, curve
    together = [
        ('data', 'model'),
        ('model', 'near'),
        ('more', 'less'),
        ('data', 'near'),
    ]
    for eyes in BLIND:
        for one, other in together:
            apart = np.linalg.norm(lab(seen[one], eyes) - lab(seen[other], eyes))
            assert apart > 20, f'{one} and {other}, {eyes}: {apart:.0f}'


def test_view(tmp_path, capsys):
    "The command writes a page of files, plain or judged by a run, and says in a line what it cannot do."
    write_spec(mock_survey(8, rng=1), tmp_path / 'spectra')
    out = tmp_path / 'view.html'
    ask = ['view', str(tmp_path / 'spectra'), '--out', str(out)]
    assert main([*ask, '--n', '5']) == 0
    assert '5 spectra in' in capsys.readouterr().out
    facts = read_page(out)
    assert len(facts['objects']) == 5 and facts['grids'][0]['frame'] == 'observed'
    folder = once('run', lambda folder: run(small(), folder))
    assert main([*ask, '--model', str(folder)]) == 0
    judged = read_page(out)['objects']
    assert judged and all(one['model'] and one['weights'] for one in judged)
    capsys.readouterr()
    for wrong, said in (
        (['view', str(tmp_path / 'none')], 'no such file or folder'),
        ([*ask[:2], '--out', 'page.txt'], 'a page must end in .html'),
        ([*ask, '--n', '0'], 'at least one spectrum'),
        ([*ask[:2], '--out', str(tmp_path / 'no/page.html')], 'no such folder'),
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1, error


def test_browse():
    "In a notebook a run shows its page, whole, in a frame of its own; a terminal says where it is."
    from IPython.core.formatters import DisplayFormatter

    folder = once('run', lambda folder: run(small(), folder))
    shown, _ = DisplayFormatter().format(Run.load(folder).browse())
    assert str(folder / 'report.html') in shown['text/plain']
    page = re.search('<iframe srcdoc="(.*?)" style', shown['text/html'], re.S)[1]
    assert html.unescape(page) == (folder / 'report.html').read_text(encoding='utf-8')


# what page and command say to each other

TIME = '2026-11-27T14:05:00Z'
SEEN = [
    dict(id='2399', z=0.1, version='26', desi={}, **{'class': 'GALAXY'}),
    dict(id='18446744073709551615', z=None, version='', desi={}, **{'class': ''}),
    dict(id='7', z=1.5, version='0.5', desi=dict(TARGETID='7', TILEID='80613'),
         **{'class': 'QSO'}),
    dict(id='8', z=0.2, version='26', desi={}, **{'class': 'GALAXY'}),
]  # fmt: skip
SPOKEN = {
    '2399': dict(label='artefact', note='odd,\nand "odd"', quality=3),
    '18446744073709551615': dict(label='interesting', note='Ünïcode, 100 %', z=0.8),
    '7': dict(label='wrong z', quality=0, z=1.25, note='[not a label'),
    '8': dict(quality=4),
}  # what the page keeps
OWN = f"""specobjid,label,note,quality,scanner,time
2399,artefact,"odd,
and ""odd""\",3,"Jane, ""JD""\",{TIME}
18446744073709551615,interesting,"Ünïcode, 100 %",,"Jane, ""JD""\",{TIME}
7,wrong z,[not a label,0,"Jane, ""JD""\",{TIME}
8,inspected,,4,"Jane, ""JD""\",{TIME}
"""  # as the page writes it
THEIRS = f"""{VI}
2399,-1,-1,-1,26,-1,-1,GALAXY,0.1000,-1,"Jane, ""JD""\",3,S,,,"odd,
and ""odd""\"
18446744073709551615,-1,-1,-1,-1,-1,-1,,-1,-1,"Jane, ""JD""\",-1,,0.8000,,"[interesting] Ünïcode, 100 %"
7,-1,-1,80613,0.5,-1,-1,QSO,1.5000,-1,"Jane, ""JD""\",0,R,1.2500,,[not a label
8,-1,-1,-1,26,-1,-1,GALAXY,0.2000,-1,"Jane, ""JD""\",4,,,,
"""
EXCHANGE = """({objects, said, files}) => {
    const before = FACTS.objects;
    FACTS.objects = objects;
    const empty = () => Object.assign(new Labels('exchange', () => {}), {said: {}});
    try {
        const one = empty();
        one.put(said);
        const back = files.map(text => {
            const other = empty();
            other.read(text);
            return other.csv();
        });
        return {own: one.csv(), theirs: one.vi(), back};
    }
    finally { FACTS.objects = before; }
}"""


def words():
    "What an inspector said, as the page keeps it."
    nothing = dict(label='', note='', quality='', z=None, issue='')
    who = dict(scanner='Jane, "JD"', time=TIME)
    return {one: nothing | who | said for one, said in SPOKEN.items()}


def by_command(folder):
    "The files of the page, read by the command and written again, ours and prospect's."
    (folder / 'own.csv').write_text(OWN, encoding='utf-8')
    (folder / 'theirs.csv').write_text(THEIRS, encoding='utf-8')
    found = []
    for name in ('own', 'theirs'):
        out = [folder / f'{name}-{kind}.csv' for kind in ('ours', 'vi')]
        ask = ['labels', folder / f'{name}.csv', '--out', out[0], '--vi', out[1]]
        assert main([str(word) for word in ask]) == 0
        found += [path.read_text(encoding='utf-8') for path in out]
    return found


def check_exchange(said, files):
    "The page writes what is expected of it, and reads what the command has written."
    assert said['own'] == OWN and said['theirs'] == THEIRS
    assert len(files) == len(said['back']) == 4
    for written, back in zip(files, said['back']):
        timed = TIME in written  # prospect has no column for it
        assert back == (OWN if timed else OWN.replace(TIME, '')), written


def test_files_of_the_page_are_read(tmp_path, capsys):
    "By the command, both kinds: nothing is lost, and its own file is that of the page byte by byte."
    ours, vi, from_vi, vi_again = by_command(tmp_path)
    assert ours == OWN and from_vi == OWN.replace(TIME, '') and vi == vi_again
    capsys.readouterr()
    (tmp_path / 'vi.csv').write_text(vi, encoding='utf-8')
    for name in ('theirs', 'vi'):
        table = read_any(tmp_path / f'{name}.csv')
        own = read_any(tmp_path / 'own.csv')
        for column in COLUMNS[:5]:
            assert table[column].tolist() == own[column].tolist(), column


def test_page_teaches(tmp_path, capsys):
    "What was said on the page of a run orders the run again."
    folder = once('run', lambda folder: run(small(), folder))
    shown = [one['id'] for one in read_page(folder / 'report.html')['objects']]
    text = OWN
    for one, other in zip(SPOKEN, shown):
        text = text.replace(f'\n{one},', f'\n{other},')
    (tmp_path / 'labels.csv').write_text(text, encoding='utf-8')
    assert main(['rerank', str(folder), '--labels', str(tmp_path / 'labels.csv')]) == 0
    assert '1 objects are interesting, 2 are not' in capsys.readouterr().out


NODE = pytest.mark.skipif(not shutil.which('node'), reason='needs Node')


@NODE
def test_scripts_are_scripts(tmp_path):
    "All of them together are JavaScript."
    (tmp_path / 'page.js').write_text('\n'.join(map(page_file, SCRIPTS)))
    checked = [shutil.which('node'), '--check', tmp_path / 'page.js']
    ran = subprocess.run(checked, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@NODE
def test_exchange_in_node(tmp_path):
    "Scripts of the page without a page: what they write is read by the command, and the reverse."
    files = by_command(tmp_path)
    given = dict(objects=SEEN, said=words(), files=files)
    facts = json.dumps(json.dumps(dict(objects=[])))
    script = tmp_path / 'exchange.js'
    lines = [
        f'globalThis.document = {{getElementById: () => ({{textContent: {facts}}})}};',
        'globalThis.addEventListener = () => {};',
        *map(page_file, ('data.js', 'labels.js')),
        f'console.log(JSON.stringify(({EXCHANGE})({json.dumps(given)})));',
    ]
    script.write_text('\n'.join(lines), encoding='utf-8')
    ran = subprocess.run(['node', script], capture_output=True, text=True, check=True)
    check_exchange(json.loads(ran.stdout), files)


# what it does, in a browser


def test_exchange(open_page, tmp_path):
    "The page writes what the command reads, and reads what that writes."
    files = by_command(tmp_path)
    given = dict(objects=SEEN, said=words(), files=files)
    check_exchange(open_page().evaluate(EXCHANGE, given), files)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [400, 1280])
def test_fits_and_can_be_read(width, scheme, open_page):
    "Nothing is wider than the window, and every text can be read."
    page = open_page(width, scheme)
    for button in ('#about-button', '#help-button'):
        page.click(button)
    wide = page.evaluate('document.documentElement.scrollWidth')
    assert wide <= width, f'{wide} px wide in a window of {width}'
    for what in ('h1', '#cautions', '#rows button', '#rows td', '#head button', '#told',
                 '#facts-line', '#label-buttons button', '.legend label', '#links',
                 '#about td', '#help p', '#help code', '#undo', '#count'):  # fmt: skip
        found = page.locator(what)
        if found.count():
            seen = found.first.evaluate(CONTRAST)
            assert seen['contrast'] > 4.5 or what == '#undo', f'{what}: {seen}'
            assert (seen['ground'] > 0.5) == (scheme == 'light'), what
    page.click('#label-buttons [data-label="boring"]')
    pressed = page.locator('#label-buttons [aria-pressed="true"]')
    for part in (pressed, pressed.locator('kbd')):
        assert part.evaluate(CONTRAST)['contrast'] > 4.5
    page.select_option('#theme', 'dark')
    assert page.locator('#told').evaluate(CONTRAST)['ground'] < 0.5


def test_arrays_arrive(open_page, facts):
    "The browser reads the numbers that were written, and shows hostile words as words."
    page = open_page()
    for name in ('flux', 'sigma', 'model', 'weights'):
        packed = facts['objects'][2][name]
        arrived = page.evaluate(f'Array.from(unpack(FACTS.objects[2].{name}))')
        arrived = np.array([np.nan if v is None else v for v in arrived])
        assert np.allclose(arrived, unpack(packed), rtol=1e-6, equal_nan=True), name
    assert page.evaluate('window.harmed') is None
    assert page.title() == HOSTILE and page.locator('#name').inner_text() == HOSTILE
    assert page.locator('#rows th button').first.inner_text() == HOSTILE
    assert page.locator('img').count() == 0


def names(page):
    return page.locator('#rows th button').all_inner_texts()


def test_sort_filter_open(open_page, facts):
    "By a column both ways, by conditions and words, by a click and by keys."
    page = open_page()
    z = {one['name']: one['z'] for one in facts['objects']}
    page.get_by_role('button', name='z', exact=True).click()
    assert names(page) == sorted(z, key=z.get)
    assert page.locator('th[aria-sort="ascending"]').inner_text().startswith('z')
    page.get_by_role('button', name='z ▲').click()
    assert names(page) == sorted(z, key=z.get)[::-1]
    page.fill('#filter', 'p_all<0.2 -zzz')
    few = [one for one in facts['objects'] if one['cells'][0] < 0.2]
    assert sorted(names(page)) == sorted(one['name'] for one in few)
    assert page.locator('#count').inner_text() == f'{len(few)} of 12 objects'
    page.fill('#filter', 'p_none<1')
    assert 'no column p_none' in page.locator('#count').inner_text()
    page.fill('#filter', facts['objects'][3]['name'])
    assert names(page) == [facts['objects'][3]['name']]
    page.fill('#filter', '')
    page.locator('#rows button').nth(4).click()
    fifth = names(page)[4]
    assert page.locator('#name').inner_text() == fifth
    page.keyboard.press('n')
    assert page.locator('#name').inner_text() == names(page)[5]
    page.keyboard.press('p')
    assert page.locator('#name').inner_text() == fifth
    page.locator('summary', has_text='Columns').click()
    page.get_by_label('specobjid').check()
    assert 'specobjid' in page.locator('#head').inner_text()


def test_zoom_and_lines(open_page):
    "Zoom by keys, by the pointer, and back; line labels follow the redshift; another one is a click away."
    page = open_page()
    whole = page.evaluate('plot.view')
    page.keyboard.press('+')
    low, high = page.evaluate('plot.view')
    assert whole[0] < low < high < whole[1]
    page.keyboard.press('.')
    assert page.evaluate('plot.view')[0] > low
    page.keyboard.press('r')
    assert page.evaluate('plot.view') == whole
    box = page.locator('#spectrum').bounding_box()
    page.mouse.move(box['x'] + 200, box['y'] + 150)
    page.mouse.down()
    page.mouse.move(box['x'] + 300, box['y'] + 150)
    page.mouse.up()
    low, high = page.evaluate('plot.view')
    assert high - low < 0.3 * (whole[1] - whole[0])
    assert 'Å' in page.locator('#reading').inner_text()
    page.locator('#spectrum').dblclick()
    assert page.evaluate('plot.view') == whole
    page.keyboard.press('n')  # the one that has another redshift
    own, other = page.evaluate('[current.z, current.others[0][0]]')
    place = page.evaluate('plot.lineAt(5000)')
    assert np.isclose(place, 5000)
    page.click('#z-others button')
    assert page.evaluate('plot.z') == other
    assert np.isclose(
        page.evaluate('plot.lineAt(5000)'), 5000 * (1 + other) / (1 + own)
    )
    page.keyboard.press('z')
    assert np.isclose(page.evaluate('plot.z'), own)
    page.fill('#z-number', '0.5')
    page.locator('#z-number').press('Escape')
    assert page.evaluate('plot.z') == 0.5
    page.keyboard.press('s')
    assert page.evaluate('plot.width') == 3
    page.keyboard.press('f')
    assert np.isclose(page.evaluate('plot.view[0]'), whole[0] * (1 + own), rtol=0.2)


def export(page, button):
    "What the reader gets, as text."
    with page.expect_download() as download:
        page.click(button)
    return download.value.path().read_text(encoding='utf-8')


def test_labels(open_page, facts, tmp_path):
    "By keys; kept over a reload; undone; exported and imported in both kinds of files."
    page = open_page()
    first, second = (one['id'] for one in facts['objects'][:2])
    page.fill('#scanner', 'Jane, "JD"')
    page.locator('#scanner').press('Escape')
    for key in 'a3t':
        page.keyboard.press(key)
    page.keyboard.type('odd,\nand "odd"')
    page.keyboard.press('Escape')
    for key in 'nzw':
        page.keyboard.press(key)
    page.keyboard.press('u')
    page.keyboard.press('u')  # takes back 'w', then the note
    page.keyboard.press('w')
    assert page.locator('#labelled').inner_text() == '2 labelled'
    page.reload()
    assert page.locator('#labelled').inner_text() == '2 labelled'
    pressed = '#label-buttons button[aria-pressed="true"]'
    assert page.locator(pressed).inner_text().split()[-1] == 'artefact'
    page.keyboard.press('t')
    page.keyboard.type('odd,\nand "odd"')
    page.keyboard.press('Escape')
    own = export(page, '#export-csv')
    assert own.splitlines()[0] == 'specobjid,label,note,quality,scanner,time'
    rows = [*csv.DictReader(io.StringIO(own, newline=''))]
    assert [row['specobjid'] for row in rows] == [first, second]
    said = [rows[0][name] for name in ('label', 'note', 'quality', 'scanner')]
    assert said == ['artefact', 'odd,\nand "odd"', '3', 'Jane, "JD"']
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', rows[1]['time'])
    theirs = export(page, '#export-vi')
    assert theirs.splitlines()[0] == VI
    rows = [*csv.DictReader(io.StringIO(theirs, newline=''))]
    assert [row['VI_issue'] for row in rows] == ['S', 'R']
    assert [row['VI_quality'] for row in rows] == ['3', '-1']
    assert rows[1]['VI_z'] == '0.8000' and rows[0]['TARGETID'] == first
    assert rows[0]['VI_comment'] == 'odd,\nand "odd"'

    (tmp_path / 'own.csv').write_text(own, encoding='utf-8')
    (tmp_path / 'theirs.csv').write_text(theirs, encoding='utf-8')
    (tmp_path / 'none.csv').write_text('a,b\n1,2\n')
    other = open_page()
    other.evaluate('localStorage.clear()')
    other.reload()
    for name in ('own', 'theirs'):
        other.set_input_files('#import', tmp_path / f'{name}.csv')
        other.locator('#labelled', has_text='2 labelled').wait_for()
        assert export(other, f'#export-{dict(own="csv", theirs="vi")[name]}') == (
            own if name == 'own' else theirs
        )
        other.keyboard.press('u')
        other.locator('#labelled', has_text='0 labelled').wait_for()
    other.set_input_files('#import', tmp_path / 'none.csv')
    other.locator('#status', has_text='none.csv was not read').wait_for()


def test_keyboard_alone(open_page):
    "From the top of the page to a label without a pointer; single keys can be switched off."
    page = open_page(400)
    page.keyboard.press('n')
    assert page.locator('.scroll').first.evaluate('box => box.scrollLeft') == 0
    page.keyboard.press('p')
    order = []
    for _ in range(14):
        page.keyboard.press('Tab')
        order.append(page.evaluate('document.activeElement.id'))
    assert {'about-button', 'help-button', 'theme', 'filter'} <= set(order)
    page.locator('#rows button[tabindex="0"]').focus()
    page.keyboard.press('ArrowDown')
    page.keyboard.press('Enter')
    assert page.locator('#name').inner_text() == names(page)[1]
    outline = page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
    assert outline != 'none'
    page.keyboard.press('i')
    assert page.locator('#labelled').inner_text() == '1 labelled'
    page.keyboard.press('?')
    page.locator('#single').focus()
    page.keyboard.press('Space')
    page.keyboard.press('a')
    assert page.locator('#labelled').inner_text() == '1 labelled'
    label = page.locator('#label-buttons [data-label="interesting"]')
    assert label.get_attribute('aria-pressed') == 'true'
    page.locator('#spectrum').focus()
    whole = page.evaluate('plot.view')
    page.keyboard.press('ArrowUp')
    assert page.evaluate('plot.view') != whole


def test_browse_in_a_kernel(open_page, tmp_path):
    "A kernel of Jupyter runs `browse`, and what it displays works in the page of a notebook."
    import nbformat
    from nbclient import NotebookClient

    folder = once('run', lambda folder: run(small(), folder))
    said = f'from specanom.runs import Run\nRun.load({str(folder)!r}).browse()'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(said)])
    NotebookClient(notebook, timeout=PATIENCE / 1000).execute()
    shown = notebook.cells[0].outputs[-1]['data']['text/html']
    (tmp_path / 'notebook.html').write_text(f'<!doctype html>{shown}', encoding='utf-8')
    inside = open_page(path=tmp_path / 'notebook.html').frame_locator('iframe')
    second = inside.locator('#rows th button').nth(1)
    second.click()
    assert inside.locator('#name').inner_text() == second.inner_text()
    inside.locator('#label-buttons [data-label="boring"]').click()
    inside.locator('#labelled', has_text='1 labelled').wait_for()


def test_figure_of_a_notebook(open_page, facts, tmp_path):
    "One object alone: lines follow the slider, the pointer reads segments, nothing else is there."
    shown = show_object(facts, 1)._repr_html_()
    (tmp_path / 'notebook.html').write_text(f'<!doctype html>{shown}', encoding='utf-8')
    inside = open_page(path=tmp_path / 'notebook.html').frame_locator('iframe')
    for gone in ('#list', '#note', '#label-buttons', '#filter'):
        assert not inside.locator(gone).is_visible()
    inside.locator('#spectrum').hover(position=dict(x=300, y=150))
    assert 'weight' in inside.locator('#reading').inner_text()
    inside.locator('#z').fill('0.5')
    assert inside.locator('#z-number').input_value() == '0.5000'


def test_without_a_redshift(open_page, facts, tmp_path):
    "As observed; the slider begins at zero, and the label keeps what it finds."
    first = facts['objects'][1] | dict(z=None, others=[])
    observed = [grid | dict(frame='observed') for grid in facts['grids']]
    alone = facts | dict(objects=[first], grids=observed)
    write_page(alone, tmp_path / 'page.html')
    page = open_page(path=tmp_path / 'page.html')
    assert page.evaluate('[plot.frame, plot.z]') == ['observed', 0]
    assert page.locator('#frame').is_disabled()
    assert page.locator('#z-own').inner_text() == 'z unknown: 0'
    page.locator('#z').fill('0.5')
    assert page.evaluate('plot.lineAt(4000)') == 6000
    page.keyboard.press('f')
    assert page.evaluate('plot.frame') == 'observed'
    page.locator('#spectrum').press('4')
    assert page.evaluate('labels.of(current.id).z') == 0.5


def test_page_of_a_run(open_page):
    "The page that a run has written opens, and shows where it is from."
    folder = once('run', lambda folder: run(small(), folder))
    page = open_page(path=folder / 'report.html')
    page.click('#about-button')
    assert 'seed' in page.locator('#about').inner_text()
    assert page.locator('#about svg').count() >= 4
    assert 'Mock survey' in page.locator('header').inner_text()
    assert page.locator('#ascent').count() == 1
