// The laps in the view: which there are, which are shown, and which one the camera follows.

import { fill, make, seconds } from "./dom.js";
import { Lap } from "./laps.js";
import { get, ServerError } from "./net.js";
import { css } from "./scene.js";

const COLOURS = {
  own: [0.93, 0.3, 0.62], best: [0.95, 0.55, 0.16], latest: [0.25, 0.58, 0.95], author: [0.2, 0.72, 0.42],
};
const MORE = [[0.6, 0.42, 0.85], [0.16, 0.68, 0.7], [0.85, 0.75, 0.2], [0.55, 0.6, 0.66], [0.75, 0.45, 0.35]];

export class Ghosts {
  /** place: where the chips are. changed: called when a lap came, went, or is shown otherwise. */
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.followed = null;
    this.all = new Map();
    this.choices = [];
    this._generation = 0;
  }

  /** Forget all laps, for another track. */
  clear() {
    this._generation += 1;
    this.all.clear();
    this.followed = null;
    this._show();
  }

  /**
   * Have these laps, in this order: {key, kind, label, query, version}; a lap whose version is another is fetched again.
   * choices: [label, wanted] further laps that can be added.
   */
  async want(wanted, choices) {
    const generation = this._generation;
    this.choices = choices;
    const keys = new Set(wanted.map((one) => one.key));
    for (const [key, ghost] of this.all) if (!keys.has(key) && !ghost.isChosen) this.all.delete(key);
    const missing = wanted.filter((one) => this.all.get(one.key)?.version !== one.version);
    await Promise.all(missing.map((one) => this._fetch(one, generation)));
    if (generation !== this._generation) return;
    const order = [...wanted.map((one) => one.key), ...this.all.keys()];
    this.all = new Map([...new Set(order)].filter((key) => this.all.has(key)).map((key) => [key, this.all.get(key)]));
    if (!this.all.has(this.followed)) this.followed = ["best", "latest", "author"].find((key) => this.all.has(key)) ?? this.all.keys().next().value ?? null;
    this._show();
    if (missing.length) this.changed();
  }

  async _fetch(one, generation) {
    try {
      const lap = new Lap(await get("lap", one.query));
      if (generation !== this._generation) return;
      const before = this.all.get(one.key);
      this.all.set(one.key, { isShown: true, colour: this._colour(one), ...before, ...one, lap });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error; // a lap that cannot be read leaves the others
      console.warn(`${one.label}: ${error.message}`);
    }
  }

  _colour(one) {
    const taken = [...this.all.values()].map((ghost) => ghost.colour);
    return COLOURS[one.kind] ?? MORE.find((colour) => !taken.includes(colour)) ?? MORE[this.all.size % MORE.length];
  }

  /** Those that are seen. */
  shown() {
    return [...this.all.values()].filter((ghost) => ghost.isShown || ghost.key === this.followed);
  }

  get leader() {
    return this.all.get(this.followed) ?? null;
  }

  follow(key) {
    this.followed = key;
    this._show();
    this.changed();
  }

  followNext() {
    const keys = this.shown().map((ghost) => ghost.key);
    if (keys.length) this.follow(keys[(keys.indexOf(this.followed) + 1) % keys.length]);
  }

  _show() {
    const chips = [...this.all.values()].map((ghost) => {
      const isFollowed = ghost.key === this.followed;
      const isShown = ghost.isShown || isFollowed;
      const time = ghost.lap.time_s === null ? `${Math.round(ghost.lap.reached.at(-1))} m` : seconds(ghost.lap.time_s);
      const toggle = () => {
        ghost.isShown = !ghost.isShown;
        this._show();
        this.changed();
      };
      return make("span", { class: "pair", style: { "--own": css(ghost.colour) } },
        make("button", { class: isShown ? "chip" : "chip away", "aria-pressed": String(isFollowed), title: "Follow this lap", onclick: () => this.follow(ghost.key) },
          `${ghost.label} `, make("b", {}, time)),
        isFollowed ? null : make("button", { class: "eye", "aria-label": `${isShown ? "Hide" : "Show"} ${ghost.label}`, title: isShown ? "Hide" : "Show", onclick: toggle }, isShown ? "×" : "+"));
    });
    fill(this.place, ...chips, this._chooser());
  }

  _chooser() {
    if (!this.choices.length) return null;
    const select = make("select", { "aria-label": "Add the lap of an evaluation" }, make("option", { value: "" }, "add a lap…"),
      ...this.choices.map(([label], k) => make("option", { value: k }, label)));
    select.addEventListener("change", async () => {
      const [, wanted] = this.choices[Number(select.value)];
      await this._fetch({ ...wanted, isChosen: true }, this._generation);
      if (this.all.has(wanted.key)) this.follow(wanted.key);
    });
    return select;
  }
}
