// What the mouse, and the keyboard at the cursor, do on a plane.

import { clamp } from "./geometry.js";
import { drawBox, drawLine, drawPoint } from "./plane.js";
import { activeObject, state, subscribe, tell, update } from "./store.js";

const MOVED = 4; // pixels from which a press is a drag
const TURN = 40; // pixels of a touch pad for a slice

/** Where a drawing begins, and thus lies: another slice may be shown when it ends. */
const begun = (plane) => ({ plane, axis: plane.axis, index: plane.index });

/** Prompts, by the tool that draws them; a box has no negative. */
export const DRAWS = { point: "point", box: "box", scribble: "scribble", lasso: "lasso" };
export const signed = (tool) => tool !== "box" && tool in DRAWS;

export class Tools {
  /** @param prompt called with ({axis, index}, kind, label, [[row, column], ...]) when one is drawn */
  constructor(prompt) {
    this.prompt = prompt;
    this.drag = null;
    this.byKeys = null; // {plane, axis, index, kind, path} of what is drawn with the space bar
    this.turned = 0; // of the wheel since the latest slice
    subscribe((changed) => changed.has("cursor") && this.#stay());
  }

  /** Forget what is being drawn on a slice that is no longer shown. */
  #stay() {
    if ([this.drag, this.byKeys].some((drawn) => drawn && "index" in drawn && drawn.index !== drawn.plane.index)) {
      this.cancel();
    }
  }

  attach(plane) {
    const { canvas } = plane;
    const here = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 2 || this.drag) return;
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      if (state.tool in DRAWS) update({ playing: false });
      this.drag = this.#begin(plane, event, ...here(event));
      this.drag?.move?.(...here(event));
      redraw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.drag?.plane === plane) {
        // events between frames, for smooth lines
        for (const one of event.getCoalescedEvents?.() ?? []) this.drag.move?.(...here(one));
        this.drag.move?.(...here(event));
        redraw();
      }
      update({ pointer: { axis: plane.axis, at: plane.at(...here(event)) } });
    });
    canvas.addEventListener("pointerleave", () => update({ pointer: null }));
    const end = (event) => {
      if (this.drag?.plane !== plane) return;
      const { drag } = this;
      this.drag = null;
      plane.preview = null;
      if (event.type === "pointerup") drag.end?.(...here(event));
      redraw();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey) {
          plane.zoomAt(...here(event), Math.exp(-event.deltaY / 300));
          redraw();
        } else if (!this.drag) moveSlice(plane, this.#wheel(event)); // a drawing stays on its slice
      },
      { passive: false },
    );
  }

  /** A slice for each notch of a wheel, or for as much on a touch pad, which sends many small movements. */
  #wheel(event) {
    const turn = event.deltaMode ? event.deltaY * TURN : event.deltaY;
    this.turned = Math.sign(turn) === Math.sign(this.turned) ? this.turned + turn : turn;
    if (Math.abs(this.turned) < TURN) return 0;
    this.turned = 0;
    return -Math.sign(turn);
  }

  #begin(plane, event, x, y) {
    if (plane.onStrip(x)) {
      return { plane, move: (_, toY) => setSlice(plane, plane.stripIndex(toY)) };
    }
    if (event.button === 1 || event.shiftKey) return this.#pan(plane, x, y);
    const right = event.button === 2 || (event.ctrlKey && event.button === 0);
    if (state.tool === "window" && !right) return this.#level(plane, x, y);
    if (!(state.tool in DRAWS) && right) return this.#zoom(plane, x, y);
    if (!(state.tool in DRAWS)) return this.#navigate(plane);
    if (!plane.ready) return null; // the user sees another slice
    const label = signed(state.tool) && right ? 1 - state.label : state.label;
    return { point: this.#point, box: this.#box, scribble: this.#line, lasso: this.#line }[state.tool].call(
      this,
      begun(plane),
      label,
      x,
      y,
    );
  }

  #pan(plane, x, y) {
    const before = plane.shift;
    return {
      plane,
      move: (toX, toY) => {
        plane.shift = [before[0] + toX - x, before[1] + toY - y];
      },
    };
  }

  #zoom(plane, x, y) {
    let last = y;
    return {
      plane,
      move: (_, toY) => {
        plane.zoomAt(x, y, Math.exp((last - toY) / 150));
        last = toY;
      },
    };
  }

  #level(plane, x, y) {
    const [low, high] = state.window;
    const rate = Math.max(high - low, 1) / 300;
    return {
      plane,
      move: (toX, toY) => {
        const width = Math.max(high - low + (toX - x) * rate * 2, rate);
        const level = (low + high) / 2 + (toY - y) * rate;
        update({ window: [level - width / 2, level + width / 2] });
      },
    };
  }

  #navigate(plane) {
    return { plane, move: (x, y) => update({ cursor: plane.voxel(plane.at(x, y)) }) };
  }

  #point(where, label, x, y) {
    const { plane } = where;
    plane.preview = (context) => drawPoint(context, x, y, label, colour());
    const place = plane.at(x, y);
    return {
      ...where,
      end: () => {
        if (plane.inside(place)) this.prompt(where, "point", label, [plane.bounded(place)]);
        else tell("That is outside of the image.");
      },
    };
  }

  #box(where, _, x, y) {
    const { plane } = where;
    const from = plane.bounded(plane.at(x, y));
    let to = from;
    plane.preview = (context, layout) => drawBox(context, plane, layout, [...from, ...to], colour());
    return {
      ...where,
      move: (toX, toY) => {
        to = plane.bounded(plane.at(toX, toY));
      },
      end: (toX, toY) => {
        if (Math.hypot(toX - x, toY - y) >= MOVED) this.prompt(where, "box", 1, [from, to]);
        else tell("Drag the box from one corner to the other.");
      },
    };
  }

  #line(where, label, x, y) {
    const { plane } = where;
    const kind = state.tool;
    const path = [plane.bounded(plane.at(x, y))];
    plane.preview = (context, layout) =>
      drawLine(context, plane, layout, path, label ? colour() : "#f87171", kind === "lasso");
    return {
      ...where,
      move: (toX, toY) => {
        const next = plane.bounded(plane.at(toX, toY));
        const last = path[path.length - 1];
        if (Math.hypot(next[0] - last[0], next[1] - last[1]) > 0.5) path.push(next);
      },
      end: () => {
        if (path.length > 2 || (kind === "scribble" && path.length > 1)) this.prompt(where, kind, label, path);
      },
    };
  }

  // ---- with the keyboard: points at the cursor, one for each press of the space bar

  /** Put a point, a corner or a point of a line at the cursor. */
  press(plane, [row, column]) {
    const kind = state.tool;
    if (!(kind in DRAWS) || !plane.ready) return;
    if (kind === "point") {
      this.prompt(begun(plane), kind, state.label, [[row, column]]);
      return;
    }
    const { plane: before, index, kind: drawn } = this.byKeys ?? {};
    if (before !== plane || index !== plane.index || drawn !== kind) this.byKeys = { ...begun(plane), kind, path: [] };
    this.byKeys.path.push([row, column]);
    if (kind === "box" && this.byKeys.path.length === 2) this.finish();
    else this.follow(plane, [row, column]);
  }

  /** Show what is drawn up to the cursor. */
  follow(plane, at) {
    if (this.byKeys?.plane !== plane) return;
    const { kind, path } = this.byKeys;
    plane.preview = (context, layout) => {
      if (kind === "box") drawBox(context, plane, layout, [...path[0], ...at], colour());
      else drawLine(context, plane, layout, [...path, at], state.label ? colour() : "#f87171", kind === "lasso");
    };
    redraw();
  }

  /** Send what was drawn with the space bar; false if there is nothing. */
  finish() {
    if (!this.byKeys) return false;
    const drawn = this.byKeys;
    const { kind, path } = drawn;
    this.cancel();
    if (path.length > (kind === "lasso" ? 2 : 1)) this.prompt(drawn, kind, kind === "box" ? 1 : state.label, path);
    return true;
  }

  /** Forget what is being drawn; false if there is nothing. */
  cancel() {
    const plane = this.drag?.plane ?? this.byKeys?.plane;
    this.drag = this.byKeys = null;
    if (plane) plane.preview = null;
    redraw();
    return Boolean(plane);
  }
}

const colour = () => activeObject()?.colour ?? "#38bdf8";
const redraw = () => update({ drawing: null });

export function setSlice(plane, index) {
  const cursor = [...state.cursor];
  cursor[plane.axis] = clamp(index, 0, plane.view.depth - 1);
  update({ cursor, playing: false });
}

/** Move by slices, towards the top of the strip for positive steps; in a video back in time, as pages are turned back. */
export function moveSlice(plane, steps) {
  const backwards = plane.view.flips[0] || state.image.video;
  if (steps) setSlice(plane, plane.index + (backwards ? -steps : steps));
}
