// What the followed lap did along the way: its speed beside the author's, and what the network expected.

import { Chart } from "./charts.js";
import { $ } from "./dom.js";
import { css } from "./scene.js";

const metres = (value) => `${Math.round(value)}`;
const VALUE_LEVELS = ["5%", "median", "95%"];

export class Traces {
  constructor() {
    this.speed = new Chart($("chart-speed"), "Speed along the lap, km/h");
    this.value = new Chart($("chart-value"), "Value of the actions taken", "The return that the network expected at each step of the lap.");
  }

  /** ghost, other: laps as Ghosts has them; other may be null. */
  show(ghost, other) {
    const lines = [ghost, other].filter(Boolean).map((one) => ({ label: one.label, colour: css(one.colour), x: one.lap.reached, y: one.lap.speed.map((speed) => 3.6 * speed) }));
    const hits = ghost?.lap.hits ?? [];
    const at = { label: hits.length === 1 ? "wall hit" : "wall hits", isPoints: true, colour: "var(--red)", x: hits.map((step) => ghost.lap.reached[step]), y: hits.map((step) => 3.6 * ghost.lap.speed[step]) };
    this.speed.show({ series: [...lines, at], form: metres, xForm: metres, xUnit: "m", bounds: [0, null] });
    const series = (ghost?.lap.values ?? []).map((y, k) => ({ label: VALUE_LEVELS[k], colour: k === 1 ? "var(--blue)" : "var(--dim)", x: ghost.lap.reached.slice(0, y.length), y }));
    this.value.show({ series, xForm: metres, xUnit: "m" });
  }
}
