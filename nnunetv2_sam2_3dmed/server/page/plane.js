// One plane: a slice in grey, the objects over it, their prompts and the cursor, with zoom and pan.

import { clamp, outlines, toSlice, toVoxel } from "./geometry.js";
import { objectOf, state } from "./store.js";

const STRIP = 16; // pixels at the right edge, along which slices can be chosen
const MARGIN = 10;
const LARGEST_ZOOM = 40;
const LARGE_FRAME = 640 * 480; // pixels

/** Black and white as 32-bit pixels for every value of a slice. */
export function greyTable(image, [low, high]) {
  const table = new Uint32Array(65536);
  const { low: first, step } = image.voxels;
  for (let value = 0; value < 65536; value++) {
    let grey = clamp(Math.round(((first + step * value - low) * 255) / (high - low)), 0, 255);
    if (image.inverted) grey = 255 - grey;
    table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

export class Plane {
  /**
   * @param canvas to draw on
   * @param view of the image along this plane's axis
   * @param slices where intensities and labels come from
   */
  constructor(canvas, view, slices) {
    this.canvas = canvas;
    this.view = view;
    this.slices = slices;
    this.zoom = 1;
    this.shift = [0, 0];
    this.preview = null; // drawn by tools on top
    this.picture = new OffscreenCanvas(view.columns, view.rows);
    this.overlay = new OffscreenCanvas(view.columns, view.rows);
    this.drawn = {}; // what picture and overlay hold
    this.paths = new Map();
  }

  get axis() {
    return this.view.axis;
  }

  get index() {
    return state.cursor[this.axis];
  }

  /** Whether the slice of `index` is drawn; the one before is, dimmed, while it is on its way. */
  get ready() {
    return this.drawn.index === this.index;
  }

  // ---- between pixels of the screen and rows and columns

  /** Size and scale in CSS pixels: a slice's pixel is `across` wide and `down` high, its corner at left, top. */
  layout() {
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    const [down, across] = this.view.pixel;
    const fit = Math.min(
      (width - STRIP - 2 * MARGIN) / (this.view.columns * across),
      (height - 2 * MARGIN) / (this.view.rows * down),
    );
    const scale = Math.max(fit, 1e-6) * this.zoom;
    const size = [this.view.columns * across * scale, this.view.rows * down * scale];
    return {
      width,
      height,
      across: across * scale,
      down: down * scale,
      left: (width - STRIP - size[0]) / 2 + this.shift[0],
      top: (height - size[1]) / 2 + this.shift[1],
    };
  }

  /** Row and column (centres of pixels are whole numbers) at a place on the canvas. */
  at(x, y) {
    const { left, top, across, down } = this.layout();
    return [(y - top) / down - 0.5, (x - left) / across - 0.5];
  }

  /** Place on the canvas of a row and a column. */
  place(row, column, layout = this.layout()) {
    return [layout.left + (column + 0.5) * layout.across, layout.top + (row + 0.5) * layout.down];
  }

  inside([row, column]) {
    return row >= -0.5 && column >= -0.5 && row <= this.view.rows - 0.5 && column <= this.view.columns - 0.5;
  }

  bounded([row, column]) {
    return [clamp(row, 0, this.view.rows - 1), clamp(column, 0, this.view.columns - 1)];
  }

  voxel([row, column]) {
    const bounded = this.bounded([Math.round(row), Math.round(column)]);
    return toVoxel(this.view, this.slices.image.shape, this.index, ...bounded);
  }

  zoomAt(x, y, factor) {
    const [row, column] = this.at(x, y);
    this.zoom = clamp(this.zoom * factor, 1, LARGEST_ZOOM);
    if (this.zoom === 1) this.shift = [0, 0];
    else {
      const [nowX, nowY] = this.place(row, column);
      this.shift = [this.shift[0] + x - nowX, this.shift[1] + y - nowY];
    }
  }

  fit() {
    this.zoom = 1;
    this.shift = [0, 0];
  }

  // ---- the strip of slices

  onStrip(x) {
    return !this.slices.image.video && x >= this.canvas.clientWidth - STRIP;
  }

  /** Slice at a height of the strip, whose top is the patient's head, back or left. */
  stripIndex(y) {
    const { depth } = this.view;
    const part = clamp((y - MARGIN) / Math.max(1, this.canvas.clientHeight - 2 * MARGIN), 0, 1);
    const below = Math.round(part * (depth - 1));
    return this.view.flips[0] ? below : depth - 1 - below;
  }

  stripPlace(index) {
    const { depth } = this.view;
    const below = this.view.flips[0] ? index : depth - 1 - index;
    return MARGIN + (depth > 1 ? below / (depth - 1) : 0.5) * (this.canvas.clientHeight - 2 * MARGIN);
  }

  // ---- drawing

  draw(table, marks) {
    const ratio = devicePixelRatio || 1;
    const { canvas } = this;
    const layout = this.layout();
    const [wide, high] = [Math.round(layout.width * ratio), Math.round(layout.height * ratio)];
    if (!wide || !high) return;
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, layout.width, layout.height);
    this.#paint(table);
    canvas.setAttribute("aria-busy", !this.ready);
    const target = [layout.left, layout.top, this.view.columns * layout.across, this.view.rows * layout.down];
    if (this.drawn.index !== undefined) {
      context.imageSmoothingEnabled = Math.max(layout.across, layout.down) * ratio < 6;
      context.imageSmoothingQuality = state.playing ? "low" : "high";
      context.drawImage(this.picture, ...target);
    }
    if (state.masks && this.drawn.labels) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = state.opacity;
      context.drawImage(this.overlay, ...target);
      context.globalAlpha = 1;
      this.#drawOutlines(context, layout);
    }
    if (state.crosshair) this.#drawCursor(context, layout);
    this.#drawPrompts(context, layout);
    if (this.preview) this.preview(context, layout, this);
    if (this.slices.image.video) return; // has a line of time instead
    this.#drawEdges(context, layout);
    this.#drawStrip(context, layout, marks);
  }

  /** Bring picture and overlay up to date, as far as slices are there. */
  #paint(table) {
    const { rows, columns } = this.view;
    const { index } = this;
    const isVideo = Boolean(this.slices.image.video);
    const picture = isVideo ? this.slices.picture(index) : null;
    if (picture && this.drawn.index !== index) {
      this.picture.getContext("2d").drawImage(picture, 0, 0, columns, rows);
      this.drawn.index = index;
    }
    const greys = isVideo ? null : this.slices.grey(this.axis, index);
    if (greys && (this.drawn.index !== index || this.drawn.table !== table)) {
      const pixels = new Uint32Array(rows * columns);
      for (let i = 0; i < pixels.length; i++) pixels[i] = table[greys[i]];
      const image = new ImageData(new Uint8ClampedArray(pixels.buffer), columns, rows);
      this.picture.getContext("2d").putImageData(image, 0, 0);
      this.drawn.index = index;
      this.drawn.table = table;
    }
    const labels = this.slices.labels(this.axis, index);
    const colours = state.objects.map((one) => `${one.id}${one.colour}${state.hidden.has(one.id)}`).join();
    if (labels && (this.drawn.labels !== labels || this.drawn.colours !== colours || !(this.drawn.outlined || state.playing))) {
      const pixels = new Uint32Array(rows * columns);
      const table = new Map();
      for (const { id, colour } of state.objects) {
        const [red, green, blue] = rgb(colour);
        if (!state.hidden.has(id)) table.set(id, (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0);
      }
      for (let i = 0; i < pixels.length; i++) if (labels[i]) pixels[i] = table.get(labels[i]) ?? 0;
      const image = new ImageData(new Uint8ClampedArray(pixels.buffer), columns, rows);
      this.overlay.getContext("2d").putImageData(image, 0, 0);
      // of large frames, outlines take longer than a frame lasts
      const outlined = !state.playing || pixels.length < LARGE_FRAME;
      this.paths = outlined ? outlines(labels, rows, columns) : new Map();
      Object.assign(this.drawn, { labels, colours, outlined, labelled: index });
    } else if (!labels && this.drawn.labelled !== index) {
      // those of another slice would mislead
      this.drawn.labels = null;
    }
  }

  #drawOutlines(context, layout) {
    const turn = new DOMMatrix([layout.across, 0, 0, layout.down, layout.left, layout.top]);
    for (const [id, path] of this.paths) {
      const object = objectOf(id);
      if (!object || state.hidden.has(id)) continue;
      const turned = new Path2D();
      turned.addPath(path, turn);
      context.strokeStyle = object.colour;
      context.lineWidth = id === state.active ? 2 : 1.25;
      context.stroke(turned);
    }
  }

  #drawCursor(context, layout) {
    const { row, column } = toSlice(this.view, this.slices.image.shape, state.cursor);
    const [x, y] = this.place(row, column, layout);
    const gap = 12;
    context.strokeStyle = "rgba(125, 211, 252, 0.55)";
    context.lineWidth = 1;
    context.beginPath();
    const [left, right] = [layout.left, layout.left + this.view.columns * layout.across];
    const [top, bottom] = [layout.top, layout.top + this.view.rows * layout.down];
    for (const [fromX, fromY, toX, toY] of [
      [left, y, x - gap, y],
      [x + gap, y, right, y],
      [x, top, x, y - gap],
      [x, y + gap, x, bottom],
    ]) {
      if (toX < fromX || toY < fromY) continue;
      context.moveTo(Math.round(fromX) + 0.5, Math.round(fromY) + 0.5);
      context.lineTo(Math.round(toX) + 0.5, Math.round(toY) + 0.5);
    }
    context.stroke();
  }

  #drawPrompts(context, layout) {
    for (const object of state.objects) {
      if (state.hidden.has(object.id)) continue;
      for (const prompt of object.prompts) {
        if (prompt.axis !== this.axis || prompt.index !== this.index) continue;
        context.globalAlpha = object.id === state.active ? 1 : 0.45;
        if (prompt.box) drawBox(context, this, layout, prompt.box, object.colour);
        for (const [row, column, label] of prompt.points) {
          drawPoint(context, ...this.place(row, column, layout), label, object.colour);
        }
        context.globalAlpha = 1;
      }
    }
  }

  #drawEdges(context, layout) {
    const [left, right, top, bottom] = this.view.edges;
    const [width, height] = [layout.width - STRIP, layout.height];
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.lineJoin = "round";
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.8)";
    context.fillStyle = "#e2e8f0";
    for (const [letter, x, y] of [
      [left, 12, height / 2],
      [right, width - 10, height / 2],
      [top, width / 2, 12],
      [bottom, width / 2, height - 12],
    ]) {
      context.strokeText(letter, x, y);
      context.fillText(letter, x, y);
    }
  }

  #drawStrip(context, layout, marks) {
    const x = layout.width - STRIP / 2;
    const line = (from, to, colour, wide) => {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(x, from);
      context.lineTo(x, to);
      context.stroke();
    };
    line(MARGIN, layout.height - MARGIN, "rgba(148, 163, 184, 0.3)", 3);
    if (marks.range) line(...marks.range.map((index) => this.stripPlace(index)), "rgba(56, 189, 248, 0.6)", 3);
    for (const { index, colour } of marks.prompts) {
      context.fillStyle = colour;
      context.fillRect(x - 5, this.stripPlace(index) - 1, 10, 2);
    }
    context.fillStyle = "#f8fafc";
    context.beginPath();
    context.roundRect(x - 6, this.stripPlace(this.index) - 3, 12, 6, 3);
    context.fill();
  }
}

export function drawPoint(context, x, y, label, colour) {
  context.lineWidth = 1.5;
  context.strokeStyle = "#0b1220";
  context.fillStyle = label ? colour : "#fff";
  context.beginPath();
  context.arc(x, y, 5.5, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
  context.strokeStyle = label ? "#0b1220" : "#dc2626";
  context.lineWidth = 1.75;
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (label) {
    context.moveTo(x, y - 3);
    context.lineTo(x, y + 3);
  }
  context.stroke();
}

export function drawBox(context, plane, layout, [top, left, bottom, right], colour) {
  const [x, y] = plane.place(top, left, layout);
  const [toX, toY] = plane.place(bottom, right, layout);
  context.setLineDash([5, 3]);
  context.lineWidth = 1.5;
  context.strokeStyle = colour;
  context.strokeRect(x, y, toX - x, toY - y);
  context.setLineDash([]);
}

export function drawLine(context, plane, layout, path, colour, filled) {
  context.beginPath();
  path.forEach(([row, column], k) => {
    const [x, y] = plane.place(row, column, layout);
    if (k) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
  context.lineJoin = context.lineCap = "round";
  context.lineWidth = 2.5;
  context.strokeStyle = colour;
  if (filled) {
    context.closePath();
    context.globalAlpha = 0.25;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
  }
  context.stroke();
}
