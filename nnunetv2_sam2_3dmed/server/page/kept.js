// The prompts of the image that is open, kept in the page in case the server is restarted.

import * as api from "./api.js";
import { state } from "./store.js";

const AFTER_MS = 1500; // without a change

let kept = null; // {image, prompts}
let waiting = 0;

const any = () => state.objects.some(({ started }) => started);

/**
 * Keep the prompts once they have stopped changing. Where none are left, none are kept: undone ones stay undone. Of a
 * round's case none are kept, as its masks would be packed with them after each change.
 */
export function keepSoon() {
  clearTimeout(waiting);
  if (any() && !state.image?.round) waiting = setTimeout(keep, AFTER_MS);
  else kept = null;
}

async function keep() {
  if (state.progress.running) return;
  try {
    // in turn, as no other image is opened meanwhile
    kept = await api.inTurn(async () => {
      const { image } = state;
      return any() ? { image, prompts: (await api.prompts()).blob } : null;
    });
  } catch {
    // the next request tells the user what is wrong
  }
}

/** The prompts kept of an image; null if there are none. */
export const keptOf = (image) => (kept?.image === image ? kept.prompts : null);
