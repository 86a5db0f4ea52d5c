'use strict';
// What an inspector says of the objects: kept in the browser, undone, exported, imported.

const LABELS = {
  i: 'interesting', a: 'artefact', w: 'wrong z', k: 'known', b: 'boring',
};
const OWN_COLUMNS = ['specobjid', 'label', 'note', 'quality', 'scanner', 'time'];
const VI_COLUMNS = [
  'TARGETID', 'EXPID', 'NIGHT', 'TILEID', 'Spec_version', 'Redrock_version',
  'Template_version', 'Redrock_spectype', 'Redrock_z', 'Redrock_deltachi2',
  'VI_scanner', 'VI_quality', 'VI_issue', 'VI_z', 'VI_spectype', 'VI_comment',
];
const ISSUES = {'wrong z': 'R', artefact: 'S'};
const INSPECTED = 'inspected';  // in a file: looked at, without a label
const NOTHING = {label: '', note: '', quality: '', scanner: '', time: '', z: null, issue: ''};

class Labels {
  constructor(page, changed) {
    this.key = `specanom labels ${page}`;
    this.changed = changed;
    this.recall();
    addEventListener('storage', event => {  // another window of this page
      if (event.key !== this.key) return;
      this.recall();
      changed(Object.keys(this.said));
    });
  }

  recall() {
    const old = kept(this.key) || {};
    this.said = old.said || {};
    this.history = old.history || [];
    this.scanner = old.scanner || kept('specanom scanner') || '';
  }

  of(id) { return this.said[id] || NOTHING; }

  get number() { return Object.values(this.said).filter(one => one.label).length; }

  save() {
    const state = {said: this.said, history: this.history.slice(-200), scanner: this.scanner};
    this.safe = keep(this.key, state);
    keep('specanom scanner', this.scanner);
  }

  /** Change some objects in one step, which one undo takes back. */
  put(changes) {
    const before = {};
    for (const [id, parts] of Object.entries(changes)) {
      before[id] = this.said[id] || null;
      this.said[id] = {...this.of(id), ...parts};
    }
    this.history.push(before);
    this.save();
    this.changed(Object.keys(changes));
  }

  set(id, parts) {
    const time = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
    this.put({[id]: {...parts, scanner: this.scanner, time}});
  }

  undo() {
    const before = this.history.pop();
    if (!before) return null;
    for (const [id, old] of Object.entries(before)) {
      if (old) this.said[id] = old;
      else delete this.said[id];
    }
    this.save();
    this.changed(Object.keys(before));
    return Object.keys(before);
  }

  /** Those of whom anything is said, in the order of the page, then the others. */
  spoken() {
    const here = FACTS.objects.map(object => object.id);
    const others = Object.keys(this.said).filter(id => !here.includes(id));
    return [...here, ...others].filter(id => {
      const one = this.of(id);
      return one.label || one.note || one.quality !== '' || one.issue || one.z !== null;
    });
  }

  /** Our file of labels. */
  csv() {
    const rows = this.spoken().map(id => {
      const {label, note, quality, scanner, time} = this.of(id);
      return [id, label || INSPECTED, note, quality, scanner, time];
    });
    return writeCsv([OWN_COLUMNS, ...rows]);
  }

  /** The file of prospect. What it has no column for goes in front of the comment. */
  vi() {
    const about = new Map(FACTS.objects.map(object => [object.id, object]));
    const rows = this.spoken().filter(id => about.has(id)).map(id => {
      const one = this.of(id), object = about.get(id), desi = object.desi || {};
      const issue = [...new Set((ISSUES[one.label] || '') + one.issue)].join('');
      const prefix = one.label && !ISSUES[one.label] ? `[${one.label}]` : '';
      const comment = [prefix, one.note].filter(Boolean).join(' ');
      return [
        desi.TARGETID ?? id, desi.EXPID ?? -1, desi.NIGHT ?? -1, desi.TILEID ?? -1,
        object.version || -1, -1, -1, object.class, decimals(object.z) || -1, -1,
        one.scanner || ' ', one.quality === '' ? -1 : one.quality, issue,
        decimals(one.z), one.class || '', comment,
      ];
    });
    return writeCsv([VI_COLUMNS, ...rows]);
  }

  /** Take over a file of either kind; says how many, or throws why not. */
  read(text) {
    const [names, ...rows] = readCsv(text);
    if (!names) throw new Error('the file is empty');
    const has = columns => columns.every(name => names.includes(name));
    const changes = {};
    const cells = rows.map(row => Object.fromEntries(names.map((n, i) => [n, row[i] ?? ''])));
    if (has(['specobjid', 'label']))
      for (const row of cells) changes[row.specobjid.trim()] = ownRow(row);
    else if (has(['TARGETID', 'VI_quality'])) {
      const ids = new Map(FACTS.objects.map(o => [String(o.desi?.TARGETID ?? o.id), o.id]));
      for (const row of cells)
        changes[ids.get(row.TARGETID.trim()) || row.TARGETID.trim()] = viRow(row);
    }
    else throw new Error(
      'neither specobjid and label, nor TARGETID and VI_quality are among its columns');
    const here = new Set(FACTS.objects.map(object => object.id));
    const found = Object.keys(changes);
    if (found.some(id => !/^\d{1,20}$/.test(id)))
      throw new Error(`'${found.find(id => !/^\d{1,20}$/.test(id))}' is no id`);
    if (found.length) this.put(changes);
    return {read: found.length, elsewhere: found.filter(id => !here.has(id)).length};
  }
}

const decimals = z => (z === null || z === undefined ? '' : z.toFixed(4));

const qualityOf = text => (/^[0-4]$/.test(text.trim()) ? Number(text) : '');

/** A row of our own file. */
function ownRow(row) {
  const {label, note = '', quality = '', scanner = '', time = ''} = row;
  const said = label === INSPECTED ? '' : label;
  return {...NOTHING, label: said, note, quality: qualityOf(quality), scanner, time};
}

/** A row of prospect's. */
function viRow(row) {
  const comment = row.VI_comment || '';
  const found = comment.match(/^\[([^\]]+)\] ?/);
  const issue = row.VI_issue || '';
  const guess = issue.includes('R') ? 'wrong z' : issue.includes('S') ? 'artefact' : '';
  const label = found && found[1] !== INSPECTED ? found[1] : guess;
  const z = row.VI_z && isFinite(row.VI_z) ? Number(row.VI_z) : null;
  return {
    ...NOTHING, label, note: found ? comment.slice(found[0].length) : comment,
    quality: qualityOf(row.VI_quality || ''), scanner: (row.VI_scanner || '').trim(), z,
    issue: issue.replace(ISSUES[label] || '', ''), class: row.VI_spectype || '',
  };
}

/** Hand a text to the reader as a file. */
function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  make('a', {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
