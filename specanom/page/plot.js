'use strict';
// A spectrum on a canvas: what was measured, what was expected, and what departs.

const PAD = {left: 58, right: 10, top: 46, bottom: 40};
const GAP = 8, RESIDUAL = 0.26;  // between the panels; height of the lower one
const LEAST = 0.02;  // weight of a segment that is worth a colour, of the largest

/** Sums up to each element, from which the mean of any window is two look-ups. */
function sums(values) {
  const total = new Float64Array(values.length + 1);
  for (let i = 0; i < values.length; i++) total[i + 1] = total[i] + values[i];
  return total;
}

/** Means weighted by one over sigma squared in windows, and their errors. */
function smooth(flux, sigma, width) {
  if (width === 1 || !flux) return [flux, sigma];
  const n = flux.length, half = width >> 1;
  const weight = Float64Array.from(sigma, s => (s > 0 ? 1 / (s * s) : 0));
  const weights = sums(weight);
  const light = sums(weight.map((w, i) => (w ? w * flux[i] : 0)));
  const mean = new Float32Array(n), error = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const [a, b] = [Math.max(i - half, 0), Math.min(i + half + 1, n)];
    const w = weight[i] ? weights[b] - weights[a] : 0;
    mean[i] = w ? (light[b] - light[a]) / w : NaN;
    error[i] = w ? 1 / Math.sqrt(w) : NaN;
  }
  return [mean, error];
}

/** Departures in units of the error; of a window, of the error of its mean. */
function residuals(flux, sigma, model, width) {
  if (!model || !sigma.some(Number.isFinite)) return null;
  const raw = Float32Array.from(flux, (f, i) => (f - model[i]) / sigma[i]);
  if (width === 1) return raw;
  const half = width >> 1, n = raw.length;
  const total = sums(Array.from(raw, r => (isFinite(r) ? r : 0)));
  const number = sums(Array.from(raw, r => (isFinite(r) ? 1 : 0)));
  return raw.map((r, i) => {
    const [a, b] = [Math.max(i - half, 0), Math.min(i + half + 1, n)];
    return isFinite(r) ? (total[b] - total[a]) / Math.sqrt(number[b] - number[a]) : NaN;
  });
}

/** Round steps between two ends. */
function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  const out = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) out.push(k * step);
  return [out, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

const finite = values => Array.from(values).filter(Number.isFinite);

class Plot {
  constructor(canvas, tell) {
    this.canvas = canvas;
    this.tell = tell;
    this.options = {errors: true, model: true, near: false, end: false, why: true, lines: true};
    this.width = 1;
    this.wanted = 'rest';
    this.tens = 0;
    this.canvas.addEventListener('pointerdown', event => this.press(event));
    this.canvas.addEventListener('pointermove', event => this.move(event));
    this.canvas.addEventListener('pointerup', event => this.release(event));
    this.canvas.addEventListener('pointerleave', () => { this.at = null; this.render(); });
    this.canvas.addEventListener('pointercancel', () => { this.drag = null; this.render(); });
    this.canvas.addEventListener('dblclick', () => this.reset());
    this.canvas.addEventListener('wheel', event => this.wheel(event), {passive: false});
    new ResizeObserver(() => this.render()).observe(canvas);
  }

  /** The frame that is drawn: without a redshift there is no other than that of the data. */
  get frame() { return this.object.z === null ? this.grid.frame : this.wanted; }

  /** Take an object; decode its arrays. */
  show(object) {
    const grid = unpackGrid(FACTS.grids[object.grid]);
    this.object = object;
    this.grid = grid;
    this.z = object.z ?? 0;
    this.flux = unpack(object.flux);
    this.sigma = unpack(object.sigma);
    this.model = unpack(object.model);
    this.near = unpack(object.near?.flux);
    this.end = unpack(object.ascent?.end);
    this.weights = unpack(object.weights);
    this.raising = this.weights?.some(weight => Math.abs(weight) > LEAST);
    this.place();
    this.reset();
  }

  /** Wavelengths on the axis, in the frame that is asked for. */
  place() {
    const own = this.object.z ?? 0, given = this.grid.frame;
    const factor = given === this.frame ? 1 : given === 'rest' ? 1 + own : 1 / (1 + own);
    this.wave = this.grid.x.map(x => x * factor);
    const good = [...this.flux.keys()].filter(i => isFinite(this.flux[i]));
    const last = this.wave.length - 1;
    this.whole = [this.wave[good[0] ?? 0], this.wave[good.at(-1) ?? last]];
    this.change();
  }

  change() {
    [this.drawn, this.error] = smooth(this.flux, this.sigma, this.width);
    this.residual = residuals(this.flux, this.sigma, this.model, this.width);
  }

  /** Where a line is at the redshift of the slider. */
  lineAt(wave) {
    return wave * (1 + this.z) / (this.frame === 'rest' ? 1 + (this.object.z ?? 0) : 1);
  }

  set(option, value) {
    this.options[option] = value;
    this.render();
  }

  setFrame(frame) {
    const own = 1 + (this.object.z ?? 0), view = this.view;
    const factor = frame === this.frame ? 1 : frame === 'rest' ? 1 / own : own;
    this.wanted = frame;
    this.place();
    this.view = view.map(x => x * factor);
    this.render();
  }

  setWidth(width) {
    this.width = width;
    this.change();
    this.render();
  }

  reset() {
    this.view = [...this.whole];
    this.render();
  }

  /** Show a part, within what there is and not narrower than ten pixels. */
  look(low, high) {
    const [first, last] = this.whole;
    const least = 10 * (last - first) / this.wave.length;
    const span = Math.min(Math.max(high - low, least), last - first);
    const start = Math.min(Math.max((low + high - span) / 2, first), last - span);
    this.view = [start, start + span];
    this.render();
  }

  zoom(factor, centre = (this.view[0] + this.view[1]) / 2) {
    const [low, high] = this.view;
    this.look(centre - (centre - low) * factor, centre + (high - centre) * factor);
  }

  pan(part) {
    const step = part * (this.view[1] - this.view[0]);
    this.look(this.view[0] + step, this.view[1] + step);
  }

  // the pointer

  waveAt(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.toWave(event.clientX - box.left);
  }

  toWave(x) {
    const inner = this.size.width - PAD.left - PAD.right;
    return this.view[0] + (x - PAD.left) / inner * (this.view[1] - this.view[0]);
  }

  press(event) {
    if (event.button !== 0 || !this.object) return;
    this.canvas.setPointerCapture(event.pointerId);
    const pans = event.shiftKey || event.pointerType === 'touch';
    this.drag = {from: this.waveAt(event), to: this.waveAt(event), pans, view: this.view};
  }

  move(event) {
    if (!this.object) return;
    this.at = this.waveAt(event);
    if (this.drag?.pans) {
      this.view = this.drag.view;
      const shift = this.drag.from - this.waveAt(event);
      this.look(this.view[0] + shift, this.view[1] + shift);
    }
    else if (this.drag) this.drag.to = this.at;
    this.render();
    this.tell(this.nearest(this.at));
  }

  release() {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.pans) return;
    const [low, high] = [drag.from, drag.to].sort((a, b) => a - b);
    if (high - low > 0.01 * (this.view[1] - this.view[0])) this.look(low, high);
    else this.render();
  }

  /** A wheel zooms when it is meant for the figure: after a click, or with Ctrl. */
  wheel(event) {
    if (!this.object || !(event.ctrlKey || document.activeElement === this.canvas)) return;
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.waveAt(event));
  }

  nearest(wave) {
    let best = 0;
    for (let i = 1; i < this.wave.length; i++)
      if (Math.abs(this.wave[i] - wave) < Math.abs(this.wave[best] - wave)) best = i;
    return best;
  }

  // the drawing

  colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  render() {
    if (!this.object) return;
    const ratio = devicePixelRatio || 1;
    const size = {width: this.canvas.clientWidth, height: this.canvas.clientHeight};
    if (!size.width) return;
    this.size = size;
    this.canvas.width = size.width * ratio;
    this.canvas.height = size.height * ratio;
    this.pen = this.canvas.getContext('2d');
    this.pen.scale(ratio, ratio);
    this.pen.font = `12px ${getComputedStyle(this.canvas).fontFamily}`;
    const bottom = size.height - PAD.bottom, height = bottom - PAD.top;
    const split = this.residual ? bottom - height * RESIDUAL : bottom;
    const upper = {top: PAD.top, bottom: split - (this.residual ? GAP : 0)};
    this.range();
    this.upper(upper);
    if (this.residual) this.lower({top: split, bottom});
    this.axis(bottom);
    this.pointer(bottom);
  }

  /** The pixels in view, one more on each side. */
  range() {
    const inside = [...this.wave.keys()].filter(
      i => this.wave[i] >= this.view[0] && this.wave[i] <= this.view[1]);
    this.first = Math.max((inside[0] ?? 0) - 1, 0);
    this.last = Math.min((inside.at(-1) ?? 0) + 2, this.wave.length);
  }

  x(wave) {
    const inner = this.size.width - PAD.left - PAD.right;
    return PAD.left + (wave - this.view[0]) / (this.view[1] - this.view[0]) * inner;
  }

  /** A function from values to heights in a panel. */
  heights(panel, low, high) {
    return value => panel.bottom - (value - low) / (high - low) * (panel.bottom - panel.top);
  }

  clip(panel) {
    const pen = this.pen, inner = this.size.width - PAD.left - PAD.right;
    pen.save();
    pen.beginPath();
    pen.rect(PAD.left, panel.top, inner, panel.bottom - panel.top);
    pen.clip();
  }

  box(panel) {
    this.pen.strokeStyle = this.colour('rule');
    this.pen.lineWidth = 1;
    this.pen.strokeRect(
      PAD.left + 0.5, panel.top + 0.5, this.size.width - PAD.left - PAD.right, panel.bottom - panel.top);
  }

  upper(panel) {
    const curves = this.curves();
    const [low, high] = this.limits(curves.map(curve => curve.values));
    const y = this.heights(panel, low, high);
    this.clip(panel);
    if (this.options.why && this.weights) this.reasons(panel);
    this.gaps(panel);
    if (this.options.errors) this.band(y);
    for (const curve of curves) this.line(curve.values, y, curve);
    this.pen.restore();
    if (this.options.lines) this.names(panel);
    if (this.object.scan) this.fired(panel);
    this.box(panel);
    this.scale(panel, low, high, y, 'flux', this.object.unit);
  }

  curves() {
    const {model, near, end} = this.options, found = [];
    if (near && this.near) found.push({values: this.near, colour: 'near', dash: [5, 3]});
    if (end && this.end) found.push({values: this.end, colour: 'end', dash: [2, 2]});
    found.push({values: this.drawn, colour: 'data', steps: true});
    if (model && this.model) found.push({values: this.model, colour: 'model', width: 1.3});
    return found;
  }

  limits(arrays) {
    const seen = arrays.flatMap(values => finite(values.subarray(this.first, this.last)));
    if (!seen.length) return [0, 1];
    seen.sort((a, b) => a - b);
    const at = part => seen[Math.round(part * (seen.length - 1))];
    const few = seen.length < 400 ? 0 : 0.001;
    const [low, high] = [at(few), at(1 - few)];
    const space = 0.06 * (high - low) || 1;
    return [low - space, high + space];
  }

  line(values, y, {colour, dash = [], width = 1, steps = false}) {
    const pen = this.pen;
    pen.beginPath();
    pen.setLineDash(dash);
    pen.lineWidth = width;
    pen.strokeStyle = this.colour(colour);
    let before = false;
    for (let i = this.first; i < this.last; i++) {
      const there = isFinite(values[i]);
      if (there && before && steps) {
        const middle = this.x((this.wave[i] + this.wave[i - 1]) / 2);
        pen.lineTo(middle, y(values[i - 1]));
        pen.lineTo(middle, y(values[i]));
      }
      if (there) pen[before ? 'lineTo' : 'moveTo'](this.x(this.wave[i]), y(values[i]));
      before = there;
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  /** One standard deviation to both sides of the data. */
  band(y) {
    const pen = this.pen;
    pen.fillStyle = this.colour('band');
    let start = null;
    for (let i = this.first; i <= this.last; i++) {
      const there = i < this.last && isFinite(this.error[i]) && isFinite(this.drawn[i]);
      if (there && start === null) start = i;
      if (there || start === null) continue;
      pen.beginPath();
      for (let k = start; k < i; k++) pen.lineTo(this.x(this.wave[k]), y(this.drawn[k] + this.error[k]));
      for (let k = i - 1; k >= start; k--) pen.lineTo(this.x(this.wave[k]), y(this.drawn[k] - this.error[k]));
      pen.fill();
      start = null;
    }
  }

  /** Stretches of pixels for which `key` gives the same, and not null. */
  stretches(key) {
    const found = [];
    let start = this.first;
    for (let i = this.first + 1; i <= this.last; i++) {
      if (i < this.last && key(i) === key(start)) continue;
      if (key(start) !== null) found.push([start, i - 1, key(start)]);
      start = i;
    }
    return found;
  }

  /** From the left edge of one pixel to the right edge of another, on the canvas. */
  span(first, last) {
    const wave = this.wave, end = wave.length - 1;
    const left = first ? (wave[first] + wave[first - 1]) / 2 : wave[0];
    const right = last < end ? (wave[last] + wave[last + 1]) / 2 : wave[end];
    return [this.x(left), Math.max(this.x(right) - this.x(left), 1)];
  }

  gaps(panel) {
    const pen = this.pen;
    pen.strokeStyle = this.colour('gap');
    pen.lineWidth = 1;
    for (const [a, b] of this.stretches(i => (isFinite(this.flux[i]) ? null : 'gap'))) {
      const [left, width] = this.span(a, b);
      pen.save();
      pen.beginPath();
      pen.rect(left, panel.top, width, panel.bottom - panel.top);
      pen.clip();
      pen.beginPath();
      const height = panel.bottom - panel.top;
      for (let x = left - height; x < left + width; x += 7) {
        pen.moveTo(x, panel.bottom);
        pen.lineTo(x + height, panel.top);
      }
      pen.stroke();
      pen.restore();
    }
  }

  /** Segments that raise the score: orange where there is too much light, else blue. */
  reasons(panel) {
    const pen = this.pen, most = Math.max(...finite(this.weights).map(Math.abs), 1e-9);
    for (const [a, b, segment] of this.stretches(i => this.grid.label[i])) {
      const weight = this.weights[segment] / most;
      if (!(Math.abs(weight) > LEAST)) continue;
      const [left, width] = this.span(a, b);
      pen.fillStyle = this.colour(weight > 0 ? 'more' : 'less');
      pen.globalAlpha = 0.45 * Math.abs(weight);
      pen.fillRect(left, panel.top, width, panel.bottom - panel.top);
      pen.globalAlpha = 1;
      const height = 10 * Math.sqrt(Math.abs(weight));
      pen.fillRect(left, panel.bottom - height, width, height);
    }
  }

  /** Where the scan fired: a bracket above the data. */
  fired(panel) {
    const pen = this.pen, factor = this.frame === this.grid.frame ? 1 : this.wave[0] / this.grid.x[0];
    pen.strokeStyle = pen.fillStyle = this.colour('scan');
    pen.lineWidth = 2;
    for (const [low, high] of this.object.scan) {
      const [a, b] = [this.x(low * factor), this.x(high * factor)];
      if (b < PAD.left || a > this.size.width - PAD.right) continue;
      pen.beginPath();
      pen.moveTo(a, panel.top + 12);
      pen.lineTo(a, panel.top + 5);
      pen.lineTo(b, panel.top + 5);
      pen.lineTo(b, panel.top + 12);
      pen.stroke();
    }
  }

  /** Names of lines above the panel, in three rows so that none touch. */
  names(panel) {
    const pen = this.pen, ends = [-Infinity, -Infinity, -Infinity];
    const written = [];
    let before = [null, 0];
    pen.textAlign = 'center';
    pen.lineWidth = 1;
    for (const [name, wave, kind] of FACTS.lines) {
      const place = this.lineAt(wave);
      if (place < this.view[0] || place > this.view[1]) continue;
      const x = this.x(place), half = pen.measureText(name).width / 2 + 2;
      const again = name === before[0] && x - before[1] < 2 * half;
      const row = again ? -1 : ends.findIndex(end => x - half > end);
      before = [name, x];
      pen.strokeStyle = this.colour('line');
      pen.setLineDash(kind === 'emission' ? [4, 3] : [1, 3]);
      pen.beginPath();
      pen.moveTo(x, row < 0 ? panel.top : panel.top - 2 - 13 * row);
      pen.lineTo(x, this.size.height - PAD.bottom);
      pen.stroke();
      if (row < 0) continue;
      ends[row] = x + half;
      const inside = Math.min(Math.max(x, PAD.left + half), this.size.width - half);
      written.push([name, inside, panel.top - 4 - 13 * row, half]);
    }
    pen.setLineDash([]);
    for (const [name, x, y, half] of written) {  // over the lines, which would cross them
      pen.fillStyle = this.colour('page');
      pen.fillRect(x - half + 2, y - 10, 2 * half - 4, 13);
      pen.fillStyle = this.colour('soft');
      pen.fillText(name, x, y);
    }
  }

  lower(panel) {
    const seen = finite(this.residual.subarray(this.first, this.last)).map(Math.abs);
    const most = Math.max(4, 1.1 * Math.max(...seen, 0));
    const y = this.heights(panel, -most, most), pen = this.pen;
    this.clip(panel);
    pen.fillStyle = this.colour('band');
    pen.fillRect(0, y(1), this.size.width, y(-1) - y(1));
    this.line(this.residual, y, {colour: 'data', steps: true});
    pen.restore();
    this.box(panel);
    this.scale(panel, -most, most, y, 'residual (σ)');
  }

  scale(panel, low, high, y, title, unit = '') {
    const pen = this.pen, most = Math.max(Math.abs(low), Math.abs(high));
    const tens = most >= 1e4 || most < 0.01 ? Math.floor(Math.log10(most)) : 0;
    const steps = Math.max((panel.bottom - panel.top) / 32, 6), power = 10 ** tens;
    const [values, digits] = ticks(low / power, high / power, steps);
    pen.fillStyle = this.colour('soft');
    pen.strokeStyle = this.colour('rule');
    pen.textAlign = 'right';
    for (const value of values) {
      const height = y(value * power);
      if (height < panel.top + 4 || height > panel.bottom - 2) continue;
      pen.fillText(value.toFixed(digits), PAD.left - 6, height + 4);
      pen.fillRect(PAD.left - 3, height, 3, 1);
    }
    pen.save();
    pen.translate(12, (panel.top + panel.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = 'center';
    if (title === 'flux') this.tens = tens;  // in which the axis of the flux is written
    const own = unitParts(unit), exponent = tens + own.power;
    const said = [exponent ? `10${raised(exponent)}` : '', own.words].filter(Boolean).join(' ');
    pen.fillText(said ? `${title} (${said})` : title, 0, 0);
    pen.restore();
  }

  axis(bottom) {
    const pen = this.pen;
    const [values, digits] = ticks(...this.view, (this.size.width - PAD.left) / 80);
    pen.textAlign = 'center';
    pen.fillStyle = this.colour('soft');
    for (const value of values) {
      pen.fillRect(this.x(value), bottom, 1, 4);
      pen.fillText(value.toFixed(digits), this.x(value), bottom + 17);
    }
    const middle = (PAD.left + this.size.width - PAD.right) / 2;
    pen.fillText(`${this.frame} wavelength (Å, vacuum)`, middle, bottom + 33);
  }

  pointer(bottom) {
    const pen = this.pen;
    if (this.drag && !this.drag.pans) {
      const [a, b] = [this.x(this.drag.from), this.x(this.drag.to)];
      pen.fillStyle = this.colour('pick');
      pen.fillRect(Math.min(a, b), PAD.top, Math.abs(b - a), bottom - PAD.top);
    }
    if (this.at === null || this.at === undefined) return;
    const x = this.x(this.at);
    if (x < PAD.left || x > this.size.width - PAD.right) return;
    pen.fillStyle = this.colour('soft');
    pen.fillRect(x, PAD.top, 1, bottom - PAD.top);
  }
}
