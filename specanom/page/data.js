'use strict';
// What the page is about: numbers out of text, text out of numbers.

const FACTS = JSON.parse(document.getElementById('facts').textContent);

const byId = id => document.getElementById(id);

/** An element with attributes and children; a child that is text stays text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

/** The same in SVG. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes))
    element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

/** What each of the 65,536 numbers of half precision (IEEE 754) is worth. */
const HALVES = (() => {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    let value;
    if (exponent === 31) value = fraction ? NaN : Infinity;
    else if (exponent) value = 2 ** (exponent - 15) * (1 + fraction / 1024);
    else value = 2 ** -24 * fraction;
    table[bits] = bits >> 15 ? -value : value;
  }
  return table;
})();

/** An array that `pack` has packed; null where there is none. */
function unpack(packed) {
  if (!packed) return null;
  const halves = new Uint16Array(bytes(packed.half).buffer);
  return Float32Array.from(halves, bits => HALVES[bits] * packed.scale);
}

/** A grid with its arrays, decoded once. */
function unpackGrid(grid) {
  if (!grid.x) {
    grid.x = new Float32Array(bytes(grid.wave).buffer);
    grid.label = grid.segments && new Uint16Array(bytes(grid.segments.label).buffer);
  }
  return grid;
}

/** A number as people read it. */
function written(value, name = '') {
  if (value === null || value === undefined || value === '') return '–';
  if (value === true) return 'yes';
  if (value === false) return 'no';
  if (typeof value !== 'number') return String(value);
  if (/^z(_alternative)?$/.test(name)) return value.toFixed(4);
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

/** A flux to three digits. */
function brief(value) {
  const size = Math.abs(value);
  return size >= 1e4 || size < 1e-2 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

const raised = number => String(number).replace(/./g, digit => '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'['-0123456789'.indexOf(digit)]);

/** A unit such as '1e-17 erg / (s cm2 AA)': its power of ten, and the rest as it is printed. */
function unitParts(unit) {
  const [, power, rest] = unit.match(/^(?:1e([-+]?\d+)\s*)?(.*)$/s);
  const [above, ...below] = rest.split('/');
  const word = (text, sign) => {
    const [, name, digits] = text.match(/^(.*?)(-?\d*)$/s);
    const exponent = sign * Number(digits || 1);
    const shown = /^(AA|Angstrom)$/.test(name) ? 'Å' : name;
    return exponent === 1 ? shown : shown + raised(exponent);
  };
  const words = (text, sign) => text.split(/[\s()*]+/).filter(Boolean).map(one => word(one, sign));
  return {power: Number(power || 0), words: [...words(above, 1), ...words(below.join(' '), -1)].join(' ')};
}

/** A number and a unit, powers of ten in one. */
function measured(value, unit) {
  const {power, words} = unitParts(unit);
  return words ? `${brief(value * 10 ** power)} ${words}` : brief(value);
}

/** Rows of a CSV file (RFC 4180): quotes, commas and new lines within quotes. */
function readCsv(text) {
  const rows = [];
  let row = [], cell = '', quoted = false;
  const endCell = () => { row.push(cell); cell = ''; };
  const endRow = () => { endCell(); if (row.some(c => c !== '')) rows.push(row); row = []; };
  text = text.replace(/^\uFEFF/, '');
  for (let i = 0; i < text.length; i++) {
    const letter = text[i];
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[i + 1] === '"') { cell += '"'; i++; }
      else quoted = false;
    }
    else if (letter === '"') quoted = true;
    else if (letter === ',') endCell();
    else if (letter === '\n') endRow();
    else if (letter !== '\r') cell += letter;
  }
  endRow();
  return rows;
}

/** A CSV file of rows. */
function writeCsv(rows) {
  const cell = value => {
    const text = value === null || value === undefined ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map(row => row.map(cell).join(',') + '\n').join('');
}

/** Something that the browser keeps; false where it may not. */
function keep(key, value) {
  try { localStorage.setItem(key, JSON.stringify(value)); return true; }
  catch { return false; }
}

/** What it has kept; null where there is nothing. */
function kept(key) {
  try { return JSON.parse(localStorage.getItem(key)); }
  catch { return null; }
}

/** Say something where a screen reader hears it. */
function say(text) {
  byId('status').textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { byId('status').textContent = ''; }, 8000);
}
