// Opening an image: dropped, chosen, or from the folder on the server.

import * as api from "./api.js";
import { icon } from "./icons.js";
import { state } from "./store.js";
import { find, make, megabytes, say } from "./widgets.js";

const AT_ONCE = 4; // uploads
let opened = () => {};
let finished = () => {};
let latest = null; // {files}, {path} or {round}, and {series} if it was chosen, to be opened again after the server was restarted
let images = [];

/**
 * @param then called with the server's description of an image that has been opened
 * @param none called if no case of a round is left
 */
export function setUpOpener(then, none) {
  opened = then;
  finished = none;
  const dialog = find("opener");
  find("choose-file").addEventListener("click", () => find("file-input").click());
  find("choose-folder").addEventListener("click", () => find("folder-input").click());
  for (const id of ["file-input", "folder-input"]) {
    find(id).addEventListener("change", (event) => {
      const files = [...event.target.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
      event.target.value = "";
      if (files.length) open({ files });
    });
  }
  find("opener-close").addEventListener("click", () => dialog.close());
  find("served-filter").addEventListener("input", listServed);
  // an image has to be opened first: nothing is behind the dialog
  dialog.addEventListener("cancel", (event) => find("opener-close").hidden && event.preventDefault());
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    find("drop").classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    const files = await filesOf(event.dataTransfer);
    if (files.length) dropped(files);
  });
}

let dropped = (files) => open({ files });

/** Set what is done with files dropped on the page, [{name, file}]; default: they are opened as an image. */
export function onDropped(then) {
  dropped = then;
}

/** Files that were dropped, with those in dropped folders. */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push({ name: entry.fullPath.slice(1), file });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) return;
      for (const inner of part) await walk(inner);
    }
  };
  for (const entry of entries) await walk(entry);
  if (!entries.length) found.push(...[...transfer.files].map((file) => ({ name: file.name, file })));
  return found.filter(({ name }) => !name.split("/").pop().startsWith("."));
}

export async function showOpener(canClose) {
  find("opener-close").hidden = !canClose;
  if (!find("opener").open) find("opener").showModal();
  try {
    const [listed, { round }] = await Promise.all([api.folder(), api.round()]);
    images = listed.images;
    find("served-more").hidden = listed.complete;
    listCases(round?.cases ?? []);
  } catch (error) {
    say(error.message, { error: true });
  }
  find("served").hidden = images.length === 0;
  listServed();
}

/** List the cases of a round, of which the next one may not be readable. */
function listCases(cases) {
  const rows = cases.map(({ case: name, done, taken }) => {
    const said = done ? "done" : taken ? "open elsewhere" : "";
    const properties = { onclick: () => open({ round: name }), disabled: taken && "" };
    return make("li", {}, make("button", properties, icon("file"), make("span", {}, name), make("span", { class: "muted" }, said)));
  });
  find("round-cases").hidden = rows.length === 0;
  find("round-cases-list").replaceChildren(...rows);
}

function listServed() {
  const filter = find("served-filter").value.toLowerCase();
  const rows = images
    .filter(({ path }) => path.toLowerCase().includes(filter))
    .slice(0, 200)
    .map(({ path, kind, bytes }) =>
      make(
        "li",
        {},
        make(
          "button",
          { onclick: () => open({ path }) },
          icon(kind === "dicom" ? "folder" : "file"),
          make("span", {}, path),
          make("span", { class: "muted" }, megabytes(bytes)),
        ),
      ),
    );
  find("served-list").replaceChildren(...rows);
}

/** Send files to the server, all or none; returns their batch and the names that it gave them. */
export async function sendFiles(files, progress = () => {}) {
  if (!api.hasPlace()) await api.claim();
  const { batch } = await api.beginFiles();
  const names = [];
  const left = files.values(); // shared by the lanes
  const lanes = new AbortController();
  const lane = async () => {
    for (const { name, file } of left) {
      names.push((await api.sendFile(batch, name, file, lanes.signal)).name);
      progress(names.length);
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
  } catch (error) {
    lanes.abort();
    throw error;
  }
  return { batch, names };
}

const lossless = () =>
  !state.unsaved || confirm("The masks are not saved. Open another image and drop them?");

/**
 * Open {files}, {path} or {round: case, or null for the next one}, unless the user keeps the image before; what fails is
 * told. Returns whether something was opened.
 */
export async function open(source) {
  return lossless() && (await openNow(source));
}

/** Returns false if that failed. */
async function openNow(source) {
  const busy = find("opening");
  const buttons = find("opener").querySelectorAll("button, select, input");
  const tell = (text) => (busy.firstChild.textContent = text);
  tell("Waiting for the answer to what was asked before");
  if (!find("opener").open) find("opener").showModal();
  busy.hidden = false;
  for (const button of buttons) button.disabled = true;
  try {
    // what was asked of the image before is answered first: it would be shown with this one
    const done = await api.inTurn(() => request(source, tell));
    if (done) find("opener").close();
    return done;
  } catch (error) {
    if (error.status === 410) api.forgetPlace();
    say(error.message, { error: true });
    return false;
  } finally {
    busy.hidden = true;
    for (const button of buttons) button.disabled = false;
  }
}

/** Returns false if the user chooses none of several series. */
async function request(source, tell) {
  tell("Opening");
  await place();
  if ("round" in source) {
    const answer = await api.openCase(source.round);
    for (const note of answer.notes) say(note, { error: true });
    if (answer.finished) finished(answer.finished);
    else {
      latest = { round: answer.image.round.case };
      opened(answer);
    }
    return true;
  }
  const asked = { window: find("model-window").value };
  if (source.path) asked.path = source.path;
  else {
    const { length } = source.files;
    tell(length > 1 ? `Sending ${length} files` : `Sending ${source.files[0].name}`);
    const progress = (done) => length > 1 && tell(`Sending ${done} of ${length} files`);
    const { batch } = await sendFiles(source.files, progress);
    Object.assign(asked, { batch, name: nameOf(source.files) });
  }
  tell("Reading the image");
  let answer = await api.openImage(asked);
  const several = answer.series;
  let series = several && alike(several, source.series);
  let problem = "The folder holds several.";
  while (answer.series) {
    series ??= await chooseSeries(several, problem);
    if (!series) {
      if (asked.batch) await api.dropFiles(asked.batch);
      return false;
    }
    try {
      answer = await api.openImage({ ...asked, series: series.id });
    } catch (error) {
      if (error.status !== 400) throw error;
      [series, problem] = [null, error.message];
    }
  }
  latest = { ...source, series };
  opened(answer);
  return true;
}

const titleOf = ({ number, description }) => [number, description || "no description"].filter(Boolean).join(": ");
const sizeOf = ({ modality, images, rows, columns }) =>
  [modality, `${images} × ${rows} × ${columns}`].filter(Boolean).join(", ");

/** The series that was chosen before, whose identifier is another if the files were sent again; else null. */
function alike(several, before) {
  const found = several.filter((one) => before && titleOf(one) === titleOf(before) && sizeOf(one) === sizeOf(before));
  return found.length === 1 ? found[0] : null;
}

/** Let the user choose among several series of a folder; null if none is. */
function chooseSeries(several, text) {
  const dialog = find("series-dialog");
  find("series-text").textContent = text;
  return new Promise((done) => {
    const row = (series) => {
      const choose = () => {
        done(series);
        dialog.close();
      };
      const [title, size] = [make("span", {}, titleOf(series)), make("span", { class: "muted" }, sizeOf(series))];
      return make("li", {}, make("button", { onclick: choose }, icon("folder"), title, size));
    };
    find("series-list").replaceChildren(...several.map(row));
    dialog.addEventListener("close", () => done(null), { once: true });
    dialog.showModal();
  });
}

/** The name of a file, or of the folder that all files lie in. */
function nameOf(files) {
  const parts = files[0].name.split("/");
  return (files.length > 1 ? parts[0] : parts[parts.length - 1]).slice(0, 200);
}

/** Have a place on the server, a new one if the one before is gone. */
async function place() {
  if (api.hasPlace()) {
    try {
      await api.heartbeat();
      return;
    } catch (error) {
      if (error.status !== 410) throw error;
    }
  }
  await api.claim();
}

export const canReopen = () => latest !== null;
export const reopen = () => openNow(latest);
