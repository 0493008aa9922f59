// Icons, drawn in a square of 24 units.

const PATHS = {
  open: "M3 18V6h6l2 2h10v10Z",
  save: "M12 4v11m-4.5-4.5L12 15l4.5-4.5M5 19.5h14",
  load: "M12 15V4M7.5 8.5 12 4l4.5 4.5M5 19.5h14",
  undo: "M8 5 4 9l4 4M4 9h10a5.5 5.5 0 0 1 0 11h-3",
  redo: "m16 5 4 4-4 4M20 9H10a5.5 5.5 0 0 0 0 11h3",
  theme: "M12 4a8 8 0 1 0 0 16Zm0 0a8 8 0 0 1 0 16",
  help: "M9 9a3 3 0 1 1 4.2 2.75c-.8.4-1.2 1-1.2 2M12 17.5v.01M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17Z",
  navigate: "m5 4 6 16 2.3-6.7L20 11Z",
  window: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Zm0 3v10a5 5 0 0 0 0-10Z",
  box: "M5 8V5h3M11 5h2M16 5h3v3M19 11v2M19 16v3h-3M13 19h-2M8 19H5v-3M5 13v-2",
  point: "M12 4.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15ZM12 10a2 2 0 1 0 0 4 2 2 0 0 0 0-4Z",
  scribble: "M4 17c4-9 6-11 7-9 1.5 3-5 8-2 9 3.5 1 5-8 7.5-6.5C18.5 12 15 16 17 17c1 .5 2-.5 3-1.5",
  lasso: "M12 5c-5 0-8 2.2-8 5s3 5 8 5 8-2.2 8-5-3-5-8-5ZM8 14.7c-1.8 1-1.5 3 .3 3.5 1.5.4 2 1.3 1.2 2.8",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  add: "M12 6v12M6 12h12",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6Z",
  hidden: "M4 4l16 16M9.5 5.8A9 9 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a16 16 0 0 1-2.7 3.5M6 7.7A15 15 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 4-1",
  crosshair: "M12 3v7M12 14v7M3 12h7M14 12h7",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  lock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlocked: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 6.7-1.4",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 10.5v5.5M13.5 10.5v5.5",
  reset: "M5 12a7 7 0 1 0 2-5M5 4v4h4",
  play: "M8 5.5v13l10.5-6.5Z",
  pause: "M8 6v12M16 6v12",
  stop: "M7 7h10v10H7Z",
  enlarge: "M13 5h6v6M19 5l-6.5 6.5M11 19H5v-6M5 19l6.5-6.5",
  close: "M7 7l10 10M17 7 7 17",
  folder: "M3 18V6h6l2 2h10v10Z",
  file: "M7 3.5h7l4 4v13H7ZM14 3.5v4h4",
};

const SVG = "http://www.w3.org/2000/svg";

/** An icon as an element. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Put their icons into all elements that name one, and tell screen readers what their tips say. */
export function putIcons(root) {
  for (const element of root.querySelectorAll("[data-icon]")) {
    element.prepend(icon(element.dataset.icon));
    if (!element.textContent.trim() && element.dataset.tip) element.setAttribute("aria-label", element.dataset.tip);
  }
}
