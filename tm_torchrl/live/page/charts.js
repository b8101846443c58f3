// Curves as SVG, redrawn when they change or their place does.

import { fill, make, short } from "./dom.js";

const HEIGHT = 150;
const LEFT = 44;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 22;

export class Chart {
  /** place: a figure. title: its caption. note: a sentence below the curve. */
  constructor(place, title, note = "") {
    this.place = place;
    this.readout = make("output");
    this.svg = make("svg", { role: "img" });
    this.caption = make("figcaption", {}, make("b", {}, title), this.readout);
    this.title = title;
    fill(place, this.caption, this.svg, note ? make("small", {}, note) : null);
    this.data = null;
    new ResizeObserver(() => requestAnimationFrame(() => this._draw())).observe(place);
    this.svg.addEventListener("pointermove", (event) => this._point(event));
    this.svg.addEventListener("pointerleave", () => this._point(null));
  }

  /**
   * series: {label, colour, x, y, smooth, isPoints}; marks: {label, at, colour} horizontal lines;
   * form: value as text; xForm: place as text; bounds: [low, high], null where the data decides.
   */
  show({ series, marks = [], form = short, xForm = short, xUnit = "frames", bounds = [null, null] }) {
    const kept = series.map((one) => {
      const places = one.x.map((x, k) => k).filter((k) => one.x[k] !== null && one.y[k] !== null);
      return { ...one, x: places.map((k) => one.x[k]), y: places.map((k) => one.y[k]) };
    }).filter((one) => one.x.length);
    this.data = kept.length ? { series: kept, marks, form, xForm, xUnit, bounds } : null;
    this.place.hidden = !this.data;
    this._draw();
  }

  _draw() {
    const width = this.place.clientWidth;
    if (!this.data || !width) return;
    const { series, marks, form, xForm, bounds } = this.data;
    const [x0, x1] = range(series.flatMap((one) => one.x));
    const values = series.flatMap((one) => middle(one.y));
    let [y0, y1] = range(values);
    const near = marks.filter((mark) => mark.at < y1 + 0.4 * (y1 - y0) && mark.at > y0 - 2 * (y1 - y0));
    [y0, y1] = range([y0, y1, ...near.map((mark) => mark.at)]);
    const margin = 0.06 * (y1 - y0) || Math.abs(y1) * 0.05 || 1;
    [y0, y1] = [bounds[0] ?? y0 - margin, bounds[1] ?? y1 + margin];
    const toX = (x) => LEFT + ((x - x0) / (x1 - x0 || 1)) * (width - LEFT - RIGHT);
    const toY = (y) => HEIGHT - BOTTOM - ((Math.min(Math.max(y, y0), y1) - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
    this.scale = { toX, toY, x0, x1, width };
    const parts = [];
    for (const tick of ticks(y0, y1, 4)) {
      parts.push(make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: toY(tick), y2: toY(tick) }));
      parts.push(make("text", { x: LEFT - 6, y: toY(tick) + 3.5, "text-anchor": "end" }, form(tick)));
    }
    const places = ticks(x0, x1, Math.max(2, Math.floor(width / 75))).filter((tick) => toX(tick) < width - 105);
    for (const tick of places) parts.push(make("text", { x: toX(tick), y: HEIGHT - 6, "text-anchor": "middle" }, xForm(tick)));
    parts.push(make("text", { x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, `${xForm(x1)} ${this.data.xUnit}`));
    const names = []; // above the curves
    let above = HEIGHT;
    for (const mark of marks.filter((one) => one.at > y0 && one.at < y1).sort((a, b) => a.at - b.at)) {
      above = Math.min(above - 11, toY(mark.at) - 3);
      parts.push(make("line", { class: "mark", x1: LEFT, x2: width - RIGHT, y1: toY(mark.at), y2: toY(mark.at), stroke: mark.colour }));
      names.push(make("text", { class: "name", x: width - RIGHT, y: above, "text-anchor": "end", fill: mark.colour }, mark.label));
    }
    for (const one of series) {
      if (one.isPoints || one.x.length < 40) for (const k of one.x.keys()) parts.push(make("circle", { cx: toX(one.x[k]), cy: toY(one.y[k]), r: one.isPoints ? 3.5 : 2.4, fill: one.colour }));
      if (one.isPoints) continue;
      const path = (ys) => ys.map((y, k) => `${k ? "L" : "M"}${toX(one.x[k]).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
      const isNoisy = one.smooth && one.y.length > 40;
      parts.push(make("path", { class: isNoisy ? "raw" : "curve", d: path(one.y), stroke: one.colour }));
      if (isNoisy) parts.push(make("path", { class: "curve", d: path(averaged(one.y)), stroke: one.colour }));
    }
    this.cursor = make("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-label", `${this.title}. ${this._told(null)}`);
    fill(this.svg, ...parts, ...names, this.cursor);
    this._point(null);
  }

  _point(event) {
    if (!this.data || !this.scale) return;
    const { toX, x0, x1, width } = this.scale;
    const box = this.svg.getBoundingClientRect();
    const x = event && x0 + ((((event.clientX - box.left) / box.width) * width - LEFT) / (width - LEFT - RIGHT)) * (x1 - x0);
    this.cursor.setAttribute("visibility", event ? "visible" : "hidden");
    if (event) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, toX(Math.min(Math.max(x, x0), x1)));
    fill(this.readout, ...this._values(x).map(({ one, text }) => make("span", { style: { color: one.colour } }, text)));
  }

  /** The value of each series at a place, or its last one. */
  _values(x) {
    const { series, form, xForm } = this.data;
    return series.slice(0, 5).map((one) => {
      if (one.isPoints) return { one, text: `${one.x.length} ${one.label}` };
      let k = one.x.length - 1;
      if (x !== null) k = one.x.reduce((best, at, i) => (Math.abs(at - x) < Math.abs(one.x[best] - x) ? i : best), 0);
      return { one, text: `${one.label} ${form(one.y[k])}${x === null ? "" : ` at ${xForm(one.x[k])}`}` };
    });
  }

  _told() {
    return this._values(null).map(({ text }) => `Last: ${text}.`).join(" ");
  }
}

function range(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** Without the outermost values of long curves, which would make the rest flat. */
function middle(values) {
  if (values.length < 30) return values;
  const sorted = [...values].sort((a, b) => a - b);
  const cut = Math.floor(0.02 * sorted.length);
  return [sorted[cut], sorted[sorted.length - 1 - cut], values[values.length - 1]];
}

function averaged(values) {
  const reach = Math.max(2, Math.round(0.02 * values.length));
  return values.map((_, k) => {
    const near = values.slice(Math.max(0, k - reach), k + reach + 1);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((size) => size >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9 * step; at += step) found.push(Math.abs(at) < 1e-9 * step ? 0 : at);
  return found;
}
