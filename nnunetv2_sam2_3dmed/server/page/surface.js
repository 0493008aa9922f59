// The surfaces of the objects, drawn with WebGL 2 and turned with the mouse. Without WebGL 2 the page works.

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal;
uniform mat3 turn; uniform vec3 centre; uniform vec2 scale; uniform vec2 shift; uniform float depth;
out vec3 facing;
void main() {
  vec3 seen = turn * (position - centre);
  facing = turn * normal;
  gl_Position = vec4(seen.xy * scale + shift, -seen.z * depth, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 facing; uniform vec3 colour; out vec4 pixel;
void main() {
  vec3 n = normalize(facing);
  vec3 light = normalize(vec3(0.35, 0.5, 0.8));
  float lit = 0.32 + 0.68 * max(dot(n, light), 0.0);
  float shine = 0.22 * pow(max(dot(reflect(-light, n), vec3(0.0, 0.0, 1.0)), 0.0), 24.0);
  pixel = vec4(colour * lit + shine, 1.0);
}`;

function compile(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}

/** Normals of vertices: the sum of the normals of their triangles, which marching cubes orders alike. */
function normalsOf(vertices, triangles) {
  const normals = new Float32Array(vertices.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const a = triangles[t] * 3;
    const b = triangles[t + 1] * 3;
    const c = triangles[t + 2] * 3;
    const ux = vertices[b] - vertices[a];
    const uy = vertices[b + 1] - vertices[a + 1];
    const uz = vertices[b + 2] - vertices[a + 2];
    const vx = vertices[c] - vertices[a];
    const vy = vertices[c + 1] - vertices[a + 1];
    const vz = vertices[c + 2] - vertices[a + 2];
    for (let corner = t; corner < t + 3; corner++) {
      const at = triangles[corner] * 3;
      normals[at] += uy * vz - uz * vy;
      normals[at + 1] += uz * vx - ux * vz;
      normals[at + 2] += ux * vy - uy * vx;
    }
  }
  return normals;
}

/** Rotation that shows the patient from the front, head up: LPS to right, up and towards the eye. */
const FRONT = [
  [1, 0, 0],
  [0, 0, 1],
  [0, -1, 0],
];
const times = (a, b) => a.map((row) => [0, 1, 2].map((k) => row.reduce((sum, value, j) => sum + value * b[j][k], 0)));

export class Surface {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    this.program = this.gl && compile(this.gl);
    this.meshes = new Map();
    this.reset();
    if (!this.program) return;
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      from = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [x, y] = [event.clientX - from[0], event.clientY - from[1]];
      from = [event.clientX, event.clientY];
      if (event.buttons & 6) this.shift = [this.shift[0] + x, this.shift[1] - y];
      else this.turnBy(x / 120, y / 120);
      this.draw();
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => (from = null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", (event) => {
      event.stopPropagation();
      this.reset();
      this.draw();
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom = Math.min(20, Math.max(0.3, this.zoom * Math.exp(-event.deltaY / 500)));
        this.draw();
      },
      { passive: false },
    );
  }

  get works() {
    return Boolean(this.program);
  }

  reset() {
    this.zoom = 1;
    this.shift = [0, 0];
    this.turn = FRONT;
    this.turnBy(0.5, 0.25);
  }

  /** Turn about the screen's vertical and horizontal axis, in radians. */
  turnBy(across, down) {
    const [ca, sa, cd, sd] = [Math.cos(across), Math.sin(across), Math.cos(down), Math.sin(down)];
    const about = times(
      [
        [1, 0, 0],
        [0, cd, -sd],
        [0, sd, cd],
      ],
      [
        [ca, 0, sa],
        [0, 1, 0],
        [-sa, 0, ca],
      ],
    );
    this.turn = times(about, this.turn);
  }

  /** Take a surface as the server sends it; null removes the object's. */
  set(id, content) {
    const { gl } = this;
    const old = this.meshes.get(id);
    if (old) {
      gl.deleteVertexArray(old.array);
      for (const buffer of old.buffers) gl.deleteBuffer(buffer);
      this.meshes.delete(id);
    }
    if (!content) return;
    const [numVertices, numTriangles] = new Uint32Array(content, 0, 2);
    if (!numTriangles) return;
    const vertices = new Float32Array(content, 8, 3 * numVertices);
    const triangles = new Uint32Array(content, 8 + 12 * numVertices, 3 * numTriangles);
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = [vertices, normalsOf(vertices, triangles)].map((values, k) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      const place = gl.getAttribLocation(this.program, k ? "normal" : "position");
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
      return buffer;
    });
    buffers.push(gl.createBuffer());
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers[2]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    const ends = [0, 1, 2].map((k) => {
      let [low, high] = [Infinity, -Infinity];
      for (let v = k; v < vertices.length; v += 3) {
        low = Math.min(low, vertices[v]);
        high = Math.max(high, vertices[v]);
      }
      return [low, high];
    });
    this.meshes.set(id, { array, buffers, count: 3 * numTriangles, ends });
  }

  clear() {
    for (const id of [...this.meshes.keys()]) this.set(id, null);
  }

  /** @param objects those to show, with their colours; default: those of the last call */
  draw(objects = this.shown ?? []) {
    this.shown = objects;
    const { gl, canvas } = this;
    if (!this.works) return;
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!wide || !high) return;
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    gl.viewport(0, 0, wide, high);
    gl.clearColor(0, 0, 0, 1);
    gl.enable(gl.DEPTH_TEST);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const meshes = objects.filter(({ id }) => this.meshes.has(id));
    if (!meshes.length) return;
    const ends = [0, 1, 2].map((k) => {
      const all = meshes.map(({ id }) => this.meshes.get(id).ends[k]);
      return [Math.min(...all.map(([low]) => low)), Math.max(...all.map(([, top]) => top))];
    });
    const radius = Math.hypot(...ends.map(([low, top]) => top - low)) / 2 || 1;
    const scale = (this.zoom * 1.1 * Math.min(wide, high)) / radius;
    const at = (name) => gl.getUniformLocation(this.program, name);
    gl.useProgram(this.program);
    gl.uniformMatrix3fv(at("turn"), true, this.turn.flat());
    gl.uniform3fv(at("centre"), ends.map(([low, top]) => (low + top) / 2));
    gl.uniform1f(at("depth"), 0.9 / radius);
    gl.uniform2f(at("scale"), scale / wide, scale / high);
    gl.uniform2f(at("shift"), (2 * this.shift[0] * ratio) / wide, (2 * this.shift[1] * ratio) / high);
    for (const { id, colour } of meshes) {
      const mesh = this.meshes.get(id);
      gl.uniform3fv(at("colour"), [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16) / 255));
      gl.bindVertexArray(mesh.array);
      gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    }
    gl.bindVertexArray(null);
  }
}
