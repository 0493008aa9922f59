// The bar at the top, the tools' buttons and the line at the foot: what they show of the state, and what to do next.

import { toSlice } from "./geometry.js";
import { activeObject, state, told, unit } from "./store.js";
import { DRAWS, signed } from "./tools.js";
import { find, make } from "./widgets.js";

const PRESETS = [
  ["abdomen", 40, 400],
  ["mediastinum", 40, 400],
  ["lung", -600, 1500],
  ["bone", 400, 1800],
  ["brain", 40, 80],
];

/** Offer the windows that suit an image. */
export function fillPresets(image) {
  const select = find("preset");
  const [low, high] = image.window;
  const own = ["as the model sees it", (low + high) / 2, high - low];
  const isCt = image.modality ? image.modality === "CT" : image.voxels.low < -500;
  select.replaceChildren(
    ...[own, ...(isCt ? PRESETS : [])].map(([name, level, width]) => new Option(name, `${level},${width}`)),
    new Option("other", ""),
  );
  select.lastChild.hidden = true;
}

/**
 * @param changed names of what has changed of the state
 * @param views see views.js
 */
export function drawBars(changed, views) {
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === state.tool);
  }
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-checked", signed(state.tool) && Number(button.dataset.label) === state.label);
    button.disabled = !signed(state.tool);
  }
  find("masks").setAttribute("aria-pressed", state.masks);
  find("crosshair").setAttribute("aria-pressed", state.crosshair);
  for (const id of ["save", "preset", "load", "add-object", "propagate"]) {
    if (!state.image) find(id).disabled = true;
    else if (id !== "propagate") find(id).disabled = false;
  }
  find("undo").disabled = !state.canUndo;
  find("redo").disabled = !state.canRedo;
  for (const { canvas } of views.planes) canvas.style.cursor = state.tool in DRAWS ? "crosshair" : "default";
  if (!state.image) return;
  const [low, high] = state.window;
  const [level, width] = [(low + high) / 2, high - low];
  const preset = find("preset");
  // two can be alike: what was chosen stays
  const fitting = [...preset.selectedOptions, ...preset.options].find(({ value }) => {
    const [a, b] = value.split(",").map(Number);
    return value && Math.abs(a - level) < 1e-6 && Math.abs(b - width) < 1e-6;
  });
  if (document.activeElement !== preset || !fitting) (fitting ?? preset.lastChild).selected = true;
  find("status-window").textContent = state.image.video ? "" : `Level ${level.toFixed(0)}, width ${width.toFixed(0)}`;
  find("status-busy").hidden = state.busy === 0;
  find("status-busy").textContent = state.saving ? "Writing the file" : "Segmenting";
  const { quality } = state;
  const shown =
    quality?.object === state.active &&
    state.cursor[quality.axis] === quality.index &&
    activeObject()?.prompts.some(({ axis, index }) => axis === quality.axis && index === quality.index);
  find("status-quality").textContent = shown ? `Expected IoU ${quality.value.toFixed(2)}` : "";
  drawPointer(views);
  if (["objects", "active", "progress", "tool", "cursor", "image", "busy", "note"].some((name) => changed.has(name))) {
    drawHint();
  }
}

function drawPointer(views) {
  const { pointer } = state;
  const plane = pointer && views.planes[pointer.axis];
  const inside = plane?.inside(pointer.at);
  const [z, y, x] = inside ? plane.voxel(pointer.at) : state.cursor;
  find("status-voxel").textContent = state.image.video ? `x ${x}  y ${y}  frame ${z}` : `x ${x}  y ${y}  z ${z}`;
  find("status-value").hidden = Boolean(state.image.video);
  if (state.image.video) return;
  const of = inside ? plane : views.current;
  const greys = of.slices.grey(of.axis, of.index);
  if (!greys) return;
  const { row, column } = toSlice(of.view, state.image.shape, [z, y, x]);
  const { low, step } = state.image.voxels;
  const value = low + step * greys[row * of.view.columns + column];
  find("status-value").textContent = `Value ${step === 1 ? value.toFixed(0) : value.toPrecision(4)}`;
}

/** What to do next; keys stand in braces. */
function hint() {
  const object = activeObject();
  if (!object || state.progress.running) return "";
  if (object.protected) return `${object.name} is locked. Unlock it with {K}, or add an object with {N}.`;
  if (state.image.round) {
    return state.image.round.stage === "outline"
      ? "Correct it with points {P} or the lasso {L}. {[} and {]} name the slice as first and last. {Ctrl+Enter}: done."
      : "Correct it where it does not fit: points {P}, lasso {L}; {Enter} propagates. {Ctrl+Enter}: done.";
  }
  if (!object.prompts.length) {
    const how = {
      box: "Drag a box around the structure.",
      point: "Click on the structure.",
      scribble: "Draw a line over the structure.",
      lasso: "Outline the structure.",
    };
    return how[state.tool] ?? "Choose a tool at the left: {B} box, {P} point, {S} scribble, {L} lasso.";
  }
  if (!object.propagated) {
    return `Correct it with points {P}: left to add, right to exclude. {Enter} propagates it to the other ${unit()}s.`;
  }
  if (state.image.video) {
    return "Play it with {Space}. Correct where it does not fit, and propagate again. {Ctrl+S} saves.";
  }
  return "Scroll through the slices. Correct where it does not fit, and propagate again. {Ctrl+S} saves.";
}

function drawHint() {
  const parts = () =>
    hint()
      .split(/[{}]/)
      .map((part, k) => (k % 2 ? make("kbd", {}, part) : part));
  find("hint").replaceChildren(...(told() === null ? parts() : [told()]));
  find("first-hint").replaceChildren(...parts());
  find("first-hint").hidden = state.busy > 0 || state.objects.some((one) => one.started);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

export function setUpTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem("sam2_3dmed_theme");
  setTheme(chosen() ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => chosen() ?? setTheme(dark.matches ? "dark" : "light"));
  find("theme").addEventListener("click", () => {
    const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("sam2_3dmed_theme", other);
    setTheme(other);
  });
}
