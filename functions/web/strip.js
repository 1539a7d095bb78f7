// @ts-check
// The thumbnails of this session's photos, with what was said of each, and how far the queue is.
import { $, button, part, percent, plain } from "./words.js";

/** @typedef {import("./queue.js").Photo} Photo */

/** Why a photo failed, in a word or two; all of it is told by a tap on it. @type {Record<string, string>} */
const WHY = { "invalid-image": "no photo", "too-large": "too large", empty: "empty", gone: "moved" };
const SAID = { waiting: "waits", running: "is being looked at", failed: "failed", stopped: "stopped", done: "" };

/** What was drawn of each photo, so that none is decoded again. @type {WeakMap<Photo, HTMLElement>} */
const drawn = new WeakMap();

/** @type {(photos: Photo[], shown: Photo | null, choose: (photo: Photo) => void) => void} */
export function drawStrip(photos, shown, choose) {
  $("session").hidden = photos.length === 0 || (photos.length === 1 && shown !== null && shown.state === "done");
  const entries = photos.map((photo) => {
    const entry = drawn.get(photo) ?? thumbnail(photo, choose);
    drawn.set(photo, entry);
    update(entry, photo, photo === shown);
    return entry;
  });
  const there = [...$("strip").children];
  if (entries.length !== there.length || entries.some((entry, index) => entry !== there[index])) {
    $("strip").replaceChildren(...entries);
  }
  const open = photos.filter(({ state }) => state === "waiting" || state === "running").length;
  $("progress").hidden = open === 0 || photos.length < 2;
  $("progress").max = photos.length;
  $("progress").value = photos.length - open;
}

/** @type {(photo: Photo, choose: (photo: Photo) => void) => HTMLElement} */
function thumbnail(photo, choose) {
  const image = document.createElement("img");
  image.alt = "";
  image.decoding = "async";
  image.addEventListener("error", () => {
    const heatmap = photo.heatmaps.get(photo.explained); // of a format that this browser does not show
    image.hidden = !heatmap; // a tile is in its place
    if (heatmap && !image.src.startsWith("data:")) image.src = `data:${heatmap.media_type};base64,${heatmap.image}`;
  });
  image.src = photo.url;
  const says = part("span", "", "");
  says.dir = "auto";
  const item = button("", "", () => choose(photo));
  item.append(image, says);
  const entry = document.createElement("li");
  entry.append(item);
  return entry;
}

/** @type {(entry: HTMLElement, photo: Photo, shown: boolean) => void} */
function update(entry, photo, shown) {
  const { answer, file, problem, state } = photo;
  const item = /** @type {HTMLElement} */ (entry.firstElementChild);
  const [image, says] = /** @type {[HTMLImageElement, HTMLElement]} */ (/** @type {unknown} */ (item.children));
  const ended = state === "failed" || state === "stopped"; // an answer that there was before is shown by a tap
  const short = WHY[problem?.slug ?? ""] ?? SAID[state];
  const said = answer && !ended ? answerOf(photo) : problem ? `${short}. ${problem.message}` : short;
  item.className = `thumbnail ${state}`;
  item.title = problem ? `${file.name}: ${problem.message}` : file.name;
  item.setAttribute("aria-label", `${file.name}: ${said}`);
  shown ? item.setAttribute("aria-current", "true") : item.removeAttribute("aria-current");
  says.textContent = ended ? short : answer ? (answer.reply.status === "unknown" ? "?" : plain(answer.reply.label)) : "…";
  if (problem?.slug === "invalid-image") image.hidden = true; // of a file that is cut off a browser shows what there is
  if (state === "done" && image.complete && image.naturalWidth === 0) image.dispatchEvent(new Event("error"));
}

/** @param {Photo} photo */
function answerOf({ answer }) {
  if (!answer) return "";
  const { status, label, confidence } = answer.reply;
  return status === "unknown" ? "I don’t know" : `${plain(label)}, ${percent(confidence)}`;
}
