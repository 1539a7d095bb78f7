// @ts-check
// Calls a server with openapi-fetch, typed by pointer.d.ts, and prints what it got as JSON: URL, photo in base64.
import createClient from "openapi-fetch";

/** @typedef {import("../../clients/typescript/pointer").paths} Paths */

const [url, image] = /** @type {any} */ (globalThis).process.argv.slice(2);
/** @type {import("openapi-fetch").Client<Paths>} */
const client = createClient({ baseUrl: url });
const photo = new Blob([Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });

/** @param {{ image: unknown[], [name: string]: unknown }} fields */
function form({ image, ...options }) {
  const body = new FormData();
  for (const each of image) body.append("image", /** @type {Blob} */ (each));
  for (const [name, value] of Object.entries(options)) body.append(name, String(value));
  return body;
}

const one = await client.POST("/", { body: { image, gradcam: true, top_k: 2 } });
if (typeof one.data !== "object" || !("label" in one.data)) throw new Error("expected one prediction");
const several = await client.POST("/", {
  params: { query: { top_k: 1 } },
  body: { image: /** @type {any[]} */ ([photo, new Blob(["no photo"])]), tta: "1" },
  bodySerializer: /** @type {any} */ (form),
});
if (typeof several.data !== "object" || !("results" in several.data)) throw new Error("expected several predictions");
const [first, second] = several.data.results;
if (!("label" in first) || !("problem" in second)) throw new Error("expected a result and a problem");
const refused = await client.POST("/", { params: { query: { top_k: 0 } }, body: { image } });
if (!refused.error) throw new Error("expected a problem");
const { data: model } = await client.GET("/model");
if (!model) throw new Error("expected the model");
const got = {
  one: [one.data.label, one.data.gradcam?.media_type, one.data.predictions.length, one.data.model.version],
  several: [first.label, second.problem.status],
  refused: [refused.error.type, refused.error.request_id === refused.response.headers.get("X-Request-Id")],
  model: [model.version, model.signature.inputs.image.dtype],
};
console.log(JSON.stringify(got));
