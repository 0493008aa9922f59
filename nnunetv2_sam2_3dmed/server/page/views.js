// The three planes and the surface: their places on the page, and drawing them.

import * as api from "./api.js";
import { Frames } from "./frames.js";
import { icon } from "./icons.js";
import { Plane, greyTable } from "./plane.js";
import { Slices } from "./slices.js";
import { state, subscribe, update } from "./store.js";
import { Surface } from "./surface.js";
import { find, make } from "./widgets.js";

const SURFACE_AFTER_MS = 700;
const UNSEEN = new Set(["pointer", "busy", "quality", "unsaved", "tool", "label", "progress", "saving"]); // in the planes

export class Views {
  /**
   * @param tools attached to each plane
   * @param failed called with errors
   */
  constructor(tools, failed) {
    this.tools = tools;
    this.failed = failed;
    this.planes = [];
    this.slices = null;
    this.surfaceCell = this.#cell("surface", "surface");
    this.surface = new Surface(this.surfaceCell.querySelector("canvas"));
    this.empty = make("p", { class: "empty" }, "The surface appears here.");
    this.surfaceCell.append(this.empty);
    if (!this.surface.works) this.empty.textContent = "This browser shows no surfaces (no WebGL 2).";
    this.surfaceOf = new Map(); // object -> version of the labels that its surface is from
    subscribe((changed) => this.draw(changed));
    new ResizeObserver(() => update({ size: null })).observe(find("planes"));
  }

  /** Show another image. */
  open(image) {
    this.slices?.close();
    for (const { canvas } of this.planes) canvas.closest(".cell").remove();
    const arrived = () => update({ slices: null });
    this.slices = new (image.video ? Frames : Slices)(image, arrived, this.failed);
    // axial, coronal, sagittal, however the array is stored
    const names = image.video ? ["frame"] : ["axial", "coronal", "sagittal"];
    const ordered = names.map((name) => image.views.find((view) => view.name === name));
    const planes = ordered.map((view) => {
      const cell = this.#cell(view.axis, view.name);
      find("planes").append(cell);
      const plane = new Plane(cell.querySelector("canvas"), view, this.slices);
      plane.head = cell.querySelector(".slice");
      this.tools.attach(plane);
      return plane;
    });
    find("planes").append(this.surfaceCell);
    this.surfaceCell.hidden = Boolean(image.video);
    document.body.dataset.kind = image.video ? "video" : "volume";
    this.ordered = planes;
    this.planes = [...planes].sort((a, b) => a.axis - b.axis);
    this.surface.clear();
    this.surfaceOf.clear();
    update({ main: image.learned_axis });
  }

  #cell(key, name) {
    const title = name.charAt(0).toUpperCase() + name.slice(1);
    const canvas = make("canvas", { tabindex: 0, "aria-label": `${title} plane`, "data-plane": name });
    const enlarge = () => update({ main: key });
    return make(
      "div",
      { class: "cell", "data-cell": key },
      canvas,
      make("div", { class: "cell-head" }, make("b", {}, title), make("span", { class: "slice" })),
      make(
        "button",
        { class: "cell-large", "data-tip": "Enlarge", "aria-label": `Enlarge ${name}`, onclick: enlarge },
        icon("enlarge"),
      ),
    );
  }

  /** The plane that the keyboard is for: the one in focus, else the large one. */
  get current() {
    return (
      this.planes.find(({ canvas }) => canvas === document.activeElement) ??
      this.planes[state.main === "surface" ? state.image.learned_axis : state.main]
    );
  }

  draw(changed) {
    if (!this.slices) return;
    if (changed.has("main") || changed.has("image")) {
      for (const cell of document.querySelectorAll(".cell")) {
        cell.classList.toggle("large", cell.dataset.cell === String(state.main));
      }
    }
    if (changed.has("window") || changed.has("image")) this.table = greyTable(state.image, state.window);
    if ([...changed].some((name) => !UNSEEN.has(name))) {
      for (const plane of this.planes) {
        plane.head.textContent = `${plane.index} / ${plane.view.depth - 1}`;
        plane.draw(this.table, this.#marks(plane));
      }
    }
    if (["objects", "hidden", "main", "size", "image"].some((name) => changed.has(name))) this.#drawSurface();
    if (["labels", "objects", "progress"].some((name) => changed.has(name))) this.#surfaceLater();
  }

  /** What the strip of slices marks: slices with prompts, and the range to propagate to. */
  #marks({ axis }) {
    const prompts = state.objects.flatMap((object) =>
      object.prompts.filter((prompt) => prompt.axis === axis).map(({ index }) => ({ index, colour: object.colour })),
    );
    const range = state.range?.axis === axis ? [state.range.first, state.range.last] : null;
    return { prompts, range };
  }

  #drawSurface() {
    this.surface.draw(state.objects.filter(({ id }) => !state.hidden.has(id)));
    if (this.surface.works) this.empty.hidden = this.surface.meshes.size > 0;
  }

  /** Fetch the surfaces anew once masks have stopped changing. */
  #surfaceLater() {
    clearTimeout(this.waiting);
    if (!this.surface.works || state.progress.running || state.image.video) return;
    this.waiting = setTimeout(async () => {
      const { slices } = this;
      const { version } = slices;
      const known = new Set(state.objects.map(({ id }) => id));
      for (const id of this.surface.meshes.keys()) if (!known.has(id)) this.surface.set(id, null);
      for (const { id, prompts, started } of state.objects) {
        if (this.surfaceOf.get(id) === version) continue;
        if (!prompts.length && !started && !this.surface.meshes.has(id)) continue;
        try {
          const content = await api.surface(id);
          if (slices !== this.slices || version !== slices.version) return;
          this.surface.set(id, content);
          this.surfaceOf.set(id, version);
        } catch (error) {
          if (error.status !== 400) this.failed(error); // 400: was removed meanwhile
          return;
        }
      }
      this.#drawSurface();
    }, SURFACE_AFTER_MS);
  }
}
