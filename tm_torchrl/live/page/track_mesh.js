// Meshes of a track: road, verges, walls, gates, and the ground with trees around it.

import { cross, sub, unit } from "./vectors.js";

const WALL_M = 1.8;
const LINE_M = 0.5;
const PIECE_M = 2; // of the road; its points are a metre apart
const TILE = 16; // squares of the ground along each edge of a tile
const SKIRT_M = 9; // ground that is drawn with the wall, which the coarse ground need not meet
const SURFACES = { 2: "grass", 6: "dirt", 7: "turbo", 16: "asphalt", 26: "turbo2", 29: "freewheeling" };

export const PALETTES = {
  light: {
    sky: [0.64, 0.79, 0.93], fog: [0.8, 0.87, 0.92], fogM: 900, sun: unit([0.45, 0.8, 0.3]), ambient: 0.62,
    grass: [0.42, 0.62, 0.33], hill: [0.33, 0.52, 0.29], tree: [0.19, 0.4, 0.24], trunk: [0.36, 0.27, 0.2],
    asphalt: [0.41, 0.43, 0.47], dirt: [0.66, 0.48, 0.31], turbo: [0.95, 0.76, 0.22], turbo2: [0.9, 0.28, 0.22],
    freewheeling: [0.58, 0.47, 0.74], line: [0.95, 0.95, 0.92], wall: [0.3, 0.34, 0.43], stripe: [0.82, 0.29, 0.25],
    checkpoint: [0.2, 0.62, 0.86], finish: [0.12, 0.13, 0.15], start: [0.92, 0.92, 0.9],
  },
  dark: {
    sky: [0.055, 0.082, 0.13], fog: [0.075, 0.105, 0.155], fogM: 620, sun: unit([0.35, 0.85, -0.2]), ambient: 0.5,
    grass: [0.16, 0.27, 0.2], hill: [0.11, 0.2, 0.17], tree: [0.08, 0.17, 0.14], trunk: [0.15, 0.13, 0.12],
    asphalt: [0.25, 0.27, 0.32], dirt: [0.42, 0.31, 0.22], turbo: [0.85, 0.66, 0.2], turbo2: [0.78, 0.24, 0.2],
    freewheeling: [0.42, 0.35, 0.58], line: [0.72, 0.75, 0.78], wall: [0.2, 0.24, 0.33], stripe: [0.58, 0.22, 0.21],
    checkpoint: [0.2, 0.56, 0.78], finish: [0.08, 0.09, 0.11], start: [0.7, 0.72, 0.74],
  },
};

/** Collects triangles of one colour each. */
class Builder {
  constructor() {
    this.vertices = [];
    this.corners = [];
    this.num = 0;
  }

  triangle(a, b, c, colour, normal = unit(cross(sub(b, a), sub(c, a)))) {
    for (const point of [a, b, c]) this.vertices.push(...point, ...normal, ...colour);
    this.corners.push(this.num, this.num + 1, this.num + 2);
    this.num += 3;
  }

  /** A quad, corners counterclockwise as seen from outside. */
  quad(a, b, c, d, colour) {
    const normal = unit(cross(sub(c, a), sub(d, b)));
    for (const point of [a, b, c, d]) this.vertices.push(...point, ...normal, ...colour);
    const n = this.num;
    this.corners.push(n, n + 1, n + 2, n, n + 2, n + 3);
    this.num += 4;
  }

  box(centre, x, y, z, colour) {
    const at = (i, j, k) => [0, 1, 2].map((n) => centre[n] + i * x[n] + j * y[n] + k * z[n]);
    this.quad(at(-1, 1, -1), at(-1, 1, 1), at(1, 1, 1), at(1, 1, -1), colour);
    for (const side of [1, -1]) {
      this.quad(at(side, -1, -side), at(side, 1, -side), at(side, 1, side), at(side, -1, side), colour);
      this.quad(at(side, -1, side), at(side, 1, side), at(-side, 1, side), at(-side, -1, side), colour);
    }
  }
}

/** The road's cross sections: the point of the centreline and what is to its left, in metres. */
export function sections(track) {
  const num = track.half_width.length;
  const point = (i) => track.centre.slice(3 * i, 3 * i + 3);
  return Array.from({ length: num }, (_, i) => {
    const wrap = (k) => (track.is_circuit ? (k + num) % num : Math.min(Math.max(k, 0), num - 1));
    const [before, after] = [point(wrap(i - 1)), point(wrap(i + 1))];
    const length = Math.hypot(after[0] - before[0], after[2] - before[2]) || 1;
    const ahead = [(after[0] - before[0]) / length, 0, (after[2] - before[2]) / length];
    const left = [ahead[2], track.bank[i], -ahead[0]];
    const middle = point(i);
    return {
      middle, ahead, left,
      half: track.half_width[i],
      surface: SURFACES[track.surface[i]] ?? "asphalt",
      at: (across, up = 0) => [middle[0] + left[0] * across, middle[1] + left[1] * across + up, middle[2] + left[2] * across],
    };
  });
}

/** Height of the ground of a track at a place; null outside it. */
export function groundHeight(track, x, z) {
  const ground = track.ground;
  if (!ground) return null;
  const u = (x - ground.origin[0]) / ground.cell_m;
  const v = (z - ground.origin[1]) / ground.cell_m;
  const [i, j] = [Math.floor(u), Math.floor(v)];
  if (i < 0 || j < 0 || i >= ground.width - 1 || j >= ground.depth - 1) return null;
  const at = (di, dj) => ground.height_dm[(j + dj) * ground.width + i + di] / 10;
  const [fu, fv] = [u - i, v - j];
  return (at(0, 0) * (1 - fu) + at(1, 0) * fu) * (1 - fv) + (at(0, 1) * (1 - fu) + at(1, 1) * fu) * fv;
}

const shade = (colour, by) => colour.map((value) => Math.min(value * by, 1));
const chance = (n) => { const x = Math.sin(n * 127.1 + 11.7) * 43758.5453; return x - Math.floor(x); };

export function trackMesh(track, palette) {
  const built = new Builder();
  const road = sections(track);
  const num = road.length;
  const end = track.is_circuit ? num : num - 1;
  for (let i = 0; i < end; i += PIECE_M) {
    const [a, b] = [road[i], road[Math.min(i + PIECE_M, end) % num]];
    const strip = (from, to, colour, up = 0) =>
      built.quad(a.at(from(a), up), a.at(to(a), up), b.at(to(b), up), b.at(from(b), up), colour);
    const colour = shade(palette[a.surface], 1 + 0.035 * (Math.floor(i / 6) % 2 ? 1 : -1));
    strip((s) => s.half - LINE_M, (s) => LINE_M - s.half, colour);
    for (const side of [1, -1]) {
      const [edge, wall] = [(s) => side * s.half, (s) => side * (s.half + track.wall_offset)];
      const [near, far] = side > 0 ? [wall, edge] : [edge, wall];
      strip(near, far, shade(palette.grass, 1 + 0.03 * (Math.floor(i / 6) % 2 ? 1 : -1)));
      const line = (s) => side * (s.half - LINE_M);
      strip(side > 0 ? edge : line, side > 0 ? line : edge, palette.line);
      wallPiece(built, track, a, b, side, Math.floor(i / 4) % 2 ? palette.wall : shade(palette.wall, 1.25), palette);
    }
    if (i % 12 < 5 && a.surface === "asphalt") strip(() => 0.16, () => -0.16, palette.line, 0.02);
  }
  for (const index of track.checkpoints) gate(built, road[index], track, palette.checkpoint, palette.checkpoint);
  gate(built, road[track.finish], track, palette.finish, palette.line);
  if (track.start !== track.finish) across(built, road[track.start], palette.start);
  if (track.ground) ground(built, track, palette);
  return built;
}

function wallPiece(built, track, a, b, side, colour, palette) {
  const wall = (s) => side * (s.half + track.wall_offset);
  const outside = (s) => {
    const place = s.at(wall(s) + side * SKIRT_M);
    const height = groundHeight(track, place[0], place[2]);
    return [place[0], height === null ? place[1] - 1 : height - 0.15, place[2]];
  };
  const faces = [
    [a.at(wall(a)), a.at(wall(a), WALL_M), b.at(wall(b), WALL_M), b.at(wall(b)), colour],
    [a.at(wall(a), WALL_M), a.at(wall(a) + side * 0.5, WALL_M), b.at(wall(b) + side * 0.5, WALL_M), b.at(wall(b), WALL_M), shade(colour, 1.3)],
    [a.at(wall(a) + side * 0.5, WALL_M), outside(a), outside(b), b.at(wall(b) + side * 0.5, WALL_M), palette.hill],
  ];
  for (const [p, q, r, s, tone] of faces) {
    if (side > 0) built.quad(s, r, q, p, tone);
    else built.quad(p, q, r, s, tone);
  }
}

/** A stripe on the road, posts, and a beam above. */
function gate(built, s, track, colour, stripe) {
  across(built, s, stripe);
  const side = s.half + track.wall_offset - 0.6;
  const [x, z] = [unit(s.left), s.ahead];
  const up = (k) => [0, k, 0];
  const along = (k) => z.map((value) => value * k);
  for (const at of [side, -side]) built.box(s.at(at, 3.2), x.map((v) => v * 0.3), up(3.2), along(0.3), colour);
  const pieces = 12;
  for (let k = 0; k < pieces; k++) {
    const at = side * ((2 * (k + 0.5)) / pieces - 1);
    const tone = colour === stripe ? colour : k % 2 ? colour : stripe;
    built.box(s.at(at, 6.6), x.map((v) => (v * side) / pieces), up(0.55), along(0.25), tone);
  }
}

function across(built, s, colour) {
  const at = (side, along) => s.at(side * (s.half - LINE_M), 0.03).map((value, n) => value + along * s.ahead[n]);
  built.quad(at(1, -0.7), at(-1, -0.7), at(-1, 0.7), at(1, 0.7), colour);
}

/** The grid of heights; below the road it is lowered, so that it never shows through. */
function ground(built, track, palette) {
  const { origin, cell_m: cell, width, depth, height_dm: height, beyond_m: beyond } = track.ground;
  const at = (i, j) => {
    const k = j * width + i;
    return [origin[0] + i * cell, height[k] / 10 - (beyond[k] < 6 ? 2.5 : 0), origin[1] + j * cell];
  };
  const square = (i, j) => {
    const k = j * width + i;
    const colour = shade(palette.hill, 0.95 + 0.1 * chance(k));
    built.quad(at(i, j), at(i, j + 1), at(i + 1, j + 1), at(i + 1, j), colour);
    if (beyond[k] > 5 && chance(k + 0.5) < 0.055) tree(built, at(i, j), 4 + 4 * chance(k + 0.25), palette);
  };
  for (let top = 0; top < depth - 1; top += TILE) { // tile by tile, so that neighbours are drawn together
    for (let side = 0; side < width - 1; side += TILE) {
      for (let j = top; j < Math.min(top + TILE, depth - 1); j++) {
        for (let i = side; i < Math.min(side + TILE, width - 1); i++) square(i, j);
      }
    }
  }
  const [low, high] = [origin, [origin[0] + (width - 1) * cell, origin[1] + (depth - 1) * cell]];
  const y = Math.min(...height) / 10 - 1;
  const far = 3000;
  built.quad([low[0] - far, y, low[1] - far], [low[0] - far, y, high[1] + far], [high[0] + far, y, high[1] + far], [high[0] + far, y, low[1] - far], palette.hill);
}

function tree(built, foot, height, palette) {
  const ring = (k, radius, up) => {
    const angle = (Math.PI * k) / 3;
    return [foot[0] + radius * Math.sin(angle), foot[1] + up, foot[2] + radius * Math.cos(angle)];
  };
  const tone = shade(palette.tree, 0.85 + 0.3 * chance(foot[0] + 3 * foot[2]));
  for (let k = 0; k < 6; k++) {
    built.triangle(ring(k, 0.3 * height, 0.2 * height), ring(k + 1, 0.3 * height, 0.2 * height), [foot[0], foot[1] + height, foot[2]], tone);
    if (k % 2) built.quad(ring(k, 0.35, 0), ring(k + 2, 0.35, 0), ring(k + 2, 0.35, 0.3 * height), ring(k, 0.35, 0.3 * height), palette.trunk);
  }
}

/** The line that a lap drove, coloured by a function of the step. */
export function lineMesh(lap, colourAt) {
  const vertices = [];
  const corners = [];
  for (let i = 0; i < lap.num; i++) {
    const here = lap.point(i);
    const way = sub(lap.point(Math.min(i + 1, lap.num - 1)), lap.point(Math.max(i - 1, 0)));
    const length = Math.hypot(way[0], way[2]) || 1;
    const side = [way[2] / length, 0, -way[0] / length];
    const colour = colourAt(i);
    for (const sign of [1, -1]) {
      vertices.push(here[0], here[1] - 0.25, here[2], sign * side[0], 0, sign * side[2], ...colour);
    }
    if (i) corners.push(2 * i - 2, 2 * i - 1, 2 * i, 2 * i, 2 * i - 1, 2 * i + 1);
  }
  return { vertices, corners };
}
