// The keyboard: what each key does, and the list of them that the help shows.

import { find, make } from "./widgets.js";

/** Keys by group: [shown, what it does in words, tests of the event, name of the action, arguments]. */
export const KEYS = {
  "Draw": [
    ["B", "Box tool", "b", "tool", "box"],
    ["P", "Point tool", "p", "tool", "point"],
    ["S", "Scribble tool", "s", "tool", "scribble"],
    ["L", "Lasso tool", "l", "tool", "lasso"],
    ["X", "Include or exclude", "x", "sign"],
    ["Space", "Point or corner at the cursor; video: play", " ", "space"],
    ["Shift+Space", "Point or corner in a video", "", ""],
    ["Enter", "Finish the line; else propagate", "Enter", "enter"],
    ["Esc", "Stop, or forget the drawing", "Escape", "escape"],
    ["Ctrl+Z", "Undo", "ctrl+z", "undo"],
    ["Ctrl+Y", "Redo", "ctrl+y", "redo"],
    ["", "", "ctrl+shift+z", "redo"],
  ],
  "Look": [
    ["Arrows", "Move the cursor; Shift: by ten", "Arrow", "arrow"],
    ["PgUp PgDn", "Next slice or frame; Shift: by ten", "Page", "page"],
    ["Home End", "First and last one", "ends", "ends"],
    [", .", "Slice with prompts before, after", "prompted", "prompted"],
    ["1 2 3", "Large plane: axial, coronal, sagittal", "planes", "plane"],
    ["4", "Large surface", "4", "surface"],
    ["V", "Look: drag moves the cursor", "v", "tool", "navigate"],
    ["W", "Window: drag for brightness and contrast", "w", "tool", "window"],
    ["+ \u2212 0", "Zoom, whole slice", "zoom", "zoom"],
    ["H", "Show or hide masks", "h", "masks"],
    ["C", "Show or hide the cursor", "c", "crosshair"],
  ],
  "Objects and files": [
    ["N", "New object", "n", "addObject"],
    ["J", "Next object", "j", "nextObject"],
    ["K", "Lock or unlock the object", "k", "lock"],
    ["Delete", "Remove the object", "Delete", "removeActive"],
    ["[ ]", "First, last slice to propagate to", "range", "setEnd"],
    ["\\", "All slices", "\\", "allSlices"],
    ["Ctrl+Enter", "Round: done, next case", "ctrl+enter", "done"],
    ["Ctrl+O", "Open", "ctrl+o", "open"],
    ["Ctrl+S", "Save as NIfTI; video: PNG masks", "ctrl+s", "save"],
    ["?", "This list", "?", "help"],
  ],
};
const MOUSE = [
  ["Left", "Draw with the tool"],
  ["Right", "Exclude; zoom with the looking tool"],
  ["Wheel", "Slices; Ctrl: zoom"],
  ["Middle", "Move the slice; or Shift and left"],
];

const SPECIAL = {
  Arrow: /^Arrow/,
  Page: /^Page(Up|Down)$/,
  ends: /^(Home|End)$/,
  prompted: /^[,.]$/,
  planes: /^[123]$/,
  zoom: /^[-+=0]$/,
  range: /^[[\]]$/,
};

/** @param actions by name; each gets the event, or the arguments of its row */
export function setUpKeys(actions) {
  const rows = Object.values(KEYS).flat();
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (document.querySelector("dialog[open]")) return;
    const typing = target.matches("input:not([type=color]), select, textarea");
    const control = (event.ctrlKey || event.metaKey) && !event.altKey;
    const slides = target.type === "range" && key === " ";
    if (typing && !control && !slides) return;
    // a button in focus takes these itself
    if ((key === " " || key === "Enter") && target.closest("button")) return;
    if (event.altKey) return;
    const name = control ? `ctrl+${event.shiftKey ? "shift+" : ""}${key.toLowerCase()}` : key.length > 1 ? key : key.toLowerCase();
    const row = rows.find(([, , test]) => (test in SPECIAL && !control ? SPECIAL[test].test(key) : test === name));
    if (!row) return;
    const [, , , action, argument] = row;
    event.preventDefault();
    if (event.repeat && action === "done") return; // a key that is held would finish cases that nobody has seen
    actions[action](argument ?? event);
  });
}

export function fillHelp() {
  const group = (rows) =>
    make(
      "dl",
      {},
      ...rows
        .filter(([keys]) => keys)
        .flatMap(([keys, what]) => [make("dt", {}, make("kbd", {}, keys)), make("dd", {}, what)]),
    );
  const groups = [["Mouse", MOUSE], ...Object.entries(KEYS)];
  find("help-keys").replaceChildren(...groups.flatMap(([title, rows]) => [make("h2", {}, title), group(rows)]));
}
