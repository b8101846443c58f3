// The clock of the view: plays, pauses, jumps, and starts over at the end.

import { $ } from "./dom.js";

const PACES = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const REST_S = 1.2; // at the end, before it starts over

export class Player {
  /** changed: called when the time jumps. */
  constructor(changed) {
    this.time = 0;
    this.length = 1;
    this.pace = 1;
    this.isPlaying = false;
    this.changed = changed;
    $("play").addEventListener("click", () => this.toggle());
    $("scrub").addEventListener("input", () => this.go(Number($("scrub").value)));
    $("pace").addEventListener("click", () => this.quicken(1, true));
  }

  setLength(length) {
    this.length = Math.max(length, 0.05);
    $("scrub").max = this.length;
    this._show();
  }

  toggle(isPlaying = !this.isPlaying) {
    if (isPlaying && this.time >= this.length) this.time = 0;
    this.isPlaying = isPlaying;
    $("play").textContent = isPlaying ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", isPlaying ? "Pause" : "Play");
    this.changed();
  }

  go(time) {
    this.time = Math.min(Math.max(time, 0), this.length);
    this._show();
    this.changed();
  }

  quicken(by, wraps = false) {
    const at = PACES.indexOf(this.pace) + by;
    this.pace = PACES[wraps ? at % PACES.length : Math.min(Math.max(at, 0), PACES.length - 1)];
    $("pace").textContent = `${this.pace}×`;
  }

  /** Let time pass. */
  pass(passedS) {
    if (!this.isPlaying) return;
    this.time += Math.min(passedS, 0.25) * this.pace;
    if (this.time > this.length + REST_S * this.pace) this.time = 0;
    this._show();
  }

  _show() {
    const shown = Math.min(this.time, this.length);
    $("scrub").value = shown;
    $("scrub").setAttribute("aria-valuetext", `${shown.toFixed(2)} seconds`);
  }
}
