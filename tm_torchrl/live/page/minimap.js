// The small map: the road drawn once, the cars on it in every picture.

import { sections } from "./track_mesh.js";

export class Minimap {
  constructor(canvas) {
    this.canvas = canvas;
    this.road = document.createElement("canvas");
  }

  setTrack(track, colours) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const size = Math.round(this.canvas.clientWidth * ratio) || 150;
    this.canvas.width = this.canvas.height = this.road.width = this.road.height = size;
    const points = sections(track);
    const [xs, zs] = [0, 2].map((axis) => points.map((point) => point.middle[axis]));
    const [lowX, highX, lowZ, highZ] = [Math.min(...xs), Math.max(...xs), Math.min(...zs), Math.max(...zs)];
    this.scale = (0.86 * size) / Math.max(highX - lowX, highZ - lowZ);
    this.offset = [size / 2 - (this.scale * (lowX + highX)) / 2, size / 2 - (this.scale * (lowZ + highZ)) / 2];
    const pen = this.road.getContext("2d");
    pen.clearRect(0, 0, size, size);
    pen.lineJoin = pen.lineCap = "round";
    for (const [colour, wide] of [[colours.edge, 5.5], [colours.road, 3.2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = wide * ratio;
      pen.beginPath();
      points.forEach((point, i) => pen[i ? "lineTo" : "moveTo"](...this._at(point.middle)));
      if (track.is_circuit) pen.closePath();
      pen.stroke();
    }
    for (const [index, colour] of [[track.start, colours.start], [track.finish, colours.finish]]) {
      pen.fillStyle = colour;
      const [x, y] = this._at(points[index].middle);
      pen.fillRect(x - 3 * ratio, y - 3 * ratio, 6 * ratio, 6 * ratio);
    }
    this.ratio = ratio;
  }

  _at(position) {
    return [this.offset[0] + this.scale * position[0], this.offset[1] + this.scale * position[2]];
  }

  /** cars: {state, colour (CSS), isFollowed}, the followed one is drawn last. */
  draw(cars) {
    if (!this.scale) return;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.road, 0, 0);
    for (const car of [...cars].sort((a, b) => Number(a.isFollowed) - Number(b.isFollowed))) {
      const [x, y] = this._at(car.state.position);
      pen.beginPath();
      pen.arc(x, y, (car.isFollowed ? 4.5 : 3.5) * this.ratio, 0, 7);
      pen.fillStyle = car.colour;
      pen.fill();
      pen.lineWidth = this.ratio;
      pen.strokeStyle = "#fff";
      pen.stroke();
    }
  }
}
