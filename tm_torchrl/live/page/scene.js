// The view: track, cars and driven lines, seen from behind a car or from above.

import { carMesh, shadowMesh } from "./car_mesh.js";
import { make } from "./dom.js";
import { Renderer } from "./renderer.js";
import { groundHeight, lineMesh, PALETTES, trackMesh } from "./track_mesh.js";
import { add, cross, IDENTITY, lookAt, mix, multiply, orthographic, perspective, pose, scale, sub, unit } from "./vectors.js";

const FIELD_OF_VIEW = 1.05;
const BACK_M = 8.6;
const UP_M = 3.3;
const LAG_S = 0.13; // of the camera behind the car's turning
export const CAMERAS = ["behind", "above", "beside"];

export class Scene {
  /** Draws on a canvas; labels of cars go into another element above it. */
  constructor(canvas, labels) {
    this.renderer = new Renderer(canvas);
    this.canvas = canvas;
    this.labels = labels;
    this.camera = "behind";
    this.zoom = 1;
    this.cars = [];
    this.lines = new Map();
    this.track = null;
    this.heading = null;
    this.isDark = false;
    this._names = [];
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this._restore());
    this._upload();
  }

  _upload() {
    this.car = this.renderer.upload(carMesh());
    this.shadow = this.renderer.upload(shadowMesh());
  }

  _restore() {
    this.renderer._build();
    this._upload();
    const lines = [...this.lines];
    this.lines = new Map();
    for (const [key, { lap, colourAt }] of lines) this.setLine(key, lap, colourAt);
    if (this.track) this.setTrack(this.track);
  }

  setTrack(track) {
    this.track = track;
    this.renderer.free(this.ground);
    this.ground = this.renderer.upload(trackMesh(track, PALETTES[this.isDark ? "dark" : "light"]), true);
    const [xs, zs] = [0, 2].map((axis) => track.centre.filter((_, k) => k % 3 === axis));
    this.middle = [(Math.min(...xs) + Math.max(...xs)) / 2, 0, (Math.min(...zs) + Math.max(...zs)) / 2];
    this.half = [(Math.max(...xs) - Math.min(...xs)) / 2 + 30, (Math.max(...zs) - Math.min(...zs)) / 2 + 30];
    this.heading = null;
  }

  setDark(isDark) {
    if (isDark === this.isDark) return;
    this.isDark = isDark;
    if (this.track) this.setTrack(this.track);
  }

  /** Show the line of a lap in colours by step, or with null no more. */
  setLine(key, lap, colourAt) {
    this.renderer.free(this.lines.get(key)?.mesh);
    if (lap) this.lines.set(key, { lap, colourAt, mesh: this.renderer.upload(lineMesh(lap, colourAt), true) });
    else this.lines.delete(key);
  }

  /**
   * Draw cars: {state, colour, label, isFollowed}; passedS: seconds since the last picture, by which the camera follows;
   * isDriven: somebody drives, who needs the picture soon, so that a slow renderer draws a coarse one.
   */
  draw(cars, passedS, isDriven) {
    this.cars = cars;
    const aspect = this.renderer.fit(isDriven && this.renderer.isSlow);
    const light = PALETTES[this.isDark ? "dark" : "light"];
    const camera = this._camera(aspect, passedS);
    this.renderer.begin(camera, light);
    this.renderer.draw(this.ground, IDENTITY);
    for (const { mesh } of this.lines.values()) this.renderer.draw(mesh, IDENTITY, { halfWidth: 0.15, alpha: 0.85 });
    const ordered = [...this.cars].sort((a, b) => Number(a.isFollowed) - Number(b.isFollowed));
    for (const car of ordered.reverse()) this._drawCar(car, camera);
    this._placeLabels(camera, aspect);
  }

  _drawCar({ state, colour, isFollowed }, camera) {
    const model = pose(state.position, state.ahead, state.up);
    const followed = this._followed();
    const apart = Math.hypot(...sub(state.position, followed.state.position));
    const alpha = isFollowed ? 1 : camera.isFlat ? 0.8 : 0.62 * Math.min(Math.max(apart / 6, 0.3), 1); // not in the way
    this.renderer.draw(this.shadow, model, { alpha: 0.35 });
    if (camera.isFlat) for (let k = 0; k < 12; k++) model[k] *= Math.max(1, 5 * camera.pixelM); // else it is a dot
    this.renderer.draw(this.car, model, { tint: colour, alpha });
  }

  _followed() {
    return this.cars.find((car) => car.isFollowed) ?? this.cars[0];
  }

  _camera(aspect, passedS) {
    if (!this.track) return { view: IDENTITY, eye: [0, 0, 0], pixelM: 1, isFlat: true };
    const followed = this._followed();
    const height = Math.max(this.canvas.height, 1);
    if (this.camera === "above" || !followed) return this._fromAbove(aspect, followed, height);
    const { position, ahead, up } = followed.state;
    const flat = unit([ahead[0], 0.35 * ahead[1], ahead[2]]);
    const isJump = this.heading === null || passedS > 0.5;
    this.heading = isJump ? flat : unit(mix(this.heading, flat, 1 - Math.exp(-passedS / LAG_S)));
    const side = unit(cross([0, 1, 0], this.heading));
    const away = this.camera === "beside" ? add(scale(side, -9), scale(this.heading, 3)) : scale(this.heading, -BACK_M);
    let eye = add(add(position, scale(away, this.zoom)), [0, this.camera === "beside" ? 2.2 : UP_M * this.zoom, 0]);
    const ground = groundHeight(this.track, eye[0], eye[2]);
    if (ground !== null) eye = [eye[0], Math.max(eye[1], ground + 1.4), eye[2]];
    const target = add(add(position, scale(this.heading, this.camera === "beside" ? 0 : 5)), scale(up, 0.9));
    const view = multiply(perspective(FIELD_OF_VIEW, aspect, 0.4, 4000), lookAt(eye, target, [0, 1, 0]));
    return { view, eye, isFlat: false, pixelM: (2 * Math.tan(FIELD_OF_VIEW / 2)) / height };
  }

  _fromAbove(aspect, followed, height) {
    const isClose = this.zoom < 1 && followed;
    const middle = isClose ? followed.state.position : this.middle;
    const isTurned = this.half[1] > this.half[0] !== aspect < 1; // the longer side along the picture's
    const [wide, high] = isTurned ? [this.half[1], this.half[0]] : this.half;
    const fitting = Math.max(high, wide / aspect) * Math.min(this.zoom, 1);
    const eye = [middle[0], 1500, middle[2]];
    const view = multiply(
      orthographic(fitting * aspect, fitting, 1, 3000),
      lookAt(eye, sub(eye, [0, 1, 0]), isTurned ? [1, 0, 0] : [0, 0, -1]),
    );
    return { view, eye, isFlat: true, pixelM: (2 * fitting) / height };
  }

  _placeLabels(camera, aspect) {
    while (this._names.length < this.cars.length) this._names.push(this.labels.appendChild(make("span")));
    const placed = [];
    this._names.forEach((name, k) => {
      const car = this.cars[k];
      const isShown = car && (!car.isFollowed || camera.isFlat);
      const place = isShown ? project(camera.view, add(car.state.position, [0, 1.5, 0])) : null;
      const isSeen = place && place[2] > 0 && Math.abs(place[0]) < 1 && Math.abs(place[1]) < 1;
      name.hidden = !isSeen;
      if (!isSeen) return;
      if (name.textContent !== car.label) name.textContent = car.label;
      const x = ((place[0] + 1) / 2) * this.canvas.clientWidth;
      let y = ((1 - place[1]) / 2) * this.canvas.clientHeight;
      for (const [otherX, otherY] of placed) if (Math.abs(x - otherX) < 90 && Math.abs(y - otherY) < 24) y = otherY - 24;
      placed.push([x, y]);
      name.style.transform = `translate(-50%, -140%) translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
      name.style.setProperty("--own", css(car.colour));
    });
  }
}

/** Where a point is in the picture: x, y from -1 to 1, and whether it is in front. */
function project(view, point) {
  const at = (row) => view[row] * point[0] + view[4 + row] * point[1] + view[8 + row] * point[2] + view[12 + row];
  const w = at(3);
  return [at(0) / w, at(1) / w, w];
}

export const css = (colour) => `rgb(${colour.map((value) => Math.round(255 * value)).join(" ")})`;
