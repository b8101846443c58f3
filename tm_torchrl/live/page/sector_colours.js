// The colours of a driven line: where time was won and lost, or, without another lap, the speed.

import { mix } from "./vectors.js";

const WON = [0.16, 0.72, 0.4];
const EVEN = [0.93, 0.93, 0.9];
const LOST = [0.9, 0.2, 0.16];
const SPEEDS = [[0.2, 0.3, 0.85], [0.15, 0.75, 0.75], [0.95, 0.85, 0.2], [0.9, 0.25, 0.15]];

/** A function from steps of a lap to colours. */
export function sectorColours(lap, other) {
  const sectors = lap.sectors(other);
  if (!sectors) {
    const most = Math.max(...lap.speed, 1);
    return (step) => {
      const at = (lap.speed[step] / most) * (SPEEDS.length - 1.001);
      return mix(SPEEDS[Math.floor(at)], SPEEDS[Math.floor(at) + 1], at % 1);
    };
  }
  const most = Math.max(...sectors.map((sector) => Math.abs(sector.lost_s)), 0.05);
  const colours = sectors.map(({ lost_s: lost }) => mix(EVEN, lost > 0 ? LOST : WON, Math.sqrt(Math.abs(lost) / most)));
  return (step) => colours[Math.min(lap.sectorOf(step), colours.length - 1)];
}
