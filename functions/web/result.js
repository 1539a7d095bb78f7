// @ts-check
// What the model says of a photo, and what speaks for each label.
import { showVersion } from "./about.js";
import { $, part, percent, plain } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */

let photoUrl = "";

/** Show a photo of which nothing is known yet.
 * @param {File} photo */
export function showPhoto(photo) {
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
}

/** @type {(reply: Schemas["Prediction"], first: boolean, explain: (label: string) => void) => void} */
export function showReply(reply, first, explain) {
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
  $("predictions").replaceChildren(...reply.predictions.map((one, place) => row(one, place, label, explain)));
  $("status").classList.add("said");
  $("status").textContent = first
    ? unknown ? "I don’t know: not like anything it was trained on." : `${answer}.`
    : `The heatmap now shows what speaks for ${plain(label)}.`;
  const pressed = $("predictions").querySelector("[aria-pressed=true]");
  if (!first && pressed) pressed.focus(); // the buttons were made anew
}

/** @type {(one: Schemas["Labelled"], place: number, explained: string, explain: (label: string) => void) => HTMLElement} */
function row({ label, confidence }, place, explained, explain) {
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
  why.addEventListener("click", () => explain(label));
  item.append(part("span", "name", plain(label)), part("span", "share", percent(confidence)), bar, why);
  return item;
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
