// The line of time under a video: playing, and choosing a frame.

import { icon } from "./icons.js";
import { state, update } from "./store.js";
import { setSlice } from "./tools.js";
import { find, make } from "./widgets.js";

let views = null;
let clock = null; // {time of the video in s, at: time of the clock in ms}

/** @param shown see views.js */
export function setUpPlayer(shown) {
  views = shown;
  find("play").addEventListener("click", togglePlaying);
  find("timeline").addEventListener("input", (event) => setSlice(views.current, Number(event.target.value)));
  find("timeline").addEventListener("pointerup", () => views.current.canvas.focus());
  find("speed").addEventListener("change", () => {
    start();
    find("speed").blur();
  });
}

export function togglePlaying() {
  if (!state.image?.video || state.image.shape[0] < 2) return;
  update({ playing: !state.playing });
  if (!state.playing) return;
  start();
  requestAnimationFrame(step);
}

/** Let the clock go on from the frame that is shown. */
function start() {
  if (state.image?.video) clock = { time: state.image.video.times[state.cursor[0]], at: performance.now() };
}

/** Show the frame whose time has come; where it is not there yet, the clock waits. */
function step(now) {
  const { image, cursor } = state;
  if (!state.playing || !image?.video) return;
  requestAnimationFrame(step);
  if (!clock) start(); // it was begun before the image was first drawn
  const { times, rate } = image.video;
  const end = times[times.length - 1] + 1 / rate;
  const time = clock.time + ((now - clock.at) / 1000) * Number(find("speed").value);
  const { slices } = views;
  slices.ahead(cursor[0]);
  if (time >= end) {
    if (!slices.has(0)) {
      slices.ask(0);
      return;
    }
    clock = { time: times[0], at: now };
    show(0);
    return;
  }
  let due = cursor[0];
  while (due + 1 < times.length && times[due + 1] <= time) due += 1;
  let there = due;
  while (there > cursor[0] && !slices.has(there)) there -= 1;
  if (there > cursor[0]) show(there);
  else if (due > cursor[0]) {
    slices.ask(cursor[0] + 1);
    clock = { time: times[cursor[0] + 1], at: now };
  }
}

const show = (index) => update({ cursor: [index, state.cursor[1], state.cursor[2]] });

/** Seconds as minutes:seconds.hundredths. */
function clockTime(seconds) {
  const whole = Math.floor(seconds / 60);
  return `${whole}:${(seconds - 60 * whole).toFixed(2).padStart(5, "0")}`;
}

export function drawPlayer(changed) {
  const video = state.image?.video;
  if (changed.has("image")) {
    find("player").hidden = !video;
    clock = null;
  }
  if (!video) return;
  const [index] = state.cursor;
  const last = video.times.length - 1;
  const slider = find("timeline");
  slider.max = last;
  slider.value = index;
  const time = `${clockTime(video.times[index])} / ${clockTime(video.times[last])}`;
  slider.setAttribute("aria-valuetext", `Frame ${index} of ${last}, ${time}`);
  find("time").textContent = time;
  if (changed.has("playing") || changed.has("image")) {
    const button = find("play");
    button.replaceChildren(icon(state.playing ? "pause" : "play"));
    button.dataset.tip = state.playing ? "Pause" : "Play";
    button.setAttribute("aria-label", button.dataset.tip);
    button.disabled = last === 0;
  }
  if (["objects", "range", "image"].some((name) => changed.has(name))) drawMarks(last);
}

/** Frames with prompts, and the range to propagate to. */
function drawMarks(last) {
  const place = (frame) => (last ? (100 * frame) / last : 50);
  const marks = state.objects.flatMap(({ prompts, colour }) =>
    prompts.map(({ index }) => {
      const mark = make("span", { class: "mark" });
      Object.assign(mark.style, { left: `${place(index)}%`, background: colour });
      return mark;
    }),
  );
  if (state.range) {
    const { first, last: end } = state.range;
    const band = make("span", { class: "band" });
    Object.assign(band.style, { left: `${place(first)}%`, width: `${place(end) - place(first)}%` });
    marks.unshift(band);
  }
  find("marks").replaceChildren(...marks);
}
