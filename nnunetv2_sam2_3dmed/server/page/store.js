// State of the page, and who wants to know of its changes.

/**
 * image: the server's description, or null. objects: its list. canUndo, canRedo: of steps. active: number of the object that prompts are for.
 * hidden: numbers of objects that are not shown. cursor: voxel [z, y, x] at which the three planes cross. main: axis of
 * the large plane, or "surface". tool, label: see tools.js. window: intensities that are black and white.
 * range: {axis, first, last} to propagate to, or null for all slices. progress: of the propagation. busy: number of
 * requests that the user waits for. quality: of the latest mask. note: see tell(). playing: whether a video is. saving:
 * whether a file is being written.
 */
export const state = {
  image: null,
  objects: [],
  canUndo: false,
  canRedo: false,
  active: 1,
  hidden: new Set(),
  cursor: [0, 0, 0],
  main: 0,
  tool: "box",
  label: 1,
  window: [0, 1],
  masks: true,
  crosshair: true,
  opacity: 0.35,
  range: null,
  progress: { running: false },
  busy: 0,
  quality: null,
  note: null,
  unsaved: false,
  playing: false,
  saving: false,
};

const listeners = [];

/** Call `listener(changed)` after changes, with the set of the names of what changed. */
export function subscribe(listener) {
  listeners.push(listener);
}

let pending = null;

/** Change the state; listeners hear of it before the next frame. */
export function update(change) {
  Object.assign(state, change);
  if (!pending) {
    pending = new Set();
    requestAnimationFrame(() => {
      const changed = pending;
      pending = null;
      for (const listener of listeners) listener(changed);
    });
  }
  for (const name of Object.keys(change)) pending.add(name);
}

const NOTE_MS = 8000;

/** Say something at the foot for some seconds, or until another object or tool is chosen. */
export function tell(text) {
  const note = { text, active: state.active, tool: state.tool };
  update({ note });
  setTimeout(() => state.note === note && update({ note: null }), NOTE_MS);
}

/** What is said at the foot; null if nothing is. */
export const told = () => (state.note?.active === state.active && state.note.tool === state.tool ? state.note.text : null);

export const activeObject = () => state.objects.find((one) => one.id === state.active);
export const objectOf = (id) => state.objects.find((one) => one.id === id);

/** What an image is made of, in words. */
export const unit = () => (state.image?.video ? "frame" : "slice");

/** The axis whose slices the active object is prompted on latest, else the large plane's. */
export function promptedAxis() {
  const revised = state.image?.round?.axis; // of a round's outlines
  if (typeof revised === "number") return revised;
  const prompts = activeObject()?.prompts ?? [];
  const axes = new Set(prompts.map((prompt) => prompt.axis));
  const shown = state.main === "surface" ? 0 : state.main;
  return axes.size === 0 || axes.has(shown) ? shown : [...axes][0];
}
