// @ts-check
// The thumbnails of this session's photos, with what was said of each, and how far the queue is.
import { $, button, named, part, percent, plain } from "./words.js";

/** @typedef {import("./queue.js").Photo} Photo */

const SAID = { waiting: "waits", running: "is being looked at", failed: "failed", stopped: "stopped" };

/** @type {(photos: Photo[], shown: Photo | null, choose: (photo: Photo) => void) => void} */
export function drawStrip(photos, shown, choose) {
  $("session").hidden = photos.length === 0 || (photos.length === 1 && shown !== null && shown.state === "done");
  const focused = [...$("strip").querySelectorAll("button")].indexOf(document.activeElement);
  $("strip").replaceChildren(...photos.map((photo) => thumbnail(photo, photo === shown, choose)));
  if (focused >= 0) $("strip").querySelectorAll("button")[focused]?.focus();
  const open = photos.filter(({ state }) => state === "waiting" || state === "running").length;
  $("progress").hidden = open === 0 || photos.length < 2;
  $("progress").max = photos.length;
  $("progress").value = photos.length - open;
}

/** @type {(photo: Photo, shown: boolean, choose: (photo: Photo) => void) => HTMLElement} */
function thumbnail(photo, shown, choose) {
  const { file, answer, state } = photo;
  const told = answer ? answerOf(photo) : SAID[state === "done" ? "waiting" : state];
  const item = button(`thumbnail ${state}`, "", () => choose(photo));
  item.setAttribute("aria-label", `${file.name}: ${told}`);
  item.title = file.name;
  if (shown) item.setAttribute("aria-current", "true");
  const image = document.createElement("img");
  image.alt = "";
  image.src = photo.url;
  image.addEventListener("error", () => {
    const heatmap = photo.heatmaps.get(photo.explained); // of a format that this browser does not show
    heatmap ? (image.src = `data:${heatmap.media_type};base64,${heatmap.image}`) : image.remove();
  }, { once: true });
  const says = answer ? named("", answer.reply.status === "unknown" ? "?" : answer.reply.label) : part("span", "", "…");
  if (state === "failed" || state === "stopped") says.textContent = SAID[state];
  item.append(image, says);
  const entry = document.createElement("li");
  entry.append(item);
  return entry;
}

/** @param {Photo} photo */
function answerOf({ answer }) {
  if (!answer) return "";
  const { status, label, confidence } = answer.reply;
  return status === "unknown" ? "I don’t know" : `${plain(label)}, ${percent(confidence)}`;
}
