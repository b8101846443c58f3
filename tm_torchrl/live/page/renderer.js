// Draws meshes with WebGL 2: one program for solid meshes and for lines that keep a width on the screen.

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

export class Renderer {
  /** Raises an error if the browser has no WebGL 2. */
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: true, alpha: false, powerPreference: "low-power" });
    if (!this.gl) throw new Error("this browser has no WebGL 2, which the view needs");
    const told = this.gl.getExtension("WEBGL_debug_renderer_info");
    const name = told ? this.gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "";
    this.isSlow = /swiftshader|llvmpipe|software/i.test(name); // the CPU draws, which a training may need
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

  /** Copy a mesh to the graphics card: vertices of FLOATS numbers each, and the corners of triangles. */
  upload({ vertices, corners }) {
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
    return { array, buffers, count: corners.length };
  }

  free(mesh) {
    if (!mesh) return;
    this.gl.deleteVertexArray(mesh.array);
    for (const buffer of mesh.buffers) this.gl.deleteBuffer(buffer);
  }

  /** Fit the picture to its place on the page, a coarse one with fewer pixels; returns its width over its height. */
  fit(isCoarse) {
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
    gl.uniformMatrix4fv(at.view, false, camera.view);
    gl.uniform3fv(at.eye, camera.eye);
    gl.uniform1f(at.pixelM, camera.pixelM);
    gl.uniform1f(at.isFlat, camera.isFlat ? 1 : 0);
    gl.uniform3fv(at.sun, light.sun);
    gl.uniform1f(at.ambient, light.ambient);
    gl.uniform3fv(at.fog, light.fog);
    gl.uniform1f(at.fogM, camera.isFlat ? 0 : light.fogM);
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
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
  }
}
