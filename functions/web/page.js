// @ts-check
"use strict";
// The try-it page: one photo, what the model says, and why. Addresses are relative, so that it works wherever it lies.

/** @typedef {import("../../clients/typescript/pointer").components["schemas"]} Schemas */
/** @typedef {import("../../clients/typescript/pointer").operations} Operations */
/** @typedef {Error & { slug?: string, passes?: boolean, wanted?: string }} Problem */

/** @type {(id: string) => any} */
const $ = (id) => document.getElementById(id);
const API = new URL("api/", document.baseURI);
/** @type {File | null} */
let photo = null; // that is shown
let photoUrl = "";
/** @type {string | null} */
let asked = null; // the label that the last request was about
/** @type {AbortController | null} */
let running = null; // of the request under way
/** @type {Record<string, string>} */
let tokens = {}; // that the function asked for, as headers
let model = new URLSearchParams(location.search).get("model") ?? ""; // that is asked; "" for the default

/** @type {(path: string, options?: RequestInit) => Promise<any>} */
async function ask(path, options) {
  let reply;
  try {
    const address = new URL(path, API);
    if (model && path !== "models") address.searchParams.set("model", model);
    reply = await fetch(address, { ...options, headers: tokens });
  } catch (error) {
    if (aborted(error)) throw error;
    const message = "The server cannot be reached. Check your connection, then try again.";
    throw Object.assign(new Error(message), { passes: true });
  }
  const body = await reply.json().catch(() => ({}));
  if (reply.ok) return body;
  /** @type {Partial<Schemas["Problem"]>} */
  const { type = "", detail } = body;
  /** @type {Problem} */
  const error = new Error(detail || `The server answered with status ${reply.status}.`);
  error.slug = type.split(":").pop();
  error.passes = reply.status === 429 || reply.status >= 500;
  error.wanted = reply.headers.get("WWW-Authenticate") ?? "";
  throw error;
}

/** @param {unknown} error */
const aborted = (error) => error instanceof Error && error.name === "AbortError";

/** @param {any} error */
function tell(error) {
  $("empty").hidden = error.slug !== "not-ready";
  $("problem").hidden = error.slug === "not-ready";
  $("detail").textContent = error.message;
  $("again").hidden = !error.passes;
  $("status").textContent = "";
  if (error.slug === "unauthenticated") askForTokens(error.wanted);
}

/** @param {string} wanted */
function askForTokens(wanted) {
  $("tokens").hidden = false;
  $("user").hidden = !wanted.includes("Bearer");
  $("app").hidden = !wanted.includes("FirebaseAppCheck");
  // Nothing is wrong yet where none was given.
  $("problem").hidden = Object.keys(tokens).length === 0;
}

/** @param {Event} event */
function takeTokens(event) {
  event.preventDefault();
  const [user, app] = ["user", "app"].map((id) => $(id).control.value.trim());
  tokens = { ...(user && { Authorization: `Bearer ${user}` }), ...(app && { "X-Firebase-AppCheck": app }) };
  photo ? classify(asked) : look();
}

function calm() {
  $("problem").hidden = true;
  $("empty").hidden = true;
  $("tokens").hidden = true;
}

async function look() {
  try {
    showModels(await ask("models"));
    const served = await ask("model");
    showVersion(served);
    $("notice").textContent = served.notice ?? "";
    $("notice").hidden = !served.notice;
    calm();
  } catch (error) {
    const { slug } = /** @type {Problem} */ (error);
    $("version").textContent = slug === "not-ready" ? "No version serves yet" : "";
    tell(error);
  }
}

/** @param {Pick<Schemas["Model"], "name" | "version" | "channel">} model */
function showVersion(model) {
  const channel = model.channel === "production" ? "" : ` (${model.channel})`;
  $("version").textContent = `${model.name} ${model.version}${channel}`;
}

/** @param {Schemas["Models"]} all */
function showModels(all) {
  const names = all.models.map(({ name }) => name);
  if (!names.includes(model)) model = ""; // an address may name one that is no longer there
  $("models").hidden = names.length < 2;
  $("model").replaceChildren(...names.map((name) => new Option(name, name === all.default ? "" : name)));
  $("model").value = model === all.default ? "" : model;
}

/** @param {FileList | undefined | null} files */
function choose(files) {
  if (!files || files.length === 0) return;
  if (files.length > 1) return tell(new Error("One photo at a time, please."));
  photo = files[0];
  if (photoUrl) URL.revokeObjectURL(photoUrl);
  photoUrl = URL.createObjectURL(photo);
  $("overlay").hidden = $("slider").hidden = true;
  $("shown").hidden = false;
  $("shown").src = photoUrl;
  $("shown").alt = `Your photo ${photo.name}`;
  $("caption").textContent = $("label").textContent = "";
  $("doubt").hidden = true;
  $("predictions").replaceChildren();
  $("result").hidden = false;
  document.body.classList.add("photo-shown");
  classify(null);
}

// Why is it this label? Null: why is it the most probable one? By occlusion where the model has no Grad-CAM.
/** @type {(label: string | null, occlusion?: boolean) => Promise<void>} */
async function classify(label, occlusion = false) {
  if (!photo) return;
  asked = label;
  if (running) running.abort();
  const mine = (running = new AbortController());
  const body = new FormData();
  body.append("image", photo);
  calm();
  $("status").classList.toggle("said", label !== null);
  $("status").textContent = label === null ? "Looking at the photo…" : `Looking for ${plain(label)}…`;
  try {
    const which = label === null ? "" : `label:${label}`; // a label may be "1" itself
    const gradcam = occlusion ? `occlusion:${which}` : which || "1";
    /** @type {{ [name in keyof Operations["predict"]["parameters"]["query"]]: string }} */
    const options = { top_k: "5", gradcam, gradcam_size: "1024", tta: $("tta").checked ? "1" : "0" };
    const reply = await ask(`?${new URLSearchParams(options)}`, { method: "POST", body, signal: mine.signal });
    if (mine === running) show(reply, label === null);
  } catch (error) {
    if (aborted(error)) return;
    if (!occlusion && /** @type {Problem} */ (error).slug === "cannot-explain") return classify(label, true);
    if (label === null) $("result").hidden = true;
    tell(error);
  }
}

/** @type {(reply: Schemas["Prediction"], first: boolean) => void} */
function show(reply, first) {
  showVersion(reply.model);
  if (!reply.gradcam) return;
  $("result").hidden = false; // also where an attempt before has failed
  const { label, media_type, image } = reply.gradcam;
  $("overlay").src = `data:${media_type};base64,${image}`;
  $("overlay").alt = `Heatmap of what speaks for ${plain(label)}`;
  $("overlay").hidden = false;
  $("slider").hidden = $("overlay").classList.contains("alone"); // nothing is behind it
  $("caption").textContent = `Bright: what speaks for ${plain(label)}.`;
  const unknown = reply.status === "unknown";
  const answer = unknown ? "I don’t know" : `${plain(reply.label)}, ${percent(reply.confidence)}`;
  $("label").textContent = answer;
  $("doubt").hidden = !unknown;
  $("doubt").textContent =
    `This photo is not like anything this model was trained on (score ${reply.score.toFixed(2)} of 1). ` +
    "The labels below are only the nearest that it has.";
  $("predictions").classList.toggle("doubtful", unknown);
  $("predictions").replaceChildren(...reply.predictions.map((one, place) => row(one, place, label)));
  $("status").classList.add("said");
  $("status").textContent = first
    ? unknown ? "I don’t know: not like anything it was trained on." : `${answer}.`
    : `The heatmap now shows what speaks for ${plain(label)}.`;
  const pressed = $("predictions").querySelector("[aria-pressed=true]");
  if (!first && pressed) pressed.focus(); // the buttons were made anew
}

/** @type {(one: Schemas["Labelled"], place: number, explained: string) => HTMLElement} */
function row({ label, confidence }, place, explained) {
  const item = document.createElement("li");
  const bar = part("span", "bar", "");
  bar.setAttribute("aria-hidden", "true");
  const share = document.createElement("i");
  share.style.width = `${100 * confidence}%`;
  bar.append(share);
  const why = part("button", "", place === 0 ? "Why?" : "Why not this one?");
  why.setAttribute("type", "button");
  why.setAttribute("aria-label", place === 0 ? `Why ${plain(label)}?` : `Why not ${plain(label)}?`);
  why.setAttribute("aria-pressed", String(label === explained));
  why.addEventListener("click", () => classify(label));
  item.append(part("span", "name", plain(label)), part("span", "share", percent(confidence)), bar, why);
  return item;
}

/** @type {(tag: string, name: string, text: string) => HTMLElement} */
function part(tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** @param {string} label */
const plain = (label) => label.replaceAll("_", " ");
/** @param {number} share */
const percent = (share) => (share > 0 && share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`);

for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", () => {
    choose($(id).files);
    $(id).value = ""; // so that the same file can be chosen again
  });
}
$("shown").addEventListener("error", () => {
  $("shown").hidden = $("slider").hidden = true; // a format that the server reads and this browser does not
  $("overlay").classList.add("alone");
});
$("shown").addEventListener("load", () => $("overlay").classList.remove("alone"));
$("strength").addEventListener("input", () => {
  $("overlay").style.opacity = `${Number($("strength").value) / 100}`;
  $("percent").textContent = `${$("strength").value} %`;
});
$("tokens").addEventListener("submit", takeTokens);
$("model").addEventListener("change", () => {
  model = $("model").value;
  const address = new URL(location.href); // so that it can be sent to others
  model ? address.searchParams.set("model", model) : address.searchParams.delete("model");
  history.replaceState(null, "", address);
  look().then(() => photo && classify(null));
});
$("tta").addEventListener("change", () => photo && classify(null));
for (const id of ["retry", "again"]) $(id).addEventListener("click", () => (photo ? classify(asked) : look()));
document.addEventListener("paste", (event) => choose(event.clipboardData?.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  choose(event.dataTransfer?.files);
});
look();
