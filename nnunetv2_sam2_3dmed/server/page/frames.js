// Frames of a video and their labels from the server, kept, and fetched ahead while it plays.

import * as api from "./api.js";
import { Cache, MOST_BYTES } from "./slices.js";
import { state, update } from "./store.js";

const AT_ONCE = 2; // requests for frames, and as many for labels
const AHEAD = 24; // frames, or as many as are kept beside the one that is shown

/**
 * Answers by key. While all requests are on their way, only the latest key asked for waits: whoever drags the slider
 * does not see all frames.
 */
class Store {
  #cache;
  #coming = new Set();
  #wanted = null;
  #broken = new Set(); // keys that were fetched ahead in vain: only one that is due tells why

  constructor(fetch, weigh, drop, arrived, failed) {
    this.#cache = new Cache(weigh, drop);
    this.fetch = fetch;
    this.arrived = arrived;
    this.failed = failed;
  }

  /** What was answered, or null. */
  kept(key) {
    return this.#cache.get(key) ?? null;
  }

  /** What was answered, or null and it comes later. */
  get(key) {
    const found = this.kept(key);
    if (found || this.#coming.has(key)) return found;
    if (this.#coming.size < AT_ONCE) this.#run(key, true);
    else this.#wanted = key;
    return null;
  }

  /** Ask for the first of some keys that are not there, as far as requests are free. */
  ahead(keys) {
    for (const key of keys) {
      if (this.#coming.size >= AT_ONCE || this.#wanted !== null) return;
      if (!this.#coming.has(key) && !this.#broken.has(key) && !this.kept(key)) this.#run(key, false);
    }
  }

  async #run(key, due) {
    this.#coming.add(key);
    try {
      const found = await this.fetch(key);
      if (!this.closed) this.#cache.set(key, found);
      this.#broken.delete(key);
    } catch (error) {
      if (this.closed) return;
      this.#broken.add(key);
      if (due) {
        update({ playing: false }); // which would ask for it again and again
        this.failed(error);
        return;
      }
    } finally {
      this.#coming.delete(key);
    }
    if (this.closed) return;
    const wanted = this.#wanted;
    this.#wanted = null;
    if (wanted !== null) this.get(wanted);
    this.arrived();
  }

  close() {
    this.closed = true;
    this.#cache.clear();
  }
}

/** What `Slices` is for a volume. */
export class Frames {
  /**
   * @param image its description
   * @param arrived called when a frame that was asked for is there
   * @param failed called with the error if it cannot be had
   */
  constructor(image, arrived, failed) {
    this.image = image;
    this.version = 0;
    this.pictures = new Store(
      async (index) => createImageBitmap(await api.frame(index)),
      (picture) => 4 * picture.width * picture.height,
      (picture) => picture.close(),
      arrived,
      failed,
    );
    this.labelMaps = new Store(
      (key) => api.labels(0, Number(key.split(":")[0])),
      (labels) => labels.byteLength,
      () => {},
      arrived,
      failed,
    );
  }

  #key(index) {
    return `${index}:${this.version}`;
  }

  /** The picture of a frame, or null and it comes later. */
  picture(index) {
    return this.pictures.get(index);
  }

  /** Object numbers of a frame; null where they are not there yet, or nothing is segmented. */
  labels(axis, index) {
    return this.version ? this.labelMaps.get(this.#key(index)) : null;
  }

  /** Whether a frame can be shown now with its masks; while masks are being found, without. */
  has(index) {
    const masked = this.version && state.masks && !state.progress.running;
    return Boolean(this.pictures.kept(index) && (!masked || this.labelMaps.kept(this.#key(index))));
  }

  /** Fetch the next frames, those of the beginning after the last one. */
  ahead(index) {
    const { depth, rows, columns } = this.image.views[0];
    const kept = Math.floor(MOST_BYTES / (4 * rows * columns));
    const length = Math.min(AHEAD, depth, Math.max(1, kept - 1));
    const next = Array.from({ length }, (_, k) => (index + 1 + k) % depth);
    this.pictures.ahead(next);
    if (this.version && state.masks) this.labelMaps.ahead(next.map((one) => this.#key(one)));
  }

  /** Ask for a frame that is due, and tell why if it cannot be had. */
  ask(index) {
    this.pictures.get(index);
    if (this.version && state.masks && !state.progress.running) this.labelMaps.get(this.#key(index));
  }

  close() {
    this.pictures.close();
    this.labelMaps.close();
  }
}
