"""The site in a browser: Chrome, Chromium or Edge where one is found. Without one nothing here is tried, and pytest says so; `make
browser` fails then. SPECANOM_BROWSER may name the program."""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import each_notebook
from test_docs import page_name

NAMES = (
    'chromium',
    'chromium-browser',
    'google-chrome',
    'google-chrome-stable',
    'microsoft-edge',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
)
PATIENCE = 120_000  # ms: the machine may have much else to do
WIDTHS = (390, 1024, 1280, 1440)  # px: a telephone, a tablet, two screens
CUT = """() => {  // of what does not scroll in a box of its own
    const main = document.querySelector('main');
    const edge = Math.min(main.getBoundingClientRect().right, innerWidth) + 1;
    const boxed = e => e !== main &&
        (getComputedStyle(e).overflowX !== 'visible' || boxed(e.parentElement));
    return [...main.querySelectorAll('*')]
        .filter(e => e.getBoundingClientRect().right > edge)
        .filter(e => e.checkVisibility() && !boxed(e.parentElement))
        .map(e => e.outerHTML.slice(0, 200));
}"""
WRAPPED = """() => [...document.querySelectorAll('main pre.sourceCode')]
    .filter(e => e.checkVisibility()).filter(e => {
        e.firstElementChild.style.whiteSpace = 'pre';
        const wide = e.scrollWidth > e.clientWidth;
        e.firstElementChild.style.whiteSpace = '';
        return wide;
    }).map(e => e.textContent)
"""
CONTRAST = """element => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const over = (colour, ground) => {
        for (const c of [ground, colour]) {
            canvas.fillStyle = c;
            canvas.fillRect(0, 0, 1, 1);
        }
        return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
    };
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = colour => {
        const [r, g, b] = colour.match(/\\d+/g).map(v => linear(v / 255));
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const layers = [];
    for (let e = element; e; e = e.parentElement)
        layers.unshift(getComputedStyle(e).backgroundColor);
    const ground = layers.reduce((under, c) => over(c, under), 'rgb(255,255,255)');
    const both = [over(getComputedStyle(element).color, ground), ground].map(light);
    return {
        contrast: (Math.max(...both) + .05) / (Math.min(...both) + .05),
        ground: both[1],
    };
}"""


def found_browser():
    "The program that SPECANOM_BROWSER names, or the first that is there; None without any."
    named = os.environ.get('SPECANOM_BROWSER', '').replace('any', '')
    return next(filter(None, map(shutil.which, [named] if named else NAMES)), None)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def browser():
    program = found_browser()
    if program is None:
        say = pytest.fail if os.environ.get('SPECANOM_BROWSER') else pytest.skip
        say('no browser: install chromium, or name one by SPECANOM_BROWSER')
    from playwright.sync_api import sync_playwright

    # root, as in a container, has no sandbox to offer
    options = ['--no-sandbox'] if hasattr(os, 'geteuid') and not os.geteuid() else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=program, args=options, timeout=PATIENCE
        )
        yield started
        started.close()


@pytest.fixture(scope='module')
def address(browser, site):
    "Of the site on a server of this machine; the browser comes first, for without one no site is built."
    handler = functools.partial(Quiet, directory=site)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture
def open_page(browser, address):
    "A function that opens a page; afterwards nothing may have gone wrong, nor any other host been asked."
    wrong, opened = [], []

    def asked(request):
        if not request.url.startswith((address, 'data:', 'blob:')):
            wrong.append(f'asks {request.url}')

    def answered(response):
        if response.status >= 400:
            wrong.append(f'{response.status} for {response.url}')

    def said(message):
        if message.type in ('error', 'warning'):
            wrong.append(message.text)

    def open_(name, scheme='light', width=1280):
        size = {'width': width, 'height': 1000}
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        opened.append(page)
        page.on('request', asked)
        page.on('response', answered)
        page.on('console', said)
        page.on('pageerror', lambda error: wrong.append(str(error)))
        page.goto(address + name, wait_until='load')
        return page

    yield open_
    for page in opened:
        page.close()
    assert not wrong, '\n'.join(wrong)


@each_notebook
def test_fits(notebook, open_page):
    "No page is wider than the window, and on a screen no line of visible code wraps."
    page = open_page(page_name(notebook))
    for width in WIDTHS:
        page.set_viewport_size({'width': width, 'height': 1000})
        wide = page.evaluate('document.documentElement.scrollWidth')
        assert wide <= width, f'{wide} px wide in a window of {width}'
        cut = page.evaluate(CUT)
        assert not cut, f'cut in a window of {width} px: {cut[:3]}'
    page.set_viewport_size({'width': 1280, 'height': 1000})
    assert not page.evaluate(WRAPPED)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_light_and_dark(scheme, open_page):
    "The page follows the system, its button changes it, and text can be read in both."
    page = open_page('spectra.html', scheme)
    for now in (scheme, {'light': 'dark', 'dark': 'light'}[scheme]):
        for what in ('main p', 'main code', '#quarto-sidebar a', '.arguments dd'):
            seen = page.locator(what).locator('visible=true').first.evaluate(CONTRAST)
            assert seen['contrast'] > 4.5, f'{what} cannot be read'
            assert (seen['ground'] > 0.5) == (now == 'light'), f'{what} is not {now}'
        page.locator('.quarto-color-scheme-toggle').locator('visible=true').click()


def contrast_of(text, tries=50):
    "Of a text that may still be fading in."
    for _ in range(tries):
        contrast = text.evaluate(CONTRAST)['contrast']
        if contrast > 4.5:
            break
        text.page.wait_for_timeout(100)
    return contrast


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize(
    'name, place',
    [
        ('preprocess', 'preprocess.html#preprocess'),
        ('Spectra.reject', 'spectra.html#spectra.reject'),
    ],
)
def test_search(name, place, scheme, open_page):
    "A function or a method is found by its name, the result can be read, and leads to the entry."
    page = open_page('index.html', scheme)
    page.locator('#quarto-search button').locator('visible=true').first.click()
    page.keyboard.type(name, delay=20)
    result = page.locator(f'a[href$="{place}"]').locator('visible=true').first
    result.wait_for()
    text = result.locator(':text-is("' + name + '")').first
    assert contrast_of(text) > 4.5
    result.click()
    page.wait_for_url(f'**/{place}*')
    entry = page.locator(f'[id="{place.split("#")[1]}"]')
    assert entry.locator('pre').first.is_visible()


def test_folds(open_page):
    "What only checks is folded, and opens at a click."
    page = open_page('spectra.html')
    fold = page.locator('details').first
    code = fold.locator('pre').first
    assert not code.is_visible()
    fold.locator('summary').click()
    assert code.is_visible()


def test_formulas(open_page):
    "Formulas are MathML, which the browser draws itself, and none is left as TeX."
    page = open_page('sliced.html')
    assert page.locator('main math').count() > 5
    box = page.locator('main math').first.bounding_box()
    assert box['width'] > 0 and box['height'] > 0
    assert '\\(' not in page.locator('main').inner_text()


def test_icon(open_page):
    "The page has an icon, and the site holds it."
    page = open_page('index.html')
    icon = page.locator('link[rel="icon"]').get_attribute('href')
    answer = page.request.get(page.url.rsplit('/', 1)[0] + '/' + icon)
    assert answer.ok and b'<svg' in answer.body()
