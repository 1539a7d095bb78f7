// @ts-check
// The thumbnails of this session's photos, with what was said of each, and how far the queue is.
import { $, button, part, percent, plain } from "./words.js";

/** @typedef {import("./queue.js").Photo} Photo */

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
    if (heatmap && !image.src.startsWith("data:")) image.src = `data:${heatmap.media_type};base64,${heatmap.image}`;
  });
  image.src = photo.url;
  const says = part("span", "", "");
  says.dir = "auto";
  const item = button("", "", () => choose(photo));
  item.title = photo.file.name;
  item.append(image, says);
  const entry = document.createElement("li");
  entry.append(item);
  return entry;
}

/** @type {(entry: HTMLElement, photo: Photo, shown: boolean) => void} */
function update(entry, photo, shown) {
  const { answer, file, state } = photo;
  const item = /** @type {HTMLElement} */ (entry.firstElementChild);
  const [image, says] = /** @type {[HTMLImageElement, HTMLElement]} */ (/** @type {unknown} */ (item.children));
  item.className = `thumbnail ${state}`;
  item.setAttribute("aria-label", `${file.name}: ${answer ? answerOf(photo) : SAID[state]}`);
  shown ? item.setAttribute("aria-current", "true") : item.removeAttribute("aria-current");
  says.textContent = answer ? (answer.reply.status === "unknown" ? "?" : plain(answer.reply.label)) : "…";
  if (state === "failed" || state === "stopped") {
    says.textContent = SAID[state];
    item.setAttribute("aria-label", `${file.name}: ${SAID[state]}`);
  }
  if (state === "done" && image.complete && image.naturalWidth === 0) image.dispatchEvent(new Event("error"));
}

/** @param {Photo} photo */
function answerOf({ answer }) {
  if (!answer) return "";
  const { status, label, confidence } = answer.reply;
  return status === "unknown" ? "I don’t know" : `${plain(label)}, ${percent(confidence)}`;
}
