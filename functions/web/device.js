// @ts-check
// The same photo through the same file on this device, beside what the server said; only where ON_DEVICE is set.
import { API, ask, session } from "./api.js";
import { $, part, percent, plain } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */
/** @typedef {{ probabilities: number[], score: number | null, prepared: number, ran: number }} Answer */

const SLOW = "float16"; // google-ai-edge/LiteRT, issue 9663
const SAME = 0.01; // probabilities differ by less, of a photo in the same pixels on another processor

/** @type {Worker | null} */
let worker = null;
/** @type {Schemas["Model"] | null} */
let served = null;
let wanted = false; // of every photo from now on
let tasks = 0;

/** Offer to run what the server has just run; once wanted, do so.
 * @type {(photo: Blob, reply: Schemas["Prediction"]) => void} */
export function offer(photo, reply) {
  const milliseconds = onTheServer();
  const go = () => {
    wanted = true;
    compare(photo, reply, milliseconds);
  };
  if (wanted) return go();
  if (!$("device").hasChildNodes()) document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "device.css" }));
  const button = part("button", "", "Run it on this device");
  button.setAttribute("type", "button");
  button.addEventListener("click", go);
  const invitation = part("p", "", "The file that the server runs can run in this browser too. The photo stays here.");
  $("device").replaceChildren(part("h2", "", "On this device"), invitation, button);
  $("device").hidden = false;
}

/** @type {(photo: Blob, reply: Schemas["Prediction"], server: { ran: number, all: number } | null) => Promise<void>} */
async function compare(photo, reply, server) {
  const mine = ++tasks;
  const said = part("p", "", "Running it here; at first the model is downloaded…");
  said.setAttribute("role", "status");
  $("device").replaceChildren(part("h2", "", "On this device"), said);
  $("device").hidden = false;
  try {
    if (served?.version !== reply.model.version || served.name !== reply.model.name) served = await ask("model");
    const model = /** @type {Schemas["Model"]} */ (served);
    if (model.version !== reply.model.version) {
      throw new Error(`Version ${model.version} serves now; the photo was answered by ${reply.model.version}. Send it again.`);
    }
    const answer = await run({ photo, model });
    if (mine === tasks) show(reply, model, server, answer, said);
  } catch (error) {
    if (mine !== tasks) return;
    said.textContent = `It cannot be run here: ${/** @type {Error} */ (error).message}`;
  }
}

/** @type {(task: { photo: Blob, model: Schemas["Model"] }) => Promise<Answer>} */
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

/** What the last prediction took, as the server and as this page measured it, in milliseconds.
 * @returns {{ ran: number, all: number } | null} */
function onTheServer() {
  const requests = /** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByType("resource"));
  const last = requests.filter(({ name, serverTiming }) => name.startsWith(`${API.href}?`) && serverTiming.length).pop();
  const ran = last?.serverTiming.find(({ name }) => name === "infer")?.duration;
  return last && ran !== undefined ? { ran, all: last.duration } : null;
}

/** @type {(reply: Schemas["Prediction"], model: Schemas["Model"], server: { ran: number, all: number } | null, answer: Answer, said: HTMLElement) => void} */
function show(reply, model, server, answer, said) {
  const here = reply.predictions.map(({ label }) => answer.probabilities[model.labels.indexOf(label)]);
  const apart = Math.max(...reply.predictions.map(({ confidence }, place) => Math.abs(confidence - here[place])));
  const score = answer.score ?? Math.max(...answer.probabilities);
  const table = document.createElement("table");
  table.dataset.apart = apart.toFixed(6);
  table.append(
    rows("thead", [["", "Server", "This device"]]),
    rows("tbody", reply.predictions.map(({ label, confidence }, place) => [plain(label), percent(confidence), percent(here[place])])),
    rows("tbody", [
      ["How familiar it is, of 1", reply.score.toFixed(2), score.toFixed(2)],
      ["The network alone", ms(server?.ran), ms(answer.ran)],
      ["With all around it", ms(server?.all), ms(answer.prepared + answer.ran)],
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

/** @param {number | undefined} time */
const ms = (time) => (time === undefined ? "–" : `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`);
