'use strict';
// The list of objects: sorted by a column, filtered by words and conditions.

const MINE = ['label', 'quality', 'note'].map(
  name => ({name, title: name, about: `your ${name}`, shown: name === 'label'}));

class List {
  constructor(labels, open) {
    this.labels = labels;
    this.open = open;
    this.columns = [...FACTS.columns, ...MINE];
    this.place = new Map(FACTS.columns.map((column, i) => [column.name, i]));
    this.sorted = {name: null, down: false};
    this.terms = [];
    this.unknown = [];  // names in the filter that look like columns and are none
    this.rows = new Map();
    this.chooser();
    byId('filter').addEventListener('input', () => this.filter(byId('filter').value));
    byId('list').addEventListener('keydown', event => this.walk(event));
    this.refresh();
  }

  value(object, name) {
    if (MINE.some(column => column.name === name)) return this.labels.of(object.id)[name];
    return object.cells[this.place.get(name)];
  }

  /** Boxes that say which columns are shown. */
  chooser() {
    for (const column of this.columns) {
      const box = make('input', {type: 'checkbox'});
      box.checked = column.shown;
      box.addEventListener('change', () => { column.shown = box.checked; this.refresh(); });
      byId('columns').append(make('label', {title: column.about}, box, ' ', column.title));
    }
  }

  /** Conditions such as p_all<0.01, and words, of which -word is one that must not be. */
  filter(text) {
    const words = text.match(/[^\s"]*"[^"]*"|\S+/g) || [];
    this.unknown = [];
    this.terms = words.map(word => this.term(word.replaceAll('"', '')));
    this.refresh();
    say(byId('count').textContent);
  }

  term(word) {
    const parts = word.match(/^([\w ]+?)(<=|>=|!=|=|<|>)(.*)$/);
    if (parts && this.columns.some(column => column.name === parts[1])) {
      const [, name, sign, asked] = parts;
      return object => compare(this.value(object, name), sign, asked);
    }
    if (parts) this.unknown.push(parts[1]);
    const without = word.length > 1 && word.startsWith('-');
    const looked = (without ? word.slice(1) : word).toLowerCase();
    return object => this.text(object).includes(looked) !== without;
  }

  text(object) {
    const one = this.labels.of(object.id);
    const cells = object.cells.filter(cell => typeof cell === 'string');
    return [object.name, object.id, ...cells, one.label, one.note].join('\n').toLowerCase();
  }

  sort(name) {
    const {name: old, down} = this.sorted;
    this.sorted = {name, down: name === old && !down};
    this.refresh();
    say(`sorted by ${name}, ${this.sorted.down ? 'largest' : 'smallest'} first`);
  }

  ordered(objects) {
    const {name, down} = this.sorted;
    if (name === null) return objects;
    const sign = down ? -1 : 1;
    const missing = value => value === null || value === undefined || value === '';
    return [...objects].sort((a, b) => {
      const [x, y] = [this.value(a, name), this.value(b, name)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const texts = typeof x === 'string' || typeof y === 'string';
      return sign * (texts ? String(x).localeCompare(String(y)) : x - y);
    });
  }

  refresh() {
    const found = FACTS.objects.filter(object => this.terms.every(term => term(object)));
    this.visible = this.ordered(found);
    const shown = this.columns.filter(column => column.shown);
    byId('head').replaceChildren(this.header(shown));
    this.rows.clear();
    const rows = this.visible.map(object => this.row(object, shown));
    byId('rows').replaceChildren(...rows);
    const all = FACTS.objects.length, some = this.visible.length;
    const said = [some === all ? `${all} objects` : `${some} of ${all} objects`];
    said.push(...this.unknown.map(name => `there is no column ${name}`));
    byId('count').textContent = said.join('; ');
    this.mark(this.current);
  }

  header(shown) {
    const cells = [{name: null, title: 'object', about: 'in the order of the page'}, ...shown];
    return make('tr', {}, ...cells.map(column => {
      const mine = column.name === this.sorted.name;
      const order = this.sorted.down ? 'descending' : 'ascending';
      const arrow = mine && column.name !== null ? (this.sorted.down ? ' ▼' : ' ▲') : '';
      const button = make('button', {type: 'button', title: column.about}, column.title + arrow);
      button.addEventListener('click', () => this.sort(column.name));
      const place = this.place.get(column.name);
      const number = FACTS.objects.some(object => typeof object.cells[place] === 'number');
      const about = {scope: 'col', 'aria-sort': mine ? order : 'none', class: number ? 'right' : null};
      return make('th', about, button);
    }));
  }

  row(object, shown) {
    const button = make('button', {type: 'button', tabindex: -1}, object.name);
    button.addEventListener('click', () => this.open(object));
    const cells = shown.map(column => {
      const value = this.value(object, column.name);
      const words = written(value, column.name);
      if (typeof value === 'number') return make('td', {class: 'number'}, words);
      return make('td', {title: words}, make('div', {class: 'words'}, words));
    });
    const row = make('tr', {}, make('th', {scope: 'row'}, button), ...cells);
    this.rows.set(object.id, row);
    return row;
  }

  /** Show which object is open. */
  mark(object) {
    this.rows.get(this.current?.id)?.removeAttribute('aria-current');
    this.current = object;
    const row = this.rows.get(object?.id);
    row?.setAttribute('aria-current', 'true');
    for (const one of byId('rows').querySelectorAll('button[tabindex="0"]')) one.tabIndex = -1;
    const first = row || byId('rows').firstElementChild;
    if (first) first.querySelector('button').tabIndex = 0;
    if (row) this.uncover(row);
  }

  /** Bring a row into view, below the titles; to the side nothing moves. */
  uncover(row) {
    const box = row.closest('.scroll'), titles = byId('head').offsetHeight;
    const top = row.offsetTop - titles, bottom = row.offsetTop + row.offsetHeight - box.clientHeight;
    box.scrollTop = Math.min(Math.max(box.scrollTop, bottom), top);
  }

  /** The object after or before the one that is open. */
  next(step) {
    const at = this.visible.indexOf(this.current);
    const place = at < 0 ? (step > 0 ? 0 : this.visible.length - 1) : at + step;
    return this.visible[Math.min(Math.max(place, 0), this.visible.length - 1)];
  }

  /** Arrows walk from row to row. */
  walk(event) {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    const row = event.target.closest('tbody tr');
    if (!step || !row) return;
    event.preventDefault();
    const other = step > 0 ? row.nextElementSibling : row.previousElementSibling;
    if (!other) return;
    other.querySelector('button').focus({preventScroll: true});
    this.uncover(other);
  }
}

/** Whether a value stands to what was asked as the sign says. */
function compare(value, sign, asked) {
  const nothing = value === null || value === undefined || value === '';
  if (typeof value === 'number' && asked.trim() !== '' && isFinite(asked)) {
    const number = Number(asked);
    return {'<': value < number, '>': value > number, '<=': value <= number,
            '>=': value >= number, '=': value === number, '!=': value !== number}[sign];
  }
  const text = nothing ? '' : written(value).toLowerCase(), looked = asked.toLowerCase();
  if (sign === '=') return looked === '' ? nothing : text.includes(looked);
  if (sign === '!=') return looked === '' ? !nothing : !text.includes(looked);
  return false;
}
