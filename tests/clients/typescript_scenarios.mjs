// @ts-check
// What an app does with the package pointer-client, in Node (`node … SCENARIO '{"url": …}'`) and in a browser alike.
import { Client, DamagedError, ProblemError } from "pointer-client";

/** @typedef {{ url: string, photo: string, tokens?: { user: string, app: string } }} Given */

/** @param {Given} given */
const photoOf = ({ photo }) => new Blob([Uint8Array.from(atob(photo), (letter) => letter.charCodeAt(0))]);
/** @param {ArrayBuffer | Uint8Array<ArrayBuffer>} content */
async function sha256(content) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
/** @param {() => Promise<unknown>} call @returns {Promise<any>} */
const errorOf = (call) => call().then(() => { throw new Error("expected an error"); }, (error) => error);
/** @param {() => Promise<unknown>} call */
async function seconds(call) {
  const began = Date.now();
  await call();
  return (Date.now() - began) / 1000;
}

/** @type {Record<string, (given: Given) => Promise<unknown>>} */
export const scenarios = {
  async predicts(given) {
    const said = await new Client(given.url).predict(photoOf(given), { topK: 2, gradcam: "blue", gradcamFormat: "png", tta: "mirror" });
    return [said.label, said.status, said.predictions.length, said.gradcam?.label, said.gradcam?.media_type, said.views, said.model.version];
  },
  async several(given) {
    const { results } = await new Client(`${given.url}/api`).predictSeveral([photoOf(given), new Blob(["no photo"])]);
    const [first, second] = results;
    if (!("label" in first) || !("problem" in second)) throw new Error("expected a result and a problem");
    return [first.label, second.problem.status];
  },
  async alone(given) {
    const client = new Client(given.url);
    const { results, model } = await client.predictSeveral([photoOf(given)]);
    const [{ index }, { label }] = [results[0], /** @type {any} */ (results[0])];
    const none = await client.predictSeveral([]).catch((error) => error.message);
    return [results.length, index, label, "model" in results[0], model.version, none];
  },
  async explains(given) {
    const { image, label, confidence, version } = await new Client(given.url).explain(photoOf(given), { gradcamSize: 64 });
    const head = new Uint8Array(await image.arrayBuffer()).slice(0, 3);
    return [image.type, [...head], label, confidence > 0.5, version];
  },
  async corrects(given) {
    const client = new Client(given.url);
    const { request_id, label, model } = await client.predict(photoOf(given));
    const said = { label: "paella", request_id, seen: { label, version: model.version } };
    const [first, second] = [await client.feedback(said), await client.feedback(said)];
    return [first.known, second.known, first.id === second.id];
  },
  async describes(given) {
    const client = new Client(given.url);
    const described = await client.model();
    const { default: name, models } = await client.models();
    return [described.model.version, (await client.model(described)) === described, name, models.length];
  },
  async downloads(given) {
    const client = new Client(given.url);
    /** @type {number[]} */
    let progress = [];
    const file = await client.modelFile(null, { progress: (...told) => (progress = told) });
    const again = await client.modelFile(file);
    return [file.model.version, (await sha256(file.content)) === file.model.file.sha256, again === file, progress[0] === progress[1]];
  },
  async damaged(given) {
    const error = await errorOf(() => new Client(given.url).modelFile());
    return [error instanceof DamagedError, error.message];
  },
  async waits(given) {
    const client = new Client(given.url);
    const all = await Promise.all([1, 2, 3].map(() => client.predict(photoOf(given))));
    return all.map(({ label }) => label);
  },
  async givesUp(given) {
    /** @type {any} */
    let error;
    const took = await seconds(async () => {
      error = await errorOf(() => new Client(given.url, { deadline: 5000 }).predict(photoOf(given)));
    });
    if (!(error instanceof ProblemError)) throw error;
    return [error.status, error.slug, error.retryAfter, took < 3];
  },
  async late(given) {
    const error = await errorOf(() => new Client(given.url).predict(photoOf(given), { deadline: 200 }));
    return error.name;
  },
  async cancelled(given) {
    const client = new Client(given.url);
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 200);
    /** @type {any} */
    let error;
    const took = await seconds(async () => {
      error = await errorOf(() => client.predict(photoOf(given), { signal: stop.signal }));
    });
    return [error.name, took < 3];
  },
  async refused(given) {
    const error = await errorOf(() => new Client(given.url).predict(photoOf(given), { topK: 0 }));
    const { problem } = error;
    return [error instanceof ProblemError, error.status, error.slug, error.message === problem.detail, Boolean(problem.request_id)];
  },
  async tokens(given) {
    const { user = "", app = "" } = given.tokens ?? {};
    /** @type {boolean[]} */
    const asked = [];
    /** @param {boolean} refresh */
    const idToken = async (refresh) => (asked.push(refresh), refresh ? user : "an old one");
    const client = new Client(given.url, { idToken, appCheckToken: () => app });
    const { label } = await client.predict(photoOf(given));
    const old = new Client(given.url, { idToken: () => "an old one", appCheckToken: () => app });
    const error = await errorOf(() => old.model());
    const clear = await errorOf(async () => new Client("http://a.example", { idToken }));
    return [label, asked, error.slug, clear.message];
  },
};

const { argv = [] } = /** @type {any} */ (globalThis).process ?? {};
if (argv.length > 2) {
  const [, , name, given] = argv;
  console.log(JSON.stringify(await scenarios[name](JSON.parse(given))));
}
