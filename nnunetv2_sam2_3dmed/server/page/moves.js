// What keys do to the cursor and the view.

import { toSlice } from "./geometry.js";
import { activeObject, state, update } from "./store.js";
import { moveSlice, setSlice } from "./tools.js";

/** Row and column of the cursor in a plane. */
export function here(plane) {
  const { row, column } = toSlice(plane.view, state.image.shape, state.cursor);
  return [row, column];
}

/**
 * @param tools see tools.js
 * @param views see views.js
 * @returns actions by name
 */
export const moves = (tools, views) => ({
  surface: () => state.image && !state.image.video && update({ main: "surface" }),
  plane({ key }) {
    const plane = state.image && views.ordered[key - 1];
    if (plane) update({ main: plane.axis });
  },
  goTo(axis, index) {
    const cursor = [...state.cursor];
    cursor[axis] = index;
    update({ cursor, main: axis, playing: false });
  },
  arrow({ key, shiftKey }) {
    if (!state.image) return;
    const plane = views.current;
    const step = shiftKey ? 10 : 1;
    const at = here(plane);
    const [rows, columns] = { Up: [-1, 0], Down: [1, 0], Left: [0, -1], Right: [0, 1] }[key.slice(5)];
    const next = plane.bounded([at[0] + rows * step, at[1] + columns * step]);
    update({ cursor: plane.voxel(next), crosshair: true });
    tools.follow(plane, next);
  },
  page({ key, shiftKey }) {
    if (state.image) moveSlice(views.current, (key === "PageUp" ? 1 : -1) * (shiftKey ? 10 : 1));
  },
  ends({ key }) {
    if (state.image) setSlice(views.current, key === "Home" ? 0 : Infinity);
  },
  prompted({ key }) {
    if (!state.image) return;
    const plane = views.current;
    const indices = (activeObject()?.prompts ?? [])
      .filter(({ axis }) => axis === plane.axis)
      .map(({ index }) => index)
      .sort((a, b) => a - b);
    const found = key === "," ? indices.filter((i) => i < plane.index).pop() : indices.find((i) => i > plane.index);
    if (found !== undefined) setSlice(plane, found);
  },
  zoom({ key }) {
    if (!state.image) return;
    const plane = views.current;
    if (key === "0") plane.fit();
    else plane.zoomAt(...plane.place(...here(plane)), key === "-" ? 1 / 1.25 : 1.25);
    update({ drawing: null });
  },
  press: () => state.image && tools.press(views.current, here(views.current)),
});
