// Driving: sends which keys are held, and receives the car after every tick of the simulator.

import { $, say, seconds, signed } from "./dom.js";
import { post } from "./net.js";

const KEYS = { ArrowUp: 1, ArrowDown: 2, ArrowLeft: 4, ArrowRight: 8, w: 1, s: 2, a: 4, d: 8 };
const MOST_AHEAD_S = 0.03; // how far a car is drawn ahead of what was received

export class Drive {
  /** picture: asks for pictures. ended: called when driving is over. kept: when a lap was kept. */
  constructor({ picture, ended, kept }) {
    Object.assign(this, { picture, ended, kept });
    this.isOn = false;
    this.latencies = []; // from key to picture, in ms
    document.addEventListener("keydown", (event) => this._press(event, true));
    document.addEventListener("keyup", (event) => this._press(event, false));
    window.addEventListener("blur", () => this.isOn && this._hold(0));
    for (const [id, bit] of [["key-up", 1], ["key-down", 2], ["key-left", 4], ["key-right", 8]]) {
      for (const [kind, isDown] of [["pointerdown", true], ["pointerup", false], ["pointerleave", false]]) {
        $(id).addEventListener(kind, (event) => {
          if (!this.isOn || (kind === "pointerleave" && !event.buttons)) return;
          event.preventDefault();
          this._hold(isDown ? this.held | bit : this.held & ~bit);
        });
      }
    }
  }

  start(query) {
    Object.assign(this, { isOn: true, held: 0, turn: 0, race: null, last: null, finished: null, pressedAt: new Map() });
    this._tell("Loading…");
    this.source = new EventSource(`api/race?${new URLSearchParams(query)}`);
    this.source.addEventListener("race", (event) => {
      this.race = JSON.parse(event.data).race;
      this._tell("Press an arrow key to start. R restarts, Esc ends.");
    });
    this.source.addEventListener("finished", (event) => this._finish(JSON.parse(event.data)));
    this.source.onmessage = (event) => this._receive(JSON.parse(event.data));
    this.source.onerror = () => {
      this.stop();
      this._tell("The connection to the race was lost.");
    };
  }

  stop() {
    if (!this.isOn) return;
    this.isOn = false;
    this.source.close();
    this._tell("");
    this.ended();
  }

  _tell(text) {
    $("banner").hidden = !text;
    say($("banner"), text);
  }

  _press(event, isDown) {
    if (!this.isOn || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const bit = KEYS[key];
    if (bit) {
      event.preventDefault();
      if (!event.repeat) this._hold(isDown ? this.held | bit : this.held & ~bit, event.timeStamp);
    } else if (isDown && key === "r") {
      this.finished = null;
      this._send({ restart: true });
      this._tell("Press an arrow key to start.");
    } else if (isDown && key === "Escape") this.stop();
  }

  _hold(held, at = performance.now()) {
    if (held === this.held || !this.race) return;
    this.held = held;
    this.turn += 1;
    this.pressedAt.set(this.turn, at);
    if (held && !this.finished) this._tell("");
    this._send({});
  }

  _send(more) {
    post("keys", { race: this.race, held: this.held, turn: this.turn, ...more }).catch(() => {});
  }

  _receive(values) {
    const [turn, time, x, y, z, ax, ay, az, ux, uy, uz, vx, vy, vz, speed, gear, rpm, keys, isRunning, progress] = values;
    this.last = {
      turn, time, position: [x, y, z], ahead: [ax, ay, az], up: [ux, uy, uz], velocity: [vx, vy, vz],
      speed, gear, rpm, keys, isRunning, progress, at: performance.now(),
    };
    this.picture();
  }

  /** The car now: as received last, moved on by the time since then. */
  state(now) {
    if (!this.isOn || !this.last) return null;
    const { last } = this;
    const on = last.isRunning ? Math.min(Math.max((now - last.at) / 1000, 0), MOST_AHEAD_S) : 0;
    return { ...last, time: last.time + on, position: last.position.map((value, k) => value + on * last.velocity[k]), finished_s: this.finished };
  }

  /** A picture with the last state was drawn: notes how long the keys took to be seen. */
  drawn() {
    if (!this.last) return;
    for (const [turn, at] of this.pressedAt) {
      if (turn > this.last.turn) continue;
      this.pressedAt.delete(turn);
      this.latencies.push(performance.now() - at);
      $("view").dataset.latency = this.latencies.map((ms) => ms.toFixed(1)).join(" ");
    }
  }

  _finish({ time_s: time, medal, best_s: best, is_best: isBest, kept }) {
    this.finished = time;
    const record = isBest ? "your best lap" : `${signed(time - best)} s on your best`;
    this._tell(`${seconds(time)}${medal ? `, ${medal} medal` : ""}: ${record}. R drives again, Esc ends.`);
    $("banner").title = kept ? `kept as ${kept}` : "";
    if (isBest) this.kept();
  }
}
