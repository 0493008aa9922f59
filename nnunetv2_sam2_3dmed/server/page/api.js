// Requests to the server; the interface is described in page_routes.py.

const TOKEN = "sam2_3dmed_place";
const KEY = "sam2_3dmed_key";
const CARRIED = /^[ -~]+$/; // by HTTP headers, and thus of every server's key

/** A refusal of the server, with its sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

let askForKey = async () => null;

/** Set what is called when the server wants a key; it returns one, or null to give up. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

async function send(method, path, { json, body, signal, key = sessionStorage.getItem(KEY) } = {}) {
  const headers = { "X-Page-Session": sessionStorage.getItem(TOKEN) ?? "" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  let response;
  try {
    response = await fetch(`/page/${path}`, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. Is it still running?");
  }
  if (response.ok) {
    if (key) sessionStorage.setItem(KEY, key); // it fits
    return response;
  }
  if (response.status === 401) {
    let given = await askForKey(Boolean(key));
    while (given && !CARRIED.test(given)) given = await askForKey(true);
    if (given) return send(method, path, { json, body, signal, key: given });
  }
  let sentence = `The server answered with status ${response.status}.`;
  try {
    sentence = (await response.json()).detail ?? sentence;
  } catch {
    // a proxy's answer is no JSON
  }
  throw new Refused(response.status, sentence);
}

const json = async (method, path, options) => (await send(method, path, options)).json();
const bytes = async (path, signal) => (await send("GET", path, { signal })).arrayBuffer();

async function file(path) {
  const response = await send("GET", path);
  const named = /filename\*=utf-8''(.*)/.exec(response.headers.get("Content-Disposition") ?? "");
  return { name: named ? decodeURIComponent(named[1]) : "segmentation", blob: await response.blob() };
}

let latest = Promise.resolve();

/** Run a job once those before have ended, as the second prompt builds on the first one's answer; returns its result. */
export function inTurn(job) {
  const result = latest.then(job);
  latest = result.catch(() => {}); // told where the job is awaited
  return result;
}

export const hasPlace = () => Boolean(sessionStorage.getItem(TOKEN));

export async function claim() {
  const { token } = await json("POST", "session");
  sessionStorage.setItem(TOKEN, token);
}

export async function release() {
  await json("POST", "release");
  sessionStorage.removeItem(TOKEN);
}

export const forgetPlace = () => sessionStorage.removeItem(TOKEN);
export const describe = () => json("GET", "session");
export const heartbeat = () => json("POST", "heartbeat");
export const folder = () => json("GET", "folder");
export const beginFiles = () => json("POST", "files");
export const sendFile = (batch, name, blob, signal) =>
  json("PUT", `files?batch=${batch}&name=${encodeURIComponent(name)}`, { body: blob, signal });
export const dropFiles = (batch) => json("DELETE", `files?batch=${batch}`);
export const openImage = (asked) => json("POST", "open", { json: asked });
export const round = () => json("GET", "round");
export const openCase = (named) => json("POST", "round/open", { json: { case: named } });
export const finishCase = (done) => json("POST", "round/done", { json: done });
export const grey = async (axis, index) => new Uint16Array(await bytes(`slices/${axis}/${index}`));
export const frame = async (index) => (await send("GET", `frames/${index}`)).blob();
export const labels = async (axis, index) => new Uint16Array(await bytes(`labels/${axis}/${index}`));
export const progress = () => json("GET", "progress");
export const addObject = (name) => json("POST", "objects", { json: { name } });
export const changeObject = (id, change) => json("PATCH", `objects/${id}`, { json: change });
export const removeObject = (id) => json("DELETE", `objects/${id}`);
export const addPrompt = (prompt) => json("POST", "prompts", { json: prompt });
export const undo = () => json("POST", "undo");
export const redo = () => json("POST", "redo");
export const propagate = (wanted) => json("POST", "propagation", { json: wanted });
export const stop = () => json("POST", "propagation/stop");
export const surface = (id, signal) => bytes(`surface/${id}`, signal);
export const segmentation = (ending) => file(`segmentation?ending=${encodeURIComponent(ending)}`);
export const prompts = () => file("prompts");
export const loadPrompts = (sent) => json("POST", "prompts/file", { json: sent });
export const loadSegmentation = (sent) => json("POST", "segmentation", { json: sent });
