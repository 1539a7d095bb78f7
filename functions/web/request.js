// @ts-check
// What is asked of one photo: its label, and what speaks for it.
import { ask, fetched } from "./api.js";

/** @typedef {import("./api.js").Schemas} Schemas */
/** What was answered, to which question, how many milliseconds that took, and how many of them the network.
 * @typedef {{ reply: Schemas["Prediction"], query: URLSearchParams, ms: number, ran: number | undefined }} Answer */

const LISTED = "5";
const MOST = "100"; // of the labels, where one is asked for that is not among the first

/** @type {(slug: string, message: string) => import("./api.js").Problem} */
const problem = (slug, message) => Object.assign(new Error(message), { slug });

/** A file that is gone, or that was changed since it was chosen, would else read as a server that is out of reach.
 * @param {File} file */
async function expectReadable(file) {
  if (file.size === 0) throw problem("empty", "Expected a photo; this file is empty, or a folder.");
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw problem("gone", "It cannot be read any more: it was moved or changed. Choose it again.");
  }
}

/** Why is it this label? Null: why is it the most probable one? By occlusion where the model has no Grad-CAM.
 * @type {(file: File, label: string | null, options: { tta: boolean, signal: AbortSignal }) => Promise<Answer>} */
export async function predict(file, label, { tta, signal }) {
  await expectReadable(file);
  const which = label === null ? "" : `label:${label}`; // a label may be "1" itself
  /** @param {string} gradcam */
  const asked = async (gradcam) => {
    /** @type {{ [name in keyof import("./api.js").Operations["predict"]["parameters"]["query"]]: string }} */
    const options = { top_k: label === null ? LISTED : MOST, gradcam, gradcam_size: "1024", tta: tta ? "1" : "0" };
    const query = new URLSearchParams(options);
    const body = new FormData();
    body.append("image", file);
    const began = performance.now();
    const reply = await fetched(`?${query}`, { method: "POST", body, signal });
    const [, ran] = /\binfer;dur=([0-9.]+)/.exec(reply.headers.get("Server-Timing") ?? "") ?? [];
    const answer = await reply.json();
    return { reply: answer, query, ms: performance.now() - began, ran: ran === undefined ? undefined : Number(ran) };
  };
  try {
    return await asked(which || "1");
  } catch (error) {
    if (/** @type {import("./api.js").Problem} */ (error).slug !== "cannot-explain") throw error;
    return await asked(`occlusion:${which}`);
  }
}

/** The most probable label alone, as fast as it can be had.
 * @type {(photo: Blob, signal: AbortSignal) => Promise<Schemas["Prediction"]>} */
export async function glance(photo, signal) {
  const body = new FormData();
  body.append("image", photo, "camera.jpg");
  return await ask("?top_k=1", { method: "POST", body, signal });
}
