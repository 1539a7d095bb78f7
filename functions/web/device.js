// @ts-check
// The same photo through the same file on this device, beside what the server said; only where ON_DEVICE is set.
import { API, ask, session } from "./api.js";
import { $, button, part, percent, plain } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */
/** @typedef {import("./queue.js").Photo} Photo */
/** @typedef {import("./request.js").Answer} Server */
/** @typedef {{ probabilities: number[], score: number | null, prepared: number, ran: number }} Device milliseconds */

const SLOW = "float16"; // google-ai-edge/LiteRT, issue 9663
const SAME = 0.01; // probabilities differ by less, of a photo in the same pixels on another processor
const LISTED = 5;

/** @type {Worker | null} */
let worker = null;
/** @type {Schemas["Model"] | null} */
let served = null;
let wanted = false; // of every photo from now on
let tasks = 0;
let about = ""; // the photo, version and views that are compared, or offered to be

/** Offer to run a photo that the server has answered; once wanted, do so.
 * @param {Photo} photo */
export function offer({ file, url, answer }) {
  if (!answer) return;
  const { model, views } = answer.reply;
  const now = [url, model.name, model.version, views].join(" ");
  if (now === about && !$("device").hidden) return;
  about = now;
  const go = () => {
    wanted = true;
    compare(file, answer);
  };
  if (!$("device").hasChildNodes()) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "device.css" }));
  }
  if (wanted) return go();
  const invitation = part("p", "", "The file that the server runs can run in this browser too; the photo is not sent again for that.");
  $("device").replaceChildren(part("h2", "", "On this device"), invitation, button("", "Run it on this device", go));
  $("device").hidden = false;
}

/** @type {(photo: File, server: Server) => Promise<void>} */
async function compare(photo, server) {
  const mine = ++tasks;
  const { model: answered } = server.reply;
  const said = part("p", "", served ? "Running it here…" : "Running it here; at first the model is downloaded…");
  said.setAttribute("role", "status");
  $("device").replaceChildren(part("h2", "", "On this device"), said);
  $("device").hidden = false;
  try {
    if (served?.version !== answered.version || served.name !== answered.name) served = await ask("model");
    const model = /** @type {Schemas["Model"]} */ (served);
    if (model.version !== answered.version) {
      throw new Error(`${model.version} serves now, and ${answered.version} has answered. Send the photo again.`);
    }
    const device = await run({ photo, model });
    if (mine === tasks) show(server, model, device, said);
  } catch (error) {
    if (mine === tasks) said.textContent = `It cannot be run here: ${/** @type {Error} */ (error).message}`;
  }
}

/** @type {(task: { photo: Blob, model: Schemas["Model"] }) => Promise<Device>} */
function run(task) {
  const id = tasks;
  const running = (worker ??= new Worker(new URL("device_worker.js", API)));
  return new Promise((resolve, reject) => {
    const listening = new AbortController();
    /** @type {(event: any) => void} */
    const told = ({ data }) => {
      if (data.id !== id) return;
      listening.abort();
      data.error === undefined ? resolve(data.answer) : reject(new Error(data.error));
    };
    running.addEventListener("message", told, { signal: listening.signal });
    running.addEventListener("error", () => reject(new Error("this browser cannot.")), { signal: listening.signal });
    running.postMessage({ ...task, id, api: API.href, litert: new URL(session.litert, API).href, headers: session.tokens });
  });
}

/** @type {(server: Server, model: Schemas["Model"], device: Device, said: HTMLElement) => void} */
function show({ reply, ran, ms }, model, device, said) {
  const labels = reply.predictions.slice(0, LISTED).map(({ label, confidence }) => {
    return { name: plain(label), there: confidence, here: device.probabilities[model.labels.indexOf(label)] };
  });
  const apart = Math.max(...labels.map(({ there, here }) => Math.abs(there - here)));
  const score = device.score ?? Math.max(...device.probabilities);
  const table = document.createElement("table");
  table.dataset.apart = apart.toFixed(6);
  table.append(
    rows("thead", [["", "Server", "This device"]]),
    rows("tbody", labels.map(({ name, there, here }) => [name, percent(there), percent(here)])),
    rows("tbody", [
      ["How familiar, 0 to 1", reply.score.toFixed(2), score.toFixed(2)],
      ["The network alone", time(ran), time(device.ran)],
      ["With all around it", time(ms), time(device.prepared + device.ran)],
    ]),
  );
  said.textContent = reply.tta
    ? "The server averaged over several views of the photo, this device looked at it once."
    : apart < SAME
      ? `Both say the same: no probability differs by more than ${percent(Math.max(apart, 0.001))}.`
      : `The largest difference of a probability is ${percent(apart)}.`;
  if (model.variant === SLOW) said.textContent += " This version’s file is float16, which LiteRT.js computes slowly.";
  $("device").append(table);
}

/** @type {(tag: "thead" | "tbody", lines: string[][]) => HTMLElement} */
function rows(tag, lines) {
  const body = document.createElement(tag);
  for (const [name, ...cells] of lines) {
    const row = document.createElement("tr");
    const first = part(name ? "th" : "td", "", name);
    if (name) first.setAttribute("scope", "row");
    first.dir = "auto";
    row.append(first);
    for (const cell of cells) {
      const each = part(tag === "thead" ? "th" : "td", "", cell);
      if (tag === "thead") each.setAttribute("scope", "col");
      row.append(each);
    }
    body.append(row);
  }
  return body;
}

/** @param {number | undefined} ms */
const time = (ms) => (ms === undefined ? "–" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
