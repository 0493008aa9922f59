// The panel at the right: objects, propagation, and the active object's prompts.

import { icon } from "./icons.js";
import { ownRanges } from "./round.js";
import { activeObject, promptedAxis, state, unit, update } from "./store.js";
import { find, make } from "./widgets.js";

let act = {};
let scopeAll = false;

/** @param actions see main.js */
export function setUpPanel(actions) {
  act = actions;
  find("add-object").addEventListener("click", () => act.addObject());
  for (const [id, all] of [
    ["scope-one", false],
    ["scope-all", true],
  ]) {
    find(id).addEventListener("click", () => {
      scopeAll = all;
      update({ range: state.range });
    });
  }
  find("first").addEventListener("change", () => typed());
  find("last").addEventListener("change", () => typed());
  find("all-slices").addEventListener("click", () => update({ range: null }));
  find("propagate").addEventListener("click", () => (state.progress.running ? act.stop() : act.propagate()));
}

/** What the propagation is asked for: all objects of a round's case have ranges of their own, or none. */
export function wantedPropagation() {
  if (scopeAll && state.image.round) return { within: ownRanges() };
  const { range } = state;
  return {
    objects: scopeAll ? null : [state.active],
    axis: range ? range.axis : null,
    slices: range ? [range.first, range.last] : null,
  };
}

/** Whether an object that is to be propagated has a prompt. */
export const canPropagate = () =>
  (scopeAll ? state.objects : [activeObject()]).some((one) => one?.prompts.length);

function typed() {
  const axis = promptedAxis();
  const top = state.image.shape[axis] - 1;
  const bounded = (id) => Math.min(top, Math.max(0, Math.round(Number(find(id).value) || 0)));
  setRange(axis, bounded("first"), bounded("last"));
}

export function setRange(axis, first, last) {
  [first, last] = [Math.min(first, last), Math.max(first, last)];
  const all = first === 0 && last === state.image.shape[axis] - 1;
  update({ range: all ? null : { axis, first, last } });
}

/** Take the slice that is shown as the first or the last one. */
export function setEnd(which) {
  const axis = promptedAxis();
  const here = state.cursor[axis];
  const range = state.range?.axis === axis ? state.range : { first: 0, last: state.image.shape[axis] - 1 };
  if (which === "first") setRange(axis, here, Math.max(here, range.last));
  else setRange(axis, Math.min(here, range.first), here);
}

export function drawPanel(changed) {
  if (!state.image) return;
  const any = (...names) => names.some((name) => changed.has(name));
  if (any("objects", "active", "hidden", "image")) drawObjects();
  if (any("objects", "active", "cursor", "image")) drawPrompts();
  if (any("range", "objects", "active", "main", "image")) drawRange();
  if (any("progress", "objects", "active", "range", "image")) drawProgress();
}

function drawObjects() {
  const list = find("objects");
  // a name that is being typed stays as it is
  if (document.activeElement?.classList.contains("name") && list.contains(document.activeElement)) return;
  list.replaceChildren(
    ...state.objects.map((object) => {
      const { id, name, colour } = object;
      const hidden = state.hidden.has(id);
      const swatch = make("input", {
        class: "swatch",
        type: "color",
        value: colour,
        "aria-label": `Colour of ${name}`,
        "data-tip": "Colour",
        onchange: (event) => act.changeObject(id, { colour: event.target.value }),
      });
      const field = make("input", {
        class: "name",
        value: name,
        maxlength: 120,
        "aria-label": `Name of object ${id}`,
        "data-tip": "Click to choose, click again to rename",
        spellcheck: "false",
        onmousedown: (event) => {
          if (state.active !== id) event.preventDefault();
        },
        onkeydown: (event) => {
          if (event.key === "Escape") field.value = name;
          if (event.key === "Enter" || event.key === "Escape") field.blur();
          event.stopPropagation();
        },
        onblur: () => {
          if (field.value !== name) act.changeObject(id, { name: field.value });
        },
      });
      const button = (pressed, tip, key, image, run) =>
        make(
          "button",
          {
            class: pressed || image === "hidden" ? "" : "faint",
            "aria-pressed": pressed,
            "aria-label": `${tip}: ${name}`,
            "data-tip": tip,
            "data-key": id === state.active ? key : null,
            onclick: (event) => {
              event.stopPropagation();
              run();
            },
          },
          icon(image),
        );
      const locked = object.protected;
      return make(
        "li",
        { class: id === state.active ? "object active" : "object", onclick: () => act.choose(id), "data-object": id },
        swatch,
        field,
        button(false, hidden ? "Show" : "Hide", "", hidden ? "hidden" : "eye", () => act.hide(id)),
        button(
          locked,
          locked ? "Unlock" : "Lock: other objects leave its voxels alone",
          "K",
          locked ? "lock" : "unlocked",
          () => act.changeObject(id, { protected: !locked }),
        ),
        button(false, "Remove", "Delete", "trash", () => act.removeObject(id)),
      );
    }),
  );
  list.querySelector(".active")?.scrollIntoView({ block: "nearest" });
}

const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** A prompt in words. */
function described({ points, box, mask }) {
  const parts = [];
  if (mask) parts.push("outline");
  if (box) parts.push("box");
  const inside = points.filter(([, , label]) => label).length;
  if (inside) parts.push(many(inside, "point"));
  if (points.length > inside) parts.push(`${points.length - inside} excluded`);
  return parts.join(", ");
}

function drawPrompts() {
  const prompts = activeObject()?.prompts ?? [];
  const rows = prompts.map((prompt) => {
    const view = state.image.views[prompt.axis];
    const here = state.cursor[prompt.axis] === prompt.index && state.main === prompt.axis;
    return make(
      "li",
      {},
      make(
        "button",
        { class: here ? "here" : "", onclick: () => act.goTo(prompt.axis, prompt.index) },
        make("span", {}, `${capital(view.name)} ${prompt.index}`),
        make("span", { class: "what" }, described(prompt)),
      ),
    );
  });
  const none = make("li", { class: "muted" }, "None yet for this object.");
  find("prompts").replaceChildren(...(rows.length ? rows : [none]));
}

function drawRange() {
  const axis = state.range?.axis ?? promptedAxis();
  const top = state.image.shape[axis] - 1;
  const { name } = state.image.views[axis];
  find("range-axis").textContent = state.image.video ? "Frames" : `${capital(name)} slices`;
  find("through").textContent = state.image.video ? "Through the video" : "Through the volume";
  for (const [id, value] of [
    ["first", state.range?.first ?? 0],
    ["last", state.range?.last ?? top],
  ]) {
    find(id).max = top;
    if (document.activeElement !== find(id)) find(id).value = value;
  }
  find("all-slices").style.visibility = state.range ? "visible" : "hidden";
  find("scope-one").setAttribute("aria-checked", !scopeAll);
  find("scope-all").setAttribute("aria-checked", scopeAll);
}

function drawProgress() {
  const { running, done = 0, total = 0 } = state.progress;
  find("done").disabled = find("nothing").disabled = running; // what is half propagated is no result
  const button = find("propagate");
  const able = running || canPropagate();
  button.disabled = !able;
  button.classList.toggle("primary", !running);
  button.replaceChildren(icon(running ? "stop" : "play"), running ? "Stop" : "Propagate");
  button.dataset.key = running ? "Esc" : "Enter";
  button.dataset.tip = running
    ? "Stop; what is done stays"
    : `${able ? "Segment" : "After a prompt: segment"} the other ${unit()}s from those with prompts`;
  const ended = !running && total > 0 && activeObject()?.propagated;
  find("progress").hidden = !running && !ended;
  find("progress").classList.toggle("ended", ended);
  find("progress-done").style.width = total ? `${(100 * done) / total}%` : "0";
  find("progress-done").setAttribute("aria-valuenow", total ? Math.round((100 * done) / total) : 0);
  find("progress-text").textContent = ended
    ? `${done === total ? "Done" : "Stopped"}: ${done} of ${total} ${unit()}s`
    : total
      ? `${done} of ${total} ${unit()}s`
      : "Starting";
}
