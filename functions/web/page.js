// @ts-check
// The try-it page: photos, what the model says, and why. Each part of it has a file of its own; this one joins them.
import { look, noteVersion, onKnown, onModel, serving, setInAddress } from "./about.js";
import { aborted, session } from "./api.js";
import { onCamera, openCamera } from "./camera.js";
import { mode, setMode, turn } from "./compare.js";
import { closeCorrection, openCorrection } from "./correction.js";
import { onKeys } from "./keys.js";
import { known, whyNotKnown } from "./labels.js";
import { onPhotos } from "./photo.js";
import { calm, tell } from "./problems.js";
import { Queue } from "./queue.js";
import { predict } from "./request.js";
import { inWords, showResult } from "./result.js";
import { showSamples, sourceOf, takeFromAddress } from "./samples.js";
import { openSnippets } from "./snippets.js";
import { drawStrip } from "./strip.js";
import { $, plain, still } from "./words.js";

/** @typedef {import("./queue.js").Photo} Photo */

const LONG = 3000; // milliseconds after which it is said that a request takes long
/** @type {Photo | null} */
let shown = null;
/** @type {Photo | null} */
let wanted = null; // to be shown as soon as it has an answer
/** @type {AbortController | null} */
let explaining = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let slow;

const options = (/** @type {AbortSignal} */ signal) => ({ tta: $("tta").checked, signal });
const queue = new Queue(async (photo, signal) => await predict(photo.file, null, options(signal)), changed, ended);

/** @param {File[]} files */
function take(files) {
  calm();
  const sample = sourceOf(files[0]);
  const same = (/** @type {Photo} */ { file }) =>
    sourceOf(file)?.url === sample?.url && sourceOf(file)?.version === sample?.version;
  const before = sample && queue.photos.find(same); // a sample that is clicked again is no second photo
  wanted = before ?? queue.add(files)[0];
  if (before) queue.redo([before]);
  changed();
}

/** @param {File[]} files */
function takeOwn(files) {
  setInAddress("sample", "");
  take(files);
}

function changed() {
  drawStrip(queue.photos, shown, choose);
  const running = queue.running?.photo;
  busy(running ? `Looking at ${running.file.name}${place(running)}…` : "");
}

/** @param {Photo} photo */
function place(photo) {
  const open = queue.photos.filter(({ state }) => state === "waiting" || state === "running").length;
  return open < 2 ? "" : `, ${queue.photos.indexOf(photo) + 1} of ${queue.photos.length}`;
}

/** Say what is being done, and after a while that it takes long; "": nothing is.
 * @param {string} doing */
function busy(doing) {
  const same = $("status").textContent === doing;
  if (doing) $("status").textContent = doing;
  else if (!$("toast").classList.contains("said")) $("status").textContent = "";
  $("toast").classList.toggle("said", !doing);
  if (same) return;
  clearTimeout(slow);
  $("long").hidden = true;
  if (doing) slow = setTimeout(() => {
    $("long").textContent = "This takes longer than usual. A server that has slept needs a few seconds to wake.";
    $("long").hidden = false;
  }, LONG);
}

/** What a screen reader is told; the eye has it already.
 * @param {string} text */
function say(text) {
  $("toast").classList.add("said");
  $("status").textContent = text;
}

/** @param {Photo} photo */
function ended(photo) {
  const { answer, problem } = photo;
  if (photo.state === "done" && answer) {
    noteVersion(answer.reply.model);
    photo.heatmaps.clear();
    photo.explained = "";
    keepHeatmap(photo, answer.reply.gradcam);
    if (!shown || photo === wanted || photo === shown) {
      if (!show(photo)) say(inWords(answer.reply));
    }
  } else {
    if (problem) tell(problem, resume, photo.file.name);
    if (photo === wanted) wanted = queue.photos.find(({ state }) => state === "waiting") ?? null;
  }
}

/** @type {(photo: Photo, heatmap: import("./queue.js").Heatmap | undefined) => void} */
function keepHeatmap(photo, heatmap) {
  if (!heatmap) return;
  photo.heatmaps.set(heatmap.label, heatmap);
  photo.explained = heatmap.label;
}

function resume() {
  calm();
  if (!serving.model) look();
  const unfinished = queue.unfinished();
  wanted ??= unfinished[0] ?? null;
  queue.redo(unfinished);
}

/** Show a photo's answer; whether that got the focus, which a screen reader tells of by itself.
 * @param {Photo} photo */
function show(photo) {
  const leaves = $("samples").contains(document.activeElement); // the answer is elsewhere
  if (photo !== shown) closeCorrection();
  shown = photo;
  if (photo === wanted) wanted = null;
  showResult(photo, explain);
  $("device").after($("samples"), $("hero")); // more to try, and what serves, are below the answer
  if (session.litert) import("./device.js").then(({ offer }) => offer(photo));
  document.title = `Pointer: ${$("label").textContent}`;
  drawStrip(queue.photos, shown, choose);
  const { top } = $("result").getBoundingClientRect();
  if (top > innerHeight * 0.7 || top < 0) $("choose").scrollIntoView({ behavior: still() ? "auto" : "smooth" });
  if (leaves) $("label").focus({ preventScroll: true });
  return leaves;
}

/** A thumbnail was clicked: show its answer, or have one made.
 * @param {Photo} photo */
function choose(photo) {
  calm();
  const { answer, file, problem, state } = photo;
  if (!answer && problem && !queue.unfinished().includes(photo)) return tell(problem, resume, file.name);
  wanted = photo;
  if (answer) show(photo);
  else if (state === "failed" || state === "stopped") queue.redo([photo]);
}

/** Show what speaks for a label, of the photo that is shown.
 * @param {string} label */
async function explain(label) {
  const photo = shown;
  if (!photo?.answer) return;
  calm();
  explaining?.abort();
  const mine = (explaining = new AbortController());
  try {
    if (!photo.heatmaps.has(label)) {
      busy(`Looking for ${plain(label)}…`);
      const answer = await predict(photo.file, label, options(mine.signal));
      photo.answer = answer;
      noteVersion(answer.reply.model);
      keepHeatmap(photo, answer.reply.gradcam);
    } else photo.explained = label;
    if (photo !== shown) return;
    show(photo);
    say(`The heatmap now shows what speaks for ${plain(photo.explained)}.`);
    $("predictions").querySelector("[aria-pressed=true]")?.focus(); // the buttons were made anew
  } catch (error) {
    if (!aborted(error)) tell(error, () => explain(label), photo.file.name);
  } finally {
    if (mine === explaining) {
      explaining = null;
      if (!queue.running) busy("");
    }
  }
}

function cancel() {
  explaining?.abort();
  queue.cancel();
}

function forget() {
  queue.forget();
  shown = wanted = null;
  $("result").hidden = $("device").hidden = true;
  $("choose").before($("hero"));
  $("problem").after($("samples"));
  document.title = "Pointer: try it";
  document.body.classList.remove("photo-shown");
  setInAddress("sample", "");
  calm();
  $("file").focus();
}

/** @param {number} by */
function step(by) {
  const answered = queue.photos.filter(({ answer }) => answer);
  const next = answered[answered.findIndex((photo) => photo === shown) + by];
  if (next) choose(next);
}

onPhotos(takeOwn);
onCamera(takeOwn);
onModel(() => shown && queue.redo([(wanted = shown)]));
$("tta").addEventListener("change", () => shown && queue.redo([(wanted = shown)]));
$("cancel").addEventListener("click", cancel);
$("forget").addEventListener("click", forget);
$("wrong").addEventListener("click", () => ($("correction").hidden && shown ? openCorrection(shown) : closeCorrection()));
$("code").addEventListener("click", () => shown && openSnippets(shown));
$("other").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  const typed = $("other-label").value;
  $("not-known").textContent = whyNotKnown(typed);
  $("not-known").hidden = !$("not-known").textContent;
  if (typed.trim() && $("not-known").hidden) explain(known(typed));
});
$("other-label").addEventListener("input", () => ($("not-known").hidden = true));
onKeys([
  { keys: ["o"], does: "Choose photos", act: () => $("file").click() },
  { keys: ["c"], does: "Use the camera", act: () => openCamera(takeOwn) },
  { keys: ["ArrowLeft", "ArrowRight"], does: "The photo before or after", act: (key) => step(key === "ArrowLeft" ? -1 : 1) },
  { keys: ["1", "2", "3", "4", "5"], does: "Why, or why not, this label", act: (key) => $("predictions").querySelectorAll("button")[Number(key) - 1]?.click() },
  { keys: ["/"], does: "Why not another label", act: () => $("result").hidden || $("other-label").focus() },
  { keys: ["b"], does: "Overlay, or photo and heatmap side by side", act: () => setMode(mode() === "beside" ? "blend" : "beside") },
  { keys: ["f"], does: "Photo and heatmap in turns", act: () => (mode() === "flicker" && still() ? turn() : setMode(mode() === "flicker" ? "blend" : "flicker")) },
  { keys: ["s"], does: "Save the overlay", act: () => $("result").hidden || $("save").click() },
  { keys: ["w"], does: "Say that it is wrong", act: () => $("result").hidden || $("wrong").click() },
  { keys: ["k"], does: "Copy the request as code", act: () => $("result").hidden || $("code").click() },
  { keys: ["Escape"], does: "Cancel what is being looked at", act: cancel },
]);
let first = true;
onKnown(() => {
  if (first) takeFromAddress(take);
  first = false;
  showSamples(take);
});
look();
