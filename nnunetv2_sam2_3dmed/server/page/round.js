// A round's queue: the case that is open, its stage, first and last slice of each object, and the person's time.
// In the first stage the slices are written with the case; in the second they bound the propagation.

import * as api from "./api.js";
import { open } from "./opener.js";
import { state, subscribe, update } from "./store.js";
import { find, make, say } from "./widgets.js";

const PAUSE_MS = 60000; // without the mouse and the keyboard, from which on it does not count as work
const KEPT = "sam2_3dmed_case "; // and the case; outlives a reload
const ACTIVITY = ["pointermove", "pointerdown", "keydown", "wheel"];

let act = {};
let extents = new Map(); // object -> {axis, first, last}, or null for any slice
let edited = null; // object whose extent the panel shows
let seconds = {}; // by object, of the case that is open
let sitting = 0; // number of those seconds, so that the server counts them once if they are sent again
let changed = false; // the extents, since they were written
let asked = false; // whether the user knows of objects without an extent, in the case that is open
let latest = null; // time of the latest activity in ms
let working = null; // name of the case whose time is counted and whose extents are kept

/** @param actions see main.js */
export function setUpRound(actions) {
  act = actions;
  find("done").addEventListener("click", () => act.done());
  find("nothing").addEventListener("click", () => {
    if (!confirm("Write that there is no object in this image? Outlines are dropped.")) return;
    asked = true;
    act.done({ empty: true });
  });
  find("case").addEventListener("change", async (event) => {
    const { value } = event.target;
    event.target.blur();
    if (!(await open({ round: value }))) list(); // the case that is open is named again
  });
  find("look-again").addEventListener("click", () => {
    find("finished-dialog").close();
    open({ round: null });
  });
  find("to-round").addEventListener("click", () => open({ round: null }));
  for (const name of ACTIVITY) document.addEventListener(name, work, { capture: true, passive: true });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) work();
    latest = document.hidden ? null : performance.now();
    keep();
  });
  addEventListener("pagehide", keep);
  subscribe(drawRound);
}

/** Whether the server was started with a round. */
export async function hasRound() {
  const { round } = await api.round();
  find("to-round").hidden = !round;
  return Boolean(round);
}

/** Count the time since the latest activity for the active object, unless it was a pause. */
function work() {
  const now = performance.now();
  const since = latest === null ? Infinity : now - latest;
  latest = now;
  if (!state.image?.round || since > PAUSE_MS) return;
  seconds[state.active] = (seconds[state.active] ?? 0) + since / 1000;
}

const caseOf = ({ id, case: named, stage }) => `${id}/${named}/${stage}`;

function keep() {
  takeRange();
  store();
}

function store() {
  if (!working) return;
  sessionStorage.setItem(KEPT + working, JSON.stringify({ seconds, sitting, extents: changed ? [...extents] : null }));
}

/** Take the range in the panel as first and last slice of the object that it is shown for. */
function takeRange() {
  if (edited === null || !state.image?.round) return;
  const { range } = state;
  if (JSON.stringify(range) === JSON.stringify(extents.get(edited) ?? null)) return;
  extents.set(edited, range);
  if (state.image.round.stage !== "outline") return;
  changed = true;
  update({ unsaved: true });
}

/** First and last slice of each object of the case that has them, by its number. */
export function ownRanges() {
  takeRange();
  return Object.fromEntries([...extents].filter(([, extent]) => extent));
}

/** Whether first and last slices are not written yet. */
export const hasChanged = () => changed;

/** Begin a case that was opened; null for another image. Returns the object, axis and slice to show first. */
export function beginCase(round) {
  find("round").hidden = !round;
  document.body.dataset.stage = round?.stage ?? "";
  find("add-object").hidden = Boolean(round);
  store(); // of the case before; the panel's range is this one's already
  extents = new Map();
  edited = null;
  changed = asked = false;
  working = round ? caseOf(round) : null;
  if (!round) return null;
  latest = performance.now();
  const kept = JSON.parse(sessionStorage.getItem(KEPT + working) ?? "{}");
  sit(kept);
  changed = Boolean(kept.extents);
  for (const [id, { axis, first, last }] of Object.entries(round.extents)) {
    extents.set(Number(id), { axis, first, last }); // in the order of a range in the panel, with which it is compared
  }
  if (kept.extents) extents = new Map(kept.extents);
  list();
  const [{ id, slice }] = round.objects;
  const axis = round.axis ?? state.image.learned_axis;
  return { id, axis, index: slice ?? state.cursor[axis] };
}

/** Begin a sitting, or go on with one that was kept. */
function sit(kept = {}) {
  seconds = kept.seconds ?? {};
  sitting = kept.sitting ?? Math.max(Date.now(), sitting + 1);
}

/** Show all cases and which of them are done. */
async function list() {
  try {
    const { round } = await api.round();
    if (!round || !state.image?.round) return;
    const named = state.image.round.case;
    const optionOf = ({ case: name, done, taken }) => {
      const option = new Option(done ? `${name} (done)` : taken ? `${name} (open elsewhere)` : name, name);
      option.disabled = taken;
      option.selected = name === named;
      return option;
    };
    const chosen = round.cases.filter((one) => one.chosen);
    const others = round.cases.filter((one) => !one.chosen);
    const label = `${others.length} of the same patients, left out`;
    find("case").replaceChildren(
      ...chosen.map(optionOf),
      ...(others.length ? [make("optgroup", { label }, ...others.map(optionOf))] : []),
    );
    const place = chosen.findIndex((one) => one.case === named) + 1;
    const more = others.length ? `, ${others.length} left out` : "";
    find("case-count").textContent = place ? `${place} of ${chosen.length}${more}` : "that is left out";
  } catch (error) {
    say(error.message, { error: true });
  }
}

/**
 * What is sent with a case that is done.
 *
 * @throws {Error} once for a case, if the model would go through the whole volume for an object
 */
export function finished() {
  work();
  const named = Object.entries(ownRanges());
  checkExtents();
  const ids = new Set(state.objects.map(({ id }) => id));
  return {
    seconds: Object.fromEntries(Object.entries(seconds).filter(([id]) => ids.has(Number(id)))),
    sitting,
    extents: Object.fromEntries(named.map(([id, { first, last }]) => [id, [first, last]])),
  };
}

function checkExtents() {
  if (asked || state.image.round.stage !== "outline") return;
  const open = state.objects.filter(({ id, started }) => started && !extents.get(id));
  if (!open.length) return;
  asked = true;
  const names = open.map(({ name }) => name).join(", ");
  throw Error(
    `first and last slice of ${names} are not named, so that the model goes through the whole volume: ` +
      "name them, or press Done again to go on.",
  );
}

/** The case was written: until another one is open, or none is left, no time is kept. */
export function written() {
  sessionStorage.removeItem(KEPT + working);
  working = null;
  sit();
  changed = false;
}

function drawRound(drawn) {
  const round = state.image?.round;
  if (!round) return;
  takeRange();
  if (edited !== state.active) {
    edited = state.active;
    update({ range: extents.get(edited) ?? null });
  }
  // slices along an axis of which the object has no prompt would keep it from being propagated
  const prompts = state.objects.find(({ id }) => id === edited)?.prompts ?? [];
  const { range } = state;
  if (round.stage === "volume" && range && prompts.length && !prompts.some(({ axis }) => axis === range.axis)) {
    update({ range: null });
  }
  if (!drawn.has("image") && !drawn.has("active") && !drawn.has("objects")) return;
  const what =
    round.stage === "outline"
      ? "Revise the outline of each object on its slice, and name its first and last slice below."
      : "Revise the masks of the whole volume.";
  find("round-name").textContent = round.name;
  find("round-what").textContent = what;
  const name = state.objects.find(({ id }) => id === state.active)?.name ?? "";
  find("ends-of").textContent = `First and last slice of ${name}`;
}

/** No case is left for this page: tell what comes next. */
export function showFinished({ name, command, elsewhere, others }) {
  if (state.image?.round && !working) {
    working = caseOf(state.image.round); // it is still open, and may be corrected
    sit();
    list();
  }
  const cases = others ? `The chosen cases of ${name} (${others} of the same patients are left out)` : `The cases of ${name}`;
  const text = elsewhere.length
    ? `${cases} are done, but for those open in another page: ${elsewhere.join(", ")}. Look again later.`
    : `${cases} are done. ${command ? "Go on with" : "None of them has an object."}`;
  find("finished-text").textContent = text;
  find("finished-command").hidden = !command;
  find("finished-command").textContent = command ?? "";
  const grouped = command?.includes(" --group-by ");
  const notes = {
    rank: `${grouped ? "" : "Add --group-by to choose one case of each patient. "}Then look again here, for the volumes.`,
    take: "Add --annotator and your name for the record. With --partial, labels that had no prompt count as absent.",
  };
  find("finished-note").textContent = command ? notes[command.split(" ")[2]] : "";
  find("finished-dialog").showModal();
}

