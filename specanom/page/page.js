'use strict';
// The page: what was run, the list, the object, the keys.

const labels = new Labels(FACTS.id, ids => refreshLabels(ids));
const plot = new Plot(byId('spectrum'), pixel => read(pixel));
const list = new List(labels, object => open(object));
let current = null;

/** What is drawn, in the order of the legend: option, words, whether there is one. */
const DRAWN = [
  ['data', 'data', () => true, ''],
  ['errors', '1σ', () => plot.sigma.some(Number.isFinite), 'block i-band'],
  ['model', 'reconstruction', () => plot.model, 'i-model'],
  ['why', 'raises the score, too bright', () => plot.raising, 'block i-more'],
  ['', 'too faint', () => plot.raising, 'block i-less'],
  ['near', 'nearest ordinary', () => plot.near, 'dashed i-near'],
  ['end', 'end of the ascent', () => plot.end, 'dotted i-end'],
  ['', 'not measured', () => true, 'block i-gap'],
  ['', 'scan', () => current.scan, 'i-scan'],
  ['lines', 'lines', () => true, 'dashed i-line'],
];

const KEYS = {
  n: ['next object', () => open(list.next(1))],
  p: ['previous object', () => open(list.next(-1))],
  ...Object.fromEntries(Object.entries(LABELS).map(
    ([key, label]) => [key, [`label: ${label}`, () => toggle(label)]])),
  ...Object.fromEntries([0, 1, 2, 3, 4].map(
    quality => [String(quality), [`VI quality ${quality}`, () => grade(quality)]])),
  t: ['note (Esc leaves it)', () => byId('note').focus()],
  u: ['undo', () => undo()],
  z: ['the next redshift it may have', () => otherRedshift()],
  '[': ['labels to a smaller z', () => setRedshift(plot.z - 0.001 * (1 + plot.z))],
  ']': ['labels to a larger z', () => setRedshift(plot.z + 0.001 * (1 + plot.z))],
  '+': ['zoom in', () => plot.zoom(0.6)],
  '-': ['zoom out', () => plot.zoom(1 / 0.6)],
  ',': ['to shorter wavelengths', () => plot.pan(-0.25)],
  '.': ['to longer wavelengths', () => plot.pan(0.25)],
  r: ['all wavelengths', () => plot.reset()],
  s: ['smooth more, then not at all', () => smoothMore()],
  f: ['rest or observed frame', () => otherFrame()],
  e: ['errors', () => flip('errors')],
  m: ['reconstruction', () => flip('model')],
  x: ['explanation', () => flip('why')],
  o: ['nearest ordinary spectrum', () => flip('near')],
  l: ['names of lines', () => flip('lines')],
  '/': ['filter', () => byId('filter').focus()],
  '?': ['these keys', () => unfold('help')],
};

function open(object) {
  if (!object) return;
  current = object;
  list.mark(object);
  plot.show(object);
  byId('name').textContent = object.name;
  byId('links').replaceChildren(...object.links.flatMap(([word, address]) => [
    make('a', {href: address, target: '_blank', rel: 'noopener noreferrer'}, word), ' ']));
  byId('facts-line').textContent = object.said;
  legend();
  redshifts();
  tell();
  climb();
  byId('cells').replaceChildren(...FACTS.columns.flatMap((column, i) => [
    make('dt', {title: column.about}, column.title + (column.unit ? ` (${column.unit})` : '')),
    make('dd', {}, written(object.cells[i], column.name))]));
  showLabel();
  for (const mark of document.querySelectorAll('#about .mark')) place(mark);
}

// the figure

function legend() {
  byId('legend').replaceChildren(...DRAWN.filter(([, , there]) => there()).map(
    ([option, words, , style]) => {
      const sign = make('i', {class: style || 'i-data', 'aria-hidden': 'true'});
      if (!option || option === 'data') return make('span', {}, sign, ' ', words);
      const box = make('input', {type: 'checkbox', id: `draw-${option}`});
      box.checked = plot.options[option];
      box.addEventListener('change', () => plot.set(option, box.checked));
      return make('label', {}, box, ' ', sign, ' ', words);
    }));
}

function flip(option) {
  const box = byId(`draw-${option}`);
  if (box) box.click();
  else say('not known of this object');
}

function smoothMore() {
  const choice = byId('smooth');
  choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
  choice.dispatchEvent(new Event('change'));
  say(`smoothed over ${choice.value} pixels`);
}

function otherFrame() {
  const choice = byId('frame');
  if (choice.disabled) { say('without a redshift there is no other frame'); return; }
  choice.selectedIndex = 1 - choice.selectedIndex;
  choice.dispatchEvent(new Event('change'));
}

/** The numbers at the pointer, in the units of the axes. */
function read(i) {
  const {wave, flux, sigma, model, residual, grid, weights} = plot;
  const parts = [`${wave[i].toFixed(1)} Å`], shown = value => brief(value / 10 ** plot.tens);
  if (isFinite(flux[i])) {
    parts.push(`flux ${shown(flux[i])}${isFinite(sigma[i]) ? ` ± ${shown(sigma[i])}` : ''}`);
    if (model) parts.push(`expected ${shown(model[i])}`);
    if (residual) parts.push(`${residual[i].toFixed(1)} σ`);
  }
  else parts.push('not measured');
  if (weights) parts.push(`${grid.segments.names[grid.label[i]]}: weight ${written(weights[grid.label[i]])}`);
  byId('reading').textContent = parts.join(', ');
}

/** What the figure shows, in words. */
function tell() {
  const {flux, sigma, model, wave, weights, grid} = plot;
  const said = [];
  const level = finite(flux).sort((a, b) => a - b);
  if (level.length) said.push(`Median flux ${measured(level[level.length >> 1], current.unit)}.`);
  if (plot.residual) {
    const pulls = Array.from(flux, (f, i) => Math.abs((f - model[i]) / sigma[i]));
    let worst = -1;
    pulls.forEach((pull, i) => { if (isFinite(pull) && !(pulls[worst] >= pull)) worst = i; });
    if (worst >= 0) {
      const where = wave[worst].toFixed(0);
      said.push(`Largest residual ${pulls[worst].toFixed(1)} σ at ${where} Å (${plot.frame} frame).`);
    }
  }
  if (weights) {
    const order = [...weights.keys()].filter(s => isFinite(weights[s]));
    order.sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a]));
    const words = order.slice(0, 3).filter(s => Math.abs(weights[s]) > LEAST).map(
      s => `${grid.segments.names[s]} (${weights[s] > 0 ? 'too bright' : 'too faint'})`);
    said.push(words.length ? `The score is raised most by ${words.join(', ')}.` : 'No single part raises the score.');
  }
  if (current.scan) said.push(`The scan fired ${current.scan.map(scan => scan[2]).join('; ')}.`);
  if (current.near) said.push(`Nearest ordinary: ${current.near.said}.`);
  byId('told').textContent = said.join(' ');
  byId('spectrum').setAttribute('aria-label', `spectrum of ${current.name}`);
}

/** log p along the ascent, where the run has one. */
function climb() {
  const ascent = current.ascent;
  if (!ascent) { byId('ascent').replaceChildren(); return; }
  const parts = [make('h3', {}, 'Way back to the ordinary'), make('p', {}, ascent.said)];
  if (ascent.logp) {
    const low = ascent.logp[0], high = ascent.logp.at(-1), last = ascent.logp.length - 1;
    const points = ascent.logp.map((value, i) => {
      const y = 80 - 70 * (value - low) / (high - low || 1);
      return `${40 + 160 * i / last},${y}`;
    });
    const words = `log p rises from ${written(low)} to ${written(high)} in ${last} steps`;
    const picture = draw('svg', {viewBox: '0 0 210 100', width: 210, height: 100, role: 'img', 'aria-label': words},
      draw('polyline', {points: points.join(' '), class: 'climb'}),
      draw('text', {x: 2, y: 84}, written(Math.round(low * 10) / 10)),
      draw('text', {x: 2, y: 14}, written(Math.round(high * 10) / 10)),
      draw('text', {x: 90, y: 97}, 'step of the ascent'));
    parts.push(make('figure', {}, picture, make('figcaption', {}, words)));
  }
  byId('ascent').replaceChildren(...parts);
}

// redshifts

function redshifts() {
  const own = current.z ?? 0, most = Math.max(own, ...current.others.map(([z]) => z));
  byId('z').max = Math.max(1, Math.ceil(most + 0.2));
  const unknown = current.z === null;
  byId('z-own').textContent = unknown ? 'z unknown: 0' : `pipeline ${written(own, 'z')}`;
  byId('frame').disabled = unknown;
  byId('frame').value = plot.frame;
  byId('z-others').replaceChildren(...current.others.map(([z, words]) => {
    const button = make('button', {type: 'button'}, `${words} ${written(z, 'z')}`);
    button.addEventListener('click', () => setRedshift(z));
    return button;
  }));
  setRedshift(labels.of(current.id).z ?? own);
}

function setRedshift(z) {
  if (!Number.isFinite(z) || z <= -1) return;
  plot.z = z;
  byId('z').value = z;
  byId('z-number').value = z.toFixed(4);
  plot.render();
}

/** The next of the redshifts that the object may have. */
function otherRedshift() {
  const all = [[current.z ?? 0, current.z === null ? 'unknown' : 'pipeline'], ...current.others];
  if (all.length === 1) { say('no other redshift is known'); return; }
  const at = all.findIndex(([z]) => Math.abs(z - plot.z) < 1e-6);
  const [z, words] = all[(at + 1) % all.length];
  setRedshift(z);
  say(`lines at z = ${written(z, 'z')}: ${words}`);
}

// labels

function showLabel() {
  const one = labels.of(current.id);
  for (const button of document.querySelectorAll('#label-buttons button'))
    button.setAttribute('aria-pressed', button.dataset.label === one.label);
  for (const button of document.querySelectorAll('#quality-buttons button'))
    button.setAttribute('aria-pressed', button.dataset.quality === String(one.quality));
  byId('note').value = one.note;
  byId('scanner').value = labels.scanner;
  byId('undo').disabled = !labels.history.length;
  byId('labelled').textContent = `${labels.number} labelled`;
}

function refreshLabels() {
  list.refresh();
  if (current) showLabel();
  if (labels.safe === false) say('the browser keeps nothing here: export before you leave');
}

/** The redshift at which the lines stand, where an inspector has moved them; else null. */
function movedTo() {
  const moved = Math.abs(plot.z - (current.z ?? 0)) > 1e-6;
  return moved ? Number(plot.z.toFixed(4)) : null;
}

/** A label; given twice it goes. The redshift of the slider is kept of one that is wrong or unknown. */
function toggle(label) {
  const had = labels.of(current.id).label === label;
  const doubted = label === 'wrong z' || current.z === null;
  labels.set(current.id, {label: had ? '' : label, z: doubted && !had ? movedTo() : null});
  say(had ? `${current.name}: no label` : `${current.name}: ${label}`);
}

function grade(quality) {
  const had = labels.of(current.id).quality === quality;
  const found = current.z === null && !had ? {z: movedTo()} : {};
  labels.set(current.id, {quality: had ? '' : quality, ...found});
  say(had ? `${current.name}: no quality` : `${current.name}: quality ${quality}`);
}

function undo() {
  const ids = labels.undo();
  say(ids ? `taken back: ${ids.length} ${ids.length === 1 ? 'object' : 'objects'}` : 'nothing to undo');
}

async function take(file) {
  try {
    const {read, elsewhere} = labels.read(await file.text());
    const others = elsewhere ? `, ${elsewhere} of them of objects that are not on this page` : '';
    say(`${read} labels read from ${file.name}${others}`);
  }
  catch (error) { say(`${file.name} was not read: ${error.message}`); }
}

// what was run

function unfold(name) {
  const hidden = !byId(name).hidden;
  byId(name).hidden = hidden;
  byId(`${name}-button`).setAttribute('aria-expanded', !hidden);
  if (!hidden) byId(name).scrollIntoView({block: 'nearest'});
}

function table({title, columns, rows}) {
  const kind = at => (rows.some(row => typeof row[at] === 'number') ? 'number' : null);
  const head = columns.length
    ? [make('thead', {}, make('tr', {}, ...columns.map((name, at) => make('th', {scope: 'col', class: kind(at)}, name))))] : [];
  const body = rows.map(row => make('tr', {}, ...row.map(cell =>
    make('td', {class: typeof cell === 'number' ? 'number' : null}, written(cell)))));
  return make('div', {}, make('h3', {}, title), make('table', {}, ...head, make('tbody', {}, ...body)));
}

/** A distribution of all objects, where those of the page are, and the one that is open. */
function chart({name, title, low, high, log, counts}) {
  const number = counts.length, most = Math.max(...counts), width = 200 / number;
  const column = FACTS.columns.findIndex(one => one.name === name);
  const at = value => {
    if (value === null || value === undefined || log && value <= 0) return null;
    const v = log ? Math.log10(value) : value;
    return Math.min(Math.max((v - low) / (high - low), 0), 1);
  };
  const some = new Array(number).fill(0);
  for (const object of FACTS.objects) {
    const part = column < 0 ? null : at(object.cells[column]);
    if (part !== null) some[Math.min(Math.floor(part * number), number - 1)]++;
  }
  const tall = count => (count ? 6 + 74 * Math.log(count) / Math.max(Math.log(most), 1) : 0);
  const bars = (values, kind) => values.map((count, i) => draw('rect', {
    class: kind, x: 5 + i * width, y: 90 - tall(count), width: Math.max(width - 0.5, 0.5), height: tall(count)}));
  const mark = draw('line', {class: 'mark', y1: 8, y2: 90});
  mark.at = () => (column < 0 || !current ? null : at(current.cells[column]));
  const end = value => written(log ? Number((10 ** value).toPrecision(2)) : Number(value.toPrecision(3)));
  const words = `${title}: ${counts.reduce((a, b) => a + b, 0)} objects from ${end(low)} to ${end(high)}`;
  const last = draw('text', {x: 205, y: 106, 'text-anchor': 'end'}, end(high));
  const picture = draw('svg', {viewBox: '0 0 210 112', role: 'img', 'aria-label': words},
    ...bars(counts, 'bar'), ...bars(some, 'some'), mark,
    draw('line', {class: 'axis', x1: 5, x2: 205, y1: 90, y2: 90}), draw('text', {x: 5, y: 106}, end(low)), last);
  return make('figure', {}, picture, make('figcaption', {}, title + (log ? ' (logarithmic)' : '')));
}

function place(mark) {
  const part = mark.at();
  mark.setAttribute('visibility', part === null ? 'hidden' : 'visible');
  if (part === null) return;
  mark.setAttribute('x1', 5 + 200 * part);
  mark.setAttribute('x2', 5 + 200 * part);
}

function about() {
  byId('cautions').textContent = FACTS.cautions.join(' ');
  const parts = [];
  if (FACTS.histograms.length) {
    const words = 'Grey: all objects, heights logarithmic; blue: those of this page; the line: the open one.';
    parts.push(make('h3', {}, 'Distributions'), make('p', {}, words),
      make('div', {class: 'charts'}, ...FACTS.histograms.map(chart)));
  }
  parts.push(make('div', {class: 'tables'}, ...FACTS.tables.map(table)));
  byId('about').replaceChildren(...parts);
}

// wiring

function key(event) {
  const field = event.target.closest('input:not([type="checkbox"]):not([type="range"]), textarea, select');
  if (event.key === 'Escape' && field) { field.blur(); return; }
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === plot.canvas) {
    const moves = {ArrowLeft: () => plot.pan(-0.25), ArrowRight: () => plot.pan(0.25), Home: () => plot.reset(),
                   ArrowUp: () => plot.zoom(0.6), ArrowDown: () => plot.zoom(1 / 0.6)};
    if (moves[event.key]) { event.preventDefault(); moves[event.key](); return; }
  }
  const command = KEYS[event.key === '=' ? '+' : event.key];
  if (!command || !byId('single').checked || !current) return;
  event.preventDefault();
  command[1]();
}

function theme(name) {
  const dark = name ? name === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  plot.render();
}

function wire() {
  const click = (id, action) => byId(id).addEventListener('click', action);
  const change = (id, action) => byId(id).addEventListener('change', () => action(byId(id)));
  for (const name of ['about', 'help']) click(`${name}-button`, () => unfold(name));
  click('next', () => open(list.next(1)));
  click('previous', () => open(list.next(-1)));
  click('zoom-in', () => plot.zoom(0.6));
  click('zoom-out', () => plot.zoom(1 / 0.6));
  click('left', () => plot.pan(-0.25));
  click('right', () => plot.pan(0.25));
  click('reset', () => plot.reset());
  change('smooth', choice => plot.setWidth(Number(choice.value)));
  change('frame', choice => plot.setFrame(choice.value));
  byId('z').addEventListener('input', () => setRedshift(Number(byId('z').value)));
  change('z-number', field => setRedshift(Number(field.value)));
  click('z-own', () => setRedshift(current.z ?? 0));
  change('note', field => labels.set(current.id, {note: field.value}));
  change('scanner', field => { labels.scanner = field.value.trim(); labels.save(); });
  click('undo', undo);
  click('export-csv', () => download('labels.csv', labels.csv()));
  click('export-vi', () => download('vi.csv', labels.vi()));
  change('import', field => { take(field.files[0]); field.value = ''; });
  change('theme', choice => { keep('specanom theme', choice.value); theme(choice.value); });
  document.addEventListener('keydown', key);
  addEventListener('pagehide', () => document.activeElement?.blur());  // a note half written
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme(byId('theme').value));
}

function buttons() {
  for (const [letter, label] of Object.entries(LABELS)) {
    const button = make('button', {type: 'button', 'data-label': label, 'aria-keyshortcuts': letter},
      make('kbd', {}, letter), ` ${label}`);
    button.addEventListener('click', () => toggle(label));
    byId('label-buttons').append(button);
  }
  for (const quality of [0, 1, 2, 3, 4]) {
    const button = make('button', {type: 'button', 'data-quality': quality}, String(quality));
    button.addEventListener('click', () => grade(quality));
    byId('quality-buttons').append(button);
  }
  byId('keys').replaceChildren(...Object.entries(KEYS).map(
    ([letter, [words]]) => make('span', {}, make('kbd', {}, letter), ` ${words}`)));
}

/** One object as a figure, without a list and without labels. */
function asFigure() {
  document.body.classList.add('figure');
  for (const key of [...Object.keys(LABELS), ...'01234tunp/?']) delete KEYS[key];
}

if (FACTS.figure) asFigure();
byId('theme').value = kept('specanom theme') || '';
theme(byId('theme').value);
about();
buttons();
wire();
if (FACTS.objects.length) open(list.visible[0]);
else byId('object').hidden = true;
