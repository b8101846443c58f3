// The mesh of a car, and of its shadow. Metres; x to the left, y up, z ahead, as car rows have it.

import { cross, sub, unit } from "./vectors.js";

const BODY = [1.08, 1.08, 1.08]; // takes the colour of the lap
const DARK = [0.22, 0.24, 0.28];
const TYRE = [0.14, 0.14, 0.15];
const RIM = [0.85, 0.87, 0.9];

function quad(mesh, a, b, c, d, colour) {
  const normal = unit(cross(sub(c, a), sub(d, b)));
  const n = mesh.vertices.length / 9;
  for (const point of [a, b, c, d]) mesh.vertices.push(...point, ...normal, ...colour);
  mesh.corners.push(n, n + 1, n + 2, n, n + 2, n + 3);
}

/** A hull between two rectangles across the car: [z, half width, bottom, top] behind and ahead. */
function hull(mesh, x, behind, ahead, colour) {
  const corner = ([z, half, low, high], side, top) => [x + side * half, top ? high : low, z];
  const face = (p, q, r, s, tone) => quad(mesh, s, r, q, p, tone);
  const [b, a] = [(side, top) => corner(behind, side, top), (side, top) => corner(ahead, side, top)];
  face(b(-1, true), b(1, true), a(1, true), a(-1, true), colour);
  face(b(1, false), b(-1, false), a(-1, false), a(1, false), colour);
  face(b(1, true), b(1, false), a(1, false), a(1, true), colour);
  face(b(-1, false), b(-1, true), a(-1, true), a(-1, false), colour);
  face(a(-1, false), a(-1, true), a(1, true), a(1, false), colour);
  face(b(1, false), b(1, true), b(-1, true), b(-1, false), colour);
}

function wheel(mesh, x, z, radius, half) {
  const sides = 14;
  const at = (k, side, r) => {
    const angle = (2 * Math.PI * k) / sides;
    return [x + side * half, -0.26 + r * Math.cos(angle), z + r * Math.sin(angle)];
  };
  for (let k = 0; k < sides; k++) {
    quad(mesh, at(k, -1, radius), at(k + 1, -1, radius), at(k + 1, 1, radius), at(k, 1, radius), TYRE);
    for (const side of [1, -1]) {
      const [p, q] = side > 0 ? [k, k + 1] : [k + 1, k];
      quad(mesh, at(p, side, 0.58 * radius), at(p, side, radius), at(q, side, radius), at(q, side, 0.58 * radius), TYRE);
      quad(mesh, at(p, side, 0), at(p, side, 0.58 * radius), at(q, side, 0.58 * radius), at(q, side, 0), RIM);
    }
  }
}

export function carMesh() {
  const mesh = { vertices: [], corners: [] };
  hull(mesh, 0, [-1.9, 0.62, -0.2, 0.34], [-0.5, 0.8, -0.32, 0.3], BODY); // engine
  hull(mesh, 0, [-0.5, 0.8, -0.32, 0.3], [0.75, 0.62, -0.32, 0.14], BODY); // sides
  hull(mesh, 0, [0.75, 0.5, -0.3, 0.14], [2.15, 0.22, -0.26, -0.1], BODY); // nose
  hull(mesh, 0, [-1.2, 0.3, 0.3, 0.46], [-0.35, 0.44, 0.26, 0.66], BODY); // behind the cabin
  hull(mesh, 0, [-0.35, 0.44, 0.24, 0.64], [0.62, 0.36, 0.12, 0.22], DARK); // glass
  hull(mesh, 0, [1.75, 0.95, -0.3, -0.24], [2.2, 0.8, -0.3, -0.26], DARK); // front wing
  hull(mesh, 0, [-2.1, 0.95, 0.6, 0.66], [-1.7, 0.95, 0.54, 0.58], BODY); // rear wing
  for (const side of [1, -1]) {
    hull(mesh, 0.93 * side, [-2.15, 0.04, 0.2, 0.72], [-1.65, 0.04, 0.26, 0.62], DARK);
    hull(mesh, 0.4 * side, [-2.0, 0.04, 0.2, 0.6], [-1.8, 0.04, 0.2, 0.56], DARK);
    wheel(mesh, 0.88 * side, 1.42, 0.36, 0.17);
    wheel(mesh, 0.88 * side, -1.3, 0.38, 0.22);
  }
  return mesh;
}

export function shadowMesh() {
  const mesh = { vertices: [], corners: [] };
  const ring = (k) => [1.15 * Math.sin((Math.PI * k) / 6), -0.5, 2.35 * Math.cos((Math.PI * k) / 6)];
  for (let k = 0; k < 12; k += 1) quad(mesh, [0, -0.5, 0], ring(k), ring(k + 1), [0, -0.5, 0], [0, 0, 0]);
  return mesh;
}
