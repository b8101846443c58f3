// A lap: where its car was at any time, and what it gained or lost on another one.

import { mix } from "./vectors.js";

export class Lap {
  /** data: as the server sends it. */
  constructor(data) {
    Object.assign(this, data);
    this.duration = this.time_s ?? (this.num - 1) * this.step_s;
    let far = -Infinity;
    this.reached = this.progress.map((value) => (far = Math.max(far, value)));
  }

  point(step) {
    return this.position.slice(3 * step, 3 * step + 3);
  }

  /** The car at a time in seconds. */
  at(time) {
    const exact = Math.min(Math.max(time / this.step_s, 0), this.num - 1);
    const i = Math.floor(exact);
    const j = Math.min(i + 1, this.num - 1);
    const share = exact - i;
    const three = (list) => mix(list.slice(3 * i, 3 * i + 3), list.slice(3 * j, 3 * j + 3), share);
    const one = (list) => list[i] + (list[j] - list[i]) * share;
    return {
      step: i,
      position: three(this.position),
      ahead: three(this.ahead),
      up: three(this.up),
      speed: one(this.speed),
      rpm: one(this.rpm),
      gear: this.gear[i],
      keys: this.keys[j], // those that brought the car from row i to row j
      progress: one(this.progress),
      isOver: time >= this.duration,
    };
  }

  /** When the lap had come so far, in seconds; null if it never did. */
  timeAt(progress) {
    if (progress > this.reached[this.num - 1]) return null;
    let [low, high] = [0, this.num - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.reached[middle] < progress) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return 0;
    const [before, after] = [this.reached[low - 1], this.reached[low]];
    return (low - 1 + (after > before ? (progress - before) / (after - before) : 1)) * this.step_s;
  }

  /** Seconds behind another lap (negative: ahead of it) where the car is at a time; null if the other never came so far. */
  behind(other, time) {
    if (time >= this.duration && this.time_s !== null && other.time_s !== null) return this.time_s - other.time_s;
    const reached = this.reached[Math.min(Math.round(time / this.step_s), this.num - 1)];
    const theirs = other.timeAt(reached);
    return theirs === null ? null : Math.min(time, this.duration) - theirs;
  }

  /** Seconds lost to another lap in every sector; null unless both have passed the same gates. */
  sectors(other) {
    if (!other || this.gates_s.length !== other.gates_s.length || !this.gates_s.length) return null;
    const splits = (times) => times.map((time, k) => time - (k ? times[k - 1] : 0));
    const [ours, theirs] = [splits(this.gates_s), splits(other.gates_s)];
    return ours.map((own_s, k) => ({ own_s, other_s: theirs[k], lost_s: own_s - theirs[k] }));
  }

  /** The number of the sector in which a step lies. */
  sectorOf(step) {
    const time = step * this.step_s;
    const found = this.gates_s.findIndex((at) => time <= at);
    return found < 0 ? this.gates_s.length : found;
  }
}
