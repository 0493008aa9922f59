// Messages, tips, menus and dialogs.

import { icon } from "./icons.js";

const SHOWN_MS = 8000;

/** Make an element: `make("button", {class: "wide", onclick}, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const find = (id) => document.getElementById(id);

/**
 * Show a sentence at the bottom for some seconds.
 *
 * @param action {label, run}, which keeps it there until it is closed
 * @returns the element that shows it
 */
export function say(sentence, { error = false, action = null } = {}) {
  // but for a file's name
  const text = /^[a-z]+ /.test(sentence) ? sentence.charAt(0).toUpperCase() + sentence.slice(1) : sentence;
  const box = find("messages");
  // what is outside of an open dialog lies behind it
  (document.querySelector("dialog[open]") ?? document.body).append(box);
  for (const other of box.children) if (other.dataset.text === text) other.remove();
  const close = make("button", { class: "close", "aria-label": "Close", onclick: () => message.remove() }, icon("close"));
  const message = make("div", { class: error ? "message error" : "message" }, make("span", {}, text));
  message.dataset.text = text;
  if (action) {
    const run = () => {
      message.remove();
      action.run();
    };
    message.append(make("button", { class: "primary", onclick: run }, action.label));
  } else setTimeout(() => message.remove(), SHOWN_MS);
  message.append(close);
  box.append(message);
  while (box.children.length > 3) box.firstChild.remove();
  return message;
}

document.addEventListener("close", () => document.body.append(find("messages")), true);

/** Show what `data-tip` says of an element, and its key, beside the pointer or the focus. */
export function showTips() {
  const tip = find("tip");
  let waiting = 0;
  const hide = () => {
    clearTimeout(waiting);
    tip.hidden = true;
  };
  const show = (element) => {
    const { tip: text, key } = element.dataset;
    tip.replaceChildren(text, ...(key ? [make("kbd", {}, key)] : []));
    tip.hidden = false;
    const at = element.getBoundingClientRect();
    const beside = element.closest(".tools");
    const left = beside ? at.right + 8 : at.left + at.width / 2 - tip.offsetWidth / 2;
    const top = beside ? at.top + at.height / 2 - tip.offsetHeight / 2 : at.bottom + 6;
    const fits = top + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(6, Math.min(left, innerWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${fits ? top : at.top - tip.offsetHeight - 6}px`;
  };
  const later = (event) => {
    const element = event.target.closest?.("[data-tip]");
    hide();
    if (element) waiting = setTimeout(() => element.isConnected && show(element), 450);
  };
  document.addEventListener("pointerover", later);
  document.addEventListener("focusin", (event) => event.target.matches?.(":focus-visible") && later(event));
  document.addEventListener("focusout", hide);
  document.addEventListener("pointerdown", hide, true);
  document.addEventListener("keydown", hide, true);
}

/** A menu under its button. */
export function menu(button) {
  const list = button.nextElementSibling;
  const show = (shown) => {
    list.hidden = !shown;
    button.setAttribute("aria-expanded", shown);
    if (shown) list.querySelector("button:not(:disabled)")?.focus();
  };
  show(false);
  button.addEventListener("click", () => show(list.hidden));
  list.addEventListener("click", () => show(false));
  document.addEventListener("pointerdown", (event) => button.parentElement.contains(event.target) || show(false));
  button.parentElement.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) {
      show(false);
      button.focus();
      event.stopPropagation();
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const items = [...list.querySelectorAll("button:not(:disabled)")];
    const at = items.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    items[(at + items.length) % items.length]?.focus();
    event.preventDefault();
    event.stopPropagation();
  });
}

/** Let the user have a file. */
export function download({ name, blob }) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

export function megabytes(bytes) {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / 2 ** 20).toFixed(0)} MB`;
}
