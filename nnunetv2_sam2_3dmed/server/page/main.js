// The page: what the user does, sent to the server, and its answers shown.

import * as api from "./api.js";
import { drawBars, fillPresets, setUpTheme } from "./bars.js";
import { putIcons } from "./icons.js";
import { keepSoon, keptOf } from "./kept.js";
import { fillHelp, setUpKeys } from "./keys.js";
import { moves } from "./moves.js";
import { canReopen, onDropped, open, reopen, sendFiles, setUpOpener, showOpener } from "./opener.js";
import { canPropagate, drawPanel, setEnd, setUpPanel, wantedPropagation } from "./panel.js";
import { drawPlayer, setUpPlayer, togglePlaying } from "./player.js";
import { beginCase, finished, hasChanged, hasRound, setUpRound, showFinished, written } from "./round.js";
import { activeObject, state, subscribe, tell, unit, update } from "./store.js";
import { Tools, signed } from "./tools.js";
import { Views } from "./views.js";
import { download, find, menu, say, showTips } from "./widgets.js";

const HEARTBEAT_MS = 20000;
const PROGRESS_MS = 250;
const LONGEST_PAUSE_MS = 8000; // between attempts to reach a server that does not answer
const UNREACHED = [0, 502, 503, 504]; // no answer, or a proxy's

// ---- requests

/**
 * Send a request when those before are answered, and show its answer; the user is told if it fails. What was asked of
 * an image that another one has taken the place of is not sent.
 */
function ask(request) {
  const { image } = state;
  update({ busy: state.busy + 1 });
  return api.inTurn(async () => {
    try {
      if (state.image !== image) return null;
      const answered = await request();
      if (answered?.state) take(answered.state);
      return answered;
    } catch (error) {
      failed(error);
      return null;
    } finally {
      update({ busy: state.busy - 1 });
    }
  });
}

let lost = null; // the message that the place on the server is lost

function failed(error) {
  if (error.status === 410 && state.image) {
    if (lost?.isConnected) return;
    const again = canReopen()
      ? { label: "Open again", run: restore }
      : { label: "Open an image", run: () => showOpener(false) };
    lost = say(error.message, { error: true, action: again });
    return;
  }
  say(error.message, { error: true });
}

/** Take the server's description of the objects. */
function take({ objects, propagation, version, can_undo: canUndo, can_redo: canRedo }) {
  const ids = objects.map(({ id }) => id);
  const active = ids.includes(state.active) ? state.active : (ids[ids.length - 1] ?? 1);
  update({ objects, active, canUndo, canRedo, progress: propagation });
  show(version);
  keepSoon();
}

/** Show the labels of a version. */
function show(version) {
  if (!views.slices || views.slices.version === version) return;
  views.slices.version = version;
  update({ labels: null, unsaved: true });
}

/** Open the image again with the prompts of before. */
async function restore() {
  const prompts = keptOf(state.image);
  api.forgetPlace();
  if ((await reopen()) && prompts) await load({ name: "prompts.json", file: prompts });
}

// ---- the image

const SAVED = "sam2_3dmed_saved"; // version of the labels that are saved; it outlives a reload

/** Note which version of the labels was saved; there may be a newer one by now. */
function saved(version = views.slices.version) {
  sessionStorage.setItem(SAVED, version);
  update({ unsaved: version !== views.slices.version });
}

function opened({ image, state: described }) {
  lost?.remove();
  lost = null;
  views.open(image);
  const middle = image.shape.map((length) => Math.floor((length - 1) / 2));
  const isVideo = Boolean(image.video);
  if (isVideo !== Boolean(state.image?.video)) update({ crosshair: !isVideo });
  const ids = described.objects.map(({ id }) => id);
  update({
    image,
    cursor: isVideo ? [0, middle[1], middle[2]] : middle,
    window: image.window,
    hidden: new Set(),
    range: null,
    active: ids[0] ?? 1,
    quality: null,
    note: null,
    playing: false,
    progress: described.propagation,
  });
  fillPresets(image);
  find("image-name").textContent = image.name;
  const [z, y, x] = image.shape;
  find("image-size").textContent = isVideo ? `${x} × ${y}, ${z} frames` : `${x} × ${y} × ${z}`;
  document.title = `${image.name}: SAM2-3dMed`;
  for (const button of document.querySelectorAll("[data-save='.dcm']")) button.disabled = !image.dicom;
  take(described);
  for (const note of image.notes) say(note);
  const first = beginCase(image.round);
  if (first) update({ active: first.id });
  const latest = described.objects.flatMap(({ prompts }) => prompts)[0];
  if (latest) actions.goTo(latest.axis, latest.index);
  else if (first) actions.goTo(first.axis, first.index);
  views.current.canvas.focus();
  watch();
}

async function openFiles(files) {
  const only = files.length === 1 ? files[0] : null;
  if (only?.name.toLowerCase().endsWith(".json")) await load(only);
  else await open({ files });
}

async function load({ name, file }) {
  if (!state.image) {
    say("Open the image first, then its prompts.", { error: true });
    return;
  }
  const answer = await ask(async () => {
    const { batch, names } = await sendFiles([{ name, file }]);
    const sent = { batch, name: names[0] };
    return name.toLowerCase().endsWith(".json") ? api.loadPrompts(sent) : api.loadSegmentation(sent);
  });
  for (const note of answer?.notes ?? []) say(note);
}

// ---- the propagation

let watching = false;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Ask until the server answers, ever more rarely: what runs there does not end with the connection. */
async function untilAnswered(request) {
  let message = null;
  for (let wait = 2 * PROGRESS_MS; ; wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
    try {
      const answer = await request();
      message?.remove();
      return answer;
    } catch (error) {
      if (!UNREACHED.includes(error.status)) throw error;
      message = say(error.message, { error: true }); // instead of the one before, which may have gone
    }
    await pause(wait);
  }
}

/** Show the slices of a running propagation as they come. */
async function watch() {
  if (watching) return;
  watching = true;
  try {
    while (state.progress.running) {
      const { image } = state;
      await pause(PROGRESS_MS);
      const progress = await untilAnswered(api.progress);
      if (state.image !== image) continue; // of the one before
      show(progress.version);
      const ended = state.progress.running && !progress.running;
      update({ progress });
      if (progress.error) say(progress.error, { error: true });
      if (!ended) continue;
      const described = await untilAnswered(api.describe);
      if (state.image === image) take(described.state);
    }
  } catch (error) {
    update({ progress: { running: false } });
    failed(error);
  } finally {
    watching = false;
  }
}

// ---- actions, of buttons and keys

let finishing = false; // a round's case is being written, and the next one opened
let coming = null; // the number of the object that is being added, as a promise; prompts drawn now are for it

const actions = {
  tool(tool) {
    tools.cancel();
    update({ tool });
  },
  sign() {
    if (signed(state.tool)) update({ label: 1 - state.label });
  },
  open: () => showOpener(state.image !== null),
  help: () => find("help-dialog").showModal(),
  undo: () => step(api.undo, "Taken back"),
  redo: () => step(api.redo, "Done again"),
  space: ({ shiftKey }) => (state.image?.video && !shiftKey ? togglePlaying() : actions.press()),
  masks: () => update({ masks: !state.masks }),
  crosshair: () => update({ crosshair: !state.crosshair }),
  allSlices: () => update({ range: null }),
  setEnd: ({ key }) => state.image && setEnd(key === "[" ? "first" : "last"),

  choose(id) {
    tools.cancel();
    coming = null;
    update({ active: id });
  },
  async addObject() {
    if (!state.image) return;
    const added = ask(() => api.addObject()).then((answer) => answer?.object ?? null);
    coming = added;
    const id = await added;
    if (coming !== added) return; // another one was chosen meanwhile
    coming = null;
    if (id !== null) update({ active: id });
  },
  nextObject() {
    const ids = state.objects.map(({ id }) => id);
    if (ids.length) actions.choose(ids[(ids.indexOf(state.active) + 1) % ids.length]);
  },
  hide(id) {
    const hidden = new Set(state.hidden);
    if (!hidden.delete(id)) hidden.add(id);
    update({ hidden });
  },
  lock: () => activeObject() && actions.changeObject(state.active, { protected: !activeObject().protected }),
  changeObject: (id, change) => ask(() => api.changeObject(id, change)),
  removeActive: () => activeObject() && actions.removeObject(state.active),
  removeObject: (id) => ask(() => api.removeObject(id)),

  async propagate() {
    if (!state.image) return;
    if (!state.busy && !canPropagate()) {
      tell(`Nothing to propagate yet: first prompt the object on a ${unit()}.`);
      return;
    }
    const progress = await ask(() => api.propagate(wantedPropagation()));
    if (!progress) return;
    update({ progress, note: null });
    watch();
  },
  stop: () => ask(api.stop),

  /** Write what was made of a round's case, and open the next one. */
  async done({ empty = false } = {}) {
    if (!state.image?.round || finishing) return;
    if (state.progress.running) {
      say("The masks are still being propagated: wait for the end, or stop it.", { error: true });
      return;
    }
    finishing = true;
    try {
      tools.cancel();
      // a number or a name that is being typed is taken, and a button does not get the key once more
      const { activeElement } = document;
      if (activeElement?.matches("input, button")) activeElement.blur();
      const { case: named, stage } = state.image.round;
      const answer = await ask(() => api.finishCase({ case: named, stage, ...finished(), empty }));
      if (!answer) return;
      saved();
      written();
      await open({ round: null });
    } finally {
      finishing = false;
    }
  },
  enter: () => tools.finish() || (!state.progress.running && !isOutline() && actions.propagate()),
  escape: () => tools.cancel() || (state.progress.running && actions.stop()),

  async save(ending) {
    if (!state.image) return;
    const usual = state.image.video ? ".zip" : ".nii.gz";
    const what = typeof ending === "string" ? ending : usual; // an event, from the keyboard
    update({ saving: true });
    let held = [];
    let version;
    const file = await ask(() => {
      // what was asked for before is answered now
      held = state.objects.filter((one) => (what === "prompts" ? one.prompts.length : one.started));
      if (!held.length) throw Error(`No object has a ${what === "prompts" ? "prompt" : "mask"} yet: nothing was saved.`);
      ({ version } = views.slices);
      return what === "prompts" ? api.prompts() : api.segmentation(what);
    });
    update({ saving: false });
    if (!file) return;
    download(file);
    if (what !== "prompts") saved(version);
    const labels = what === "prompts" ? "" : `: ${held.map(({ id, name }) => `${id} ${name}`).join(", ")}`;
    tell(`Saved as ${file.name}${labels}`);
  },
};

/** Take a step back, or do it again, and say of which objects. */
async function step(request, what) {
  const answer = state.image && (await ask(request));
  if (!answer) return;
  update({ quality: null }); // of a mask that is gone, or another one
  const names = answer.changed;
  tell(`${what}: the latest step of ${names.length > 3 ? `${names.length} objects` : names.join(" and ")}.`);
}

/** Whether 2D masks of a round are revised, which are propagated later. */
const isOutline = () => state.image?.round?.stage === "outline";

async function prompt({ axis, index }, kind, label, points) {
  const object = coming ?? state.active;
  const answer = await ask(async () => {
    const id = await object;
    return id === null ? null : api.addPrompt({ kind, object: id, axis, index, label, points });
  });
  if (answer) update({ quality: { value: answer.quality, object: await object, axis, index }, note: null });
}

const tools = new Tools(prompt);
const views = new Views(tools, failed);
Object.assign(actions, moves(tools, views));

// ---- the beginning

function askForKey(again) {
  const dialog = find("key-dialog");
  find("key-text").textContent = again ? "That key does not fit." : "Whoever started it has it.";
  find("key").value = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "given" ? find("key").value.trim() : null), {
      once: true,
    });
  });
}

function setUp() {
  putIcons(document);
  setUpTheme();
  showTips();
  fillHelp();
  menu(find("save"));
  const then = (described) => {
    opened(described);
    saved();
    update({ unsaved: hasChanged() });
  };
  setUpOpener(then, showFinished);
  setUpRound(actions);
  setUpPanel(actions);
  setUpKeys(actions);
  onDropped(openFiles);
  api.onKeyWanted(askForKey);
  setUpPlayer(views);
  subscribe(drawPanel);
  subscribe(drawPlayer);
  subscribe((changed) => drawBars(changed, views));
  for (const name of ["open", "undo", "redo", "help", "masks", "crosshair"]) {
    find(name).addEventListener("click", () => actions[name]());
  }
  find("fit").addEventListener("click", () => actions.zoom({ key: "0" }));
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => actions.tool(button.dataset.tool));
  }
  for (const button of document.querySelectorAll("[data-label]")) {
    button.addEventListener("click", () => update({ label: Number(button.dataset.label) }));
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => actions.save(button.dataset.save));
  }
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  find("preset").addEventListener("change", (event) => {
    const [level, width] = event.target.value.split(",").map(Number);
    update({ window: [level - width / 2, level + width / 2] });
    event.target.blur();
  });
  find("load").addEventListener("click", () => find("load-input").click());
  find("load-input").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) load({ name: file.name, file });
  });
  // after a click on a button, keys are for the plane again
  document.addEventListener("click", (event) => {
    if (event.detail && event.target.closest(".bar button, .tools button, .panel button") && state.image) {
      if (!document.querySelector("dialog[open], .menu-list:not([hidden])")) views.current.canvas.focus();
    }
  });
  addEventListener("beforeunload", (event) => state.unsaved && event.preventDefault());
  setInterval(beat, HEARTBEAT_MS);
  update({ tool: state.tool });
}

/** Keep the place, also while a first image is sent or a series is chosen. */
async function beat() {
  if (!api.hasPlace() || lost) return;
  try {
    await api.heartbeat();
  } catch (error) {
    if (error.status === 410 && !state.image) api.forgetPlace(); // nothing was in it
    else failed(error);
  }
}

async function begin() {
  setUp();
  let inRound = false;
  try {
    inRound = await hasRound();
  } catch (error) {
    failed(error);
  }
  if (api.hasPlace()) {
    try {
      const described = await api.describe(); // after a reload
      if (described.image) {
        opened(described);
        update({ unsaved: hasChanged() || views.slices.version !== Number(sessionStorage.getItem(SAVED)) });
        return;
      }
    } catch (error) {
      if (error.status !== 410) failed(error);
      api.forgetPlace();
    }
  }
  if (!inRound || !(await open({ round: null }))) showOpener(false);
}

begin();
