// Draws meshes with WebGL 2: one program for solid meshes and for lines that keep a width on the screen.

import { dot, mix, sub } from "./vectors.js";

const VERTEX = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;     // of lines: to which side the vertex is moved
layout(location = 2) in vec3 colour;
uniform mat4 view;
uniform mat4 model;
uniform vec3 eye;
uniform float halfWidth;                 // of lines, in metres; 0 for solid meshes
uniform float pixelM;                    // metres of a pixel, a metre from the eye; of a flat view: anywhere
uniform float isFlat;
out vec3 vColour;
out vec3 vNormal;
out float vDistance;
void main() {
  vec4 world = model * vec4(position, 1.0);
  vDistance = distance(world.xyz, eye);
  if (halfWidth > 0.0) {
    float least = 1.3 * pixelM * mix(vDistance, 1.0, isFlat);
    world.xyz += normal * max(halfWidth, least);
  }
  vNormal = mat3(model) * normal;
  vColour = colour;
  gl_Position = view * world;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 vColour;
in vec3 vNormal;
in float vDistance;
uniform vec3 tint;
uniform float alpha;
uniform vec3 sun;
uniform float ambient;
uniform vec3 fog;
uniform float fogM;                      // where half of a colour is fog; 0 for none
uniform float halfWidth;
out vec4 result;
void main() {
  vec3 colour = vColour * tint;
  if (halfWidth == 0.0) colour *= ambient + (1.0 - ambient) * max(dot(normalize(vNormal), sun), 0.0);
  float share = fogM > 0.0 ? 1.0 - exp2(-pow(vDistance / fogM, 2.0)) : 0.0;
  result = vec4(mix(colour, fog, share), alpha);
}`;

export const FLOATS = 9; // of a vertex: position, normal, colour
const WHITE = [1, 1, 1];
const COARSE = 0.5; // pixels of a coarse picture along each edge, over those of a fine one
const COARSE_FOG_M = 200;
const HIDDEN = 2.5; // times the distance of half the fog, from where on nothing is drawn: it would be 1 % visible
const PIECE = 576;  // corners of a mesh that are drawn or left out together

export class Renderer {
  /** Raises an error if the browser has no WebGL 2. */
  constructor(canvas) {
    this.canvas = canvas;
    this.isSlow = isSlow(document.createElement("canvas").getContext("webgl2"));
    this.gl = canvas.getContext("webgl2", { antialias: !this.isSlow, alpha: false, powerPreference: "low-power" });
    if (!this.gl) throw new Error("this browser has no WebGL 2, which the view needs");
    this._build();
  }

  _build() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(gl.getProgramInfoLog(program));
    }
    gl.useProgram(program);
    this.at = new Proxy({}, { get: (known, name) => (known[name] ??= gl.getUniformLocation(program, name)) });
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  }

  /**
   * Copy a mesh to the graphics card: vertices of FLOATS numbers each, and the corners of triangles. isWide: it is in the
   * world's coordinates, and what of it is out of sight is not drawn.
   */
  upload({ vertices, corners }, isWide = false) {
    const gl = this.gl;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = [gl.createBuffer(), gl.createBuffer()];
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[0]);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(vertices), gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers[1]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(corners), gl.STATIC_DRAW);
    for (let place = 0; place < 3; place++) {
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 4 * FLOATS, 12 * place);
    }
    return { array, buffers, count: corners.length, pieces: isWide ? piecesOf(vertices, corners) : null };
  }

  free(mesh) {
    if (!mesh) return;
    this.gl.deleteVertexArray(mesh.array);
    for (const buffer of mesh.buffers) this.gl.deleteBuffer(buffer);
  }

  /** Fit the picture to its place on the page, a coarse one with fewer pixels; returns its width over its height. */
  fit(isCoarse) {
    this.isCoarse = isCoarse;
    const ratio = Math.min(devicePixelRatio || 1, 2) * (isCoarse ? COARSE : 1);
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((size) => Math.round(size * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    this.gl.viewport(0, 0, width, height);
    return width / Math.max(height, 1);
  }

  /** Begin a picture. camera: view (matrix), eye, pixelM, isFlat; light: sky, fog, fogM, sun, ambient. */
  begin(camera, light) {
    const { gl, at } = this;
    gl.clearColor(...light.sky, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const fogM = this.isCoarse ? Math.min(light.fogM, COARSE_FOG_M) : light.fogM;
    this.planes = planesOf(camera.view);
    this.eye = camera.eye;
    this.farM = camera.isFlat ? Infinity : HIDDEN * fogM;
    gl.uniformMatrix4fv(at.view, false, camera.view);
    gl.uniform3fv(at.eye, camera.eye);
    gl.uniform1f(at.pixelM, camera.pixelM);
    gl.uniform1f(at.isFlat, camera.isFlat ? 1 : 0);
    gl.uniform3fv(at.sun, light.sun);
    gl.uniform1f(at.ambient, light.ambient);
    gl.uniform3fv(at.fog, light.fog);
    gl.uniform1f(at.fogM, camera.isFlat ? 0 : fogM);
  }

  /** Draw a mesh; tint multiplies its colours, halfWidth makes it a line. */
  draw(mesh, model, { tint = WHITE, alpha = 1, halfWidth = 0 } = {}) {
    if (!mesh) return;
    const { gl, at } = this;
    gl.uniformMatrix4fv(at.model, false, model);
    gl.uniform3fv(at.tint, tint);
    gl.uniform1f(at.alpha, alpha);
    gl.uniform1f(at.halfWidth, halfWidth);
    if (alpha < 1) gl.enable(gl.BLEND);
    else gl.disable(gl.BLEND);
    if (halfWidth > 0) gl.disable(gl.CULL_FACE);
    else gl.enable(gl.CULL_FACE);
    gl.bindVertexArray(mesh.array);
    for (const [from, to] of this._seen(mesh)) gl.drawElements(gl.TRIANGLES, to - from, gl.UNSIGNED_INT, 4 * from);
  }

  /** The corners of a mesh that may be in the picture. */
  _seen({ count, pieces }) {
    if (!pieces) return [[0, count]];
    const seen = [];
    for (const { from, to, centre, radius } of pieces) {
      if (Math.hypot(...sub(centre, this.eye)) - radius > this.farM) continue;
      if (this.planes.some((plane) => dot(plane, centre) + plane[3] < -radius)) continue;
      if (seen.length && seen.at(-1)[1] === from) seen.at(-1)[1] = to;
      else seen.push([from, to]);
    }
    return seen;
  }
}

/** Whether the CPU draws, which a training may need. */
function isSlow(gl) {
  const told = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = told ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software/i.test(name);
}

/** The pieces of a mesh, each in a sphere. */
function piecesOf(vertices, corners) {
  const pieces = [];
  for (let from = 0; from < corners.length; from += PIECE) {
    const to = Math.min(from + PIECE, corners.length);
    const [low, high] = [[Infinity, Infinity, Infinity], [-Infinity, -Infinity, -Infinity]];
    for (let k = from; k < to; k++) {
      for (let axis = 0; axis < 3; axis++) {
        const value = vertices[FLOATS * corners[k] + axis];
        low[axis] = Math.min(low[axis], value);
        high[axis] = Math.max(high[axis], value);
      }
    }
    pieces.push({ from, to, centre: mix(low, high, 0.5), radius: Math.hypot(...sub(high, low)) / 2 });
  }
  return pieces;
}

/** The left, right, lower and upper plane and the near one of what a camera sees, pointing inwards. */
function planesOf(view) {
  const row = (k) => [view[k], view[4 + k], view[8 + k], view[12 + k]];
  return [[0, 1], [0, -1], [1, 1], [1, -1], [2, 1]].map(([k, sign]) => {
    const plane = row(3).map((value, n) => value + sign * row(k)[n]);
    return plane.map((value) => value / Math.hypot(plane[0], plane[1], plane[2]));
  });
}
