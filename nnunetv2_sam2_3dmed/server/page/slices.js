// Slices and label maps from the server, kept and fetched ahead.

import * as api from "./api.js";

export const MOST_BYTES = 200 * 2 ** 20;
const AHEAD = 2;

/** Least recently used slices are dropped first. */
export class Cache {
  #kept = new Map();
  #bytes = 0;

  /**
   * @param weigh returns the bytes of what is kept
   * @param drop frees what is kept no more
   */
  constructor(weigh = (plane) => plane.byteLength, drop = () => {}) {
    this.weigh = weigh;
    this.drop = drop;
  }

  get(key) {
    const found = this.#kept.get(key);
    if (found) {
      this.#kept.delete(key);
      this.#kept.set(key, found);
    }
    return found;
  }

  set(key, plane) {
    this.#kept.set(key, plane);
    this.#bytes += this.weigh(plane);
    for (const [oldest, dropped] of this.#kept) {
      if (this.#bytes <= MOST_BYTES) break;
      this.#kept.delete(oldest);
      this.#bytes -= this.weigh(dropped);
      this.drop(dropped);
    }
  }

  clear() {
    for (const dropped of this.#kept.values()) this.drop(dropped);
    this.#kept.clear();
    this.#bytes = 0;
  }
}

/**
 * The slices of an image along an axis. While one is on its way, only the latest one asked for waits: whoever scrolls
 * fast does not see all of them.
 */
class Lane {
  #cache = new Cache();
  #wanted = null;
  #coming = null; // on its way
  #busy = false;
  latest = null; // {key, plane}: the one that arrived last

  constructor(fetch, arrived, failed) {
    this.fetch = fetch;
    this.arrived = arrived;
    this.failed = failed;
  }

  /** The slice, or null and it comes later. */
  get(key) {
    const found = this.#cache.get(key);
    if (!found) {
      this.#wanted = key === this.#coming ? null : key;
      this.#run();
    }
    return found ?? null;
  }

  /** Fetch a slice if nothing else is asked for. */
  ahead(key) {
    if (this.#busy || this.#wanted !== null || this.#cache.get(key)) return false;
    this.#wanted = key;
    this.#run();
    return true;
  }

  clear() {
    this.#cache.clear();
    this.#wanted = null;
  }

  async #run() {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#wanted !== null) {
      const key = this.#wanted;
      this.#wanted = null;
      this.#coming = key;
      try {
        const cache = this.#cache;
        const plane = await this.fetch(key);
        if (cache === this.#cache && !this.closed) {
          this.#cache.set(key, plane);
          this.latest = { key, plane };
          if (this.#wanted !== null) this.arrived(); // a label map is shown even if there is a newer one by now
        }
      } catch (error) {
        this.#coming = null;
        this.#busy = false;
        if (!this.closed) this.failed(error);
        return;
      }
    }
    this.#coming = null;
    this.#busy = false;
    if (!this.closed) this.arrived();
  }
}

/** Intensities and labels of the image that is open. */
export class Slices {
  /**
   * @param image its description
   * @param arrived called when a slice that was asked for is there
   * @param failed called with the error if it cannot be had
   */
  constructor(image, arrived, failed) {
    this.image = image;
    this.version = 0;
    this.greys = image.views.map((_, axis) => new Lane((index) => api.grey(axis, index), arrived, failed));
    this.labelMaps = image.views.map(
      (_, axis) => new Lane((key) => api.labels(axis, Number(key.split(":")[0])), arrived, failed),
    );
  }

  grey(axis, index) {
    const lane = this.greys[axis];
    const found = lane.get(index);
    if (found) {
      for (let step = 1; step <= AHEAD; step++) {
        for (const near of [index + step, index - step]) {
          if (near >= 0 && near < this.image.shape[axis] && lane.ahead(near)) return found;
        }
      }
    }
    return found;
  }

  /**
   * Object numbers of a slice, those of before while newer ones are on their way; null where none are there yet, or
   * nothing is segmented.
   */
  labels(axis, index) {
    if (!this.version) return null;
    const lane = this.labelMaps[axis];
    const found = lane.get(`${index}:${this.version}`);
    return found ?? (lane.latest?.key.startsWith(`${index}:`) ? lane.latest.plane : null);
  }

  close() {
    for (const lane of [...this.greys, ...this.labelMaps]) {
      lane.closed = true;
      lane.clear();
    }
  }
}
