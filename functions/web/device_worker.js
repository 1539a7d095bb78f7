// @ts-check
// Runs the served model on this device. In a worker, so that the page stays usable, and so that what WebAssembly needs of
// the content security policy is in this file's alone. A classic one: LiteRT.js loads its own script by importScripts.

/** @typedef {import("../../clients/typescript/pointer").components["schemas"]} Schemas */
/** @typedef {import("@litertjs/core")} LiteRt */
/** @typedef {import("@litertjs/core").CompiledModel} CompiledModel */
/**
 * @typedef {object} Task
 * @property {number} id
 * @property {Blob} photo
 * @property {Schemas["Model"]} model what serves
 * @property {string} api where that was asked for
 * @property {string} litert where LiteRT.js is
 * @property {Record<string, string>} headers of requests
 */
/** @typedef {{ probabilities: number[], score: number | null, prepared: number, ran: number }} Answer in milliseconds */

const OPEN_BATCH =
  "this version’s file takes any number of photos at once, which LiteRT.js cannot. Whoever publishes it has to export or " +
  "import it anew (trainer export RUN, or admin_cli import FILE) and publish that: then it takes one.";

/** @type {Promise<LiteRt> | null} */
let loading = null;
/** @type {{ sha256: string, compiled: CompiledModel } | null} */
let kept = null;

/** @type {(task: Task) => Promise<Answer>} */
async function run({ photo, model, api, litert, headers }) {
  loading ??= load(litert);
  const [{ pixelsOf }, { Tensor, loadAndCompile }] = await Promise.all([import("./pixels.js"), loading]);
  if (kept?.sha256 !== model.file.sha256) {
    const compiled = await loadAndCompile(await download(model.file, api, headers), { accelerator: "wasm" });
    if (compiled.getInputDetails()[0].shape[0] < 0) {
      compiled.delete();
      throw new Error(OPEN_BATCH);
    }
    kept?.compiled.delete();
    kept = { sha256: model.file.sha256, compiled };
  }
  const began = performance.now();
  const pixels = await pixelsOf(photo, model.input);
  const prepared = performance.now();
  const image = new Tensor(pixels, [1, model.input.height, model.input.width, 3]);
  /** @type {Record<string, import("@litertjs/core").Tensor>} */
  let outputs = {};
  try {
    outputs = await kept.compiled.run(model.signature.name, { image });
    const probabilities = [...(await outputs.probabilities.data())];
    const score = outputs.score ? (await outputs.score.data())[0] : null;
    return { probabilities, score, prepared: prepared - began, ran: performance.now() - prepared };
  } finally {
    for (const tensor of [image, ...Object.values(outputs)]) tensor.delete();
  }
}

/** @type {(litert: string) => Promise<LiteRt>} */
async function load(litert) {
  /** @type {LiteRt} */
  const loaded = await import(`${litert}index.js`);
  // Where its script finds its WebAssembly: in a worker that looks beside the worker's own file.
  Object.assign(self, { Module: { locateFile: (/** @type {string} */ name) => `${litert}wasm/${name}` } });
  await loaded.loadLiteRt(`${litert}wasm/`);
  return loaded;
}

/** @type {(file: Schemas["File"], api: string, headers: Record<string, string>) => Promise<Uint8Array<ArrayBuffer>>} */
async function download({ url, bytes, sha256 }, api, headers) {
  const content = new Uint8Array(bytes);
  for (let at = 0; at < bytes; ) {
    const wanted = { Range: `bytes=${at}-${at + 2 ** 23 - 1}`, "If-Match": `"${sha256}"` };
    const part = await fetch(new URL(url, api), { headers: { ...headers, ...wanted } });
    if (part.status !== 206) throw new Error(`The model’s file cannot be downloaded now (status ${part.status}).`);
    const received = new Uint8Array(await part.arrayBuffer());
    content.set(received, at);
    at += received.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new Error("The model’s file was damaged on its way. Try again.");
  return content;
}

/** @type {Promise<unknown>} */
let last = Promise.resolve();
onmessage = ({ data }) => {
  const { id } = /** @type {Task} */ (data);
  last = last // one after another
    .then(() => run(data))
    .then((answer) => postMessage({ id, answer }), (error) => postMessage({ id, error: String(error?.message ?? error) }));
};
