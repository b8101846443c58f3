// The value fan: for every action the quantiles of its value, at the time of the view.

import { $, fill, make, say } from "./dom.js";
import { get } from "./net.js";

const HEIGHT = 180;
const LEFT = 44;
const TOP = 10;
const BOTTOM = 22;

/** The arrows of an action, in the order of the networks. */
const NAMES = ["▲", "▲◀", "▲▶", "–", "◀", "▶", "▼", "▼◀", "▼▶", "▲▼", "▲▼◀", "▲▼▶"];
const WORDS = ["gas", "gas, left", "gas, right", "nothing", "left", "right", "brake", "brake, left", "brake, right", "gas, brake", "gas, brake, left", "gas, brake, right"];
const BITS = [1, 5, 9, 0, 4, 8, 2, 6, 10, 3, 7, 11];

export class Values {
  constructor(place) {
    this.place = place;
    this.readout = make("output");
    this.svg = make("svg", { role: "img" });
    this.button = make("button", { onclick: () => this._load() }, "Show the value of every action");
    fill(place, make("figcaption", {}, make("b", {}, "Values of the actions"), this.readout, make("span", {}, "box: 25% to 75%, line: 5% to 95%, orange: the action taken")), this.button, this.svg);
    this.known = new Map();
    new ResizeObserver(() => (this.drawn = null)).observe(place);
  }

  /** Show the values along another lap; query: names run and track. */
  follow(ghost, page, query) {
    this.ghost = ghost;
    this.query = ghost && page ? { ...query, kind: ghost.query.kind, ...(ghost.query.frames === undefined ? {} : { frames: ghost.query.frames }) } : null;
    const isOwnRun = this.query && (!ghost.query.run || ghost.query.run === query.run) && ghost.kind !== "own";
    this.place.hidden = !isOwnRun || !page.has_values;
    this.key = JSON.stringify([this.query, ghost?.version]);
    this.drawn = null;
    if (this.isWanted && !this.place.hidden) this._load();
    else this._show();
  }

  async _load() {
    this.isWanted = true;
    const key = this.key;
    if (!this.known.has(key)) {
      this.known.set(key, null);
      say(this.readout, "driving the lap again…");
      try {
        this.known.set(key, await get("values", this.query));
      } catch (error) {
        say(this.readout, error.message);
        return;
      }
    }
    if (key === this.key) this._show();
  }

  _show() {
    const data = this.known.get(this.key);
    this.button.hidden = Boolean(data);
    this.svg.toggleAttribute("hidden", !data);
    this.drawn = null;
    if (data) this.at(this.time ?? 0);
  }

  /** Draw the fan at a time of the lap. */
  at(time) {
    this.time = time;
    const data = this.known.get(this.key);
    if (!data || !this.ghost) return;
    const lap = this.ghost.lap;
    const step = Math.min(Math.floor(time / lap.step_s), data.values.length / (data.num_actions * data.levels.length) - 1);
    if (step === this.drawn) return;
    this.drawn = step;
    this._draw(data, step, lap.keys[Math.min(step + 1, lap.num - 1)]);
  }

  _draw(data, step, keys) {
    const width = this.place.clientWidth - 24;
    const num = data.levels.length;
    const actions = Array.from({ length: data.num_actions }, (_, a) => data.values.slice((step * data.num_actions + a) * num, (step * data.num_actions + a + 1) * num));
    const [low, high] = [Math.min(...actions.flat()), Math.max(...actions.flat())];
    const room = 0.05 * (high - low) || 0.1;
    const toY = (value) => HEIGHT - BOTTOM - ((value - low + room) / (high - low + 2 * room)) * (HEIGHT - TOP - BOTTOM);
    const wide = (width - LEFT) / data.num_actions;
    const medians = actions.map((levels) => levels[(num - 1) / 2]);
    const best = medians.indexOf(Math.max(...medians));
    const parts = [low, (low + high) / 2, high].flatMap((value) => [
      make("line", { class: "grid", x1: LEFT, x2: width, y1: toY(value), y2: toY(value) }),
      make("text", { x: LEFT - 6, y: toY(value) + 3.5, "text-anchor": "end" }, value.toFixed(2)),
    ]);
    actions.forEach((levels, a) => {
      const x = LEFT + wide * (a + 0.5);
      const isTaken = BITS[a] === keys;
      const half = Math.min(0.3 * wide, 16);
      const colour = isTaken ? "var(--orange)" : "var(--blue)";
      parts.push(
        make("line", { x1: x, x2: x, y1: toY(levels[0]), y2: toY(levels[num - 1]), stroke: colour, "stroke-width": 1.5 }),
        make("rect", { x: x - half, width: 2 * half, y: toY(levels[num - 2]), height: Math.max(toY(levels[1]) - toY(levels[num - 2]), 1), fill: colour, opacity: isTaken ? 0.95 : 0.45, rx: 2 }),
        make("line", { x1: x - half, x2: x + half, y1: toY(medians[a]), y2: toY(medians[a]), stroke: "var(--ink)", "stroke-width": a === best ? 2.5 : 1.2 }),
        make("text", { x, y: HEIGHT - BOTTOM + 16, "text-anchor": "middle", ...(isTaken ? { fill: "var(--orange)" } : {}) }, NAMES[a] ?? String(a)),
      );
    });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-label", `Quantiles of the value of every action. The best median has ${WORDS[best]}.`);
    fill(this.svg, ...parts);
    say(this.readout, `best: ${WORDS[best]} (${medians[best].toFixed(2)})`);
    this.readout.setAttribute("aria-live", "off");
  }
}
