// @ts-check
// What the model says of a photo, and what speaks for each label.
import { arrange } from "./compare.js";
import { $, button, named, part, percent, plain, sureness } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */
/** @typedef {import("./queue.js").Photo} Photo */

/** Show a photo that has an answer, in place of the one before.
 * @type {(photo: Photo, explain: (label: string) => void) => void} */
export function showResult(photo, explain) {
  const { answer, file, url, explained } = photo;
  if (!answer) return;
  const { reply } = answer;
  if ($("shown").src !== url) {
    $("shown").hidden = false;
    $("shown").src = url;
    $("overlay").classList.remove("alone");
  }
  $("shown").alt = `Your photo ${file.name}`;
  const heatmap = photo.heatmaps.get(explained);
  $("overlay").hidden = !heatmap;
  if (heatmap) {
    $("overlay").src = `data:${heatmap.media_type};base64,${heatmap.image}`;
    $("overlay").alt = `Heatmap of what speaks for ${plain(explained)}`;
    $("caption").textContent = `Bright: what speaks for ${plain(explained)}.`;
    $("save").href = $("overlay").src;
    const ending = heatmap.media_type.split("/")[1].replace("jpeg", "jpg");
    $("save").download = `${file.name.replace(/\.[^.]*$/, "")}-${explained}.${ending}`;
  }
  const unknown = reply.status === "unknown";
  $("result").classList.toggle("doubtful", unknown);
  $("label").textContent = unknown ? "I don’t know" : plain(reply.label);
  $("sure").hidden = $("doubt").hidden = false;
  $("sure").hidden = unknown;
  $("doubt").hidden = !unknown;
  $("label").setAttribute("aria-describedby", unknown ? "doubt" : "sure");
  $("sure").textContent = `${sureness(reply.confidence, reply.predictions[1]?.confidence ?? 0)}: ${percent(reply.confidence)}`;
  $("doubt").textContent =
    `This photo is not like anything this model was trained on (score ${reply.score.toFixed(2)} of 1). ` +
    "The labels below are only the nearest that it has.";
  $("predictions").replaceChildren(...listed(reply, explained).map((one, place) => row(one, place, explained, explain)));
  $("result").hidden = false;
  document.body.classList.add("photo-shown");
  arrange();
}

/** The first labels, and the one that is explained where it is another.
 * @type {(reply: Schemas["Prediction"], explained: string) => { label: string, confidence?: number }[]} */
function listed({ predictions }, explained) {
  const first = predictions.slice(0, 5);
  if (first.some(({ label }) => label === explained)) return first;
  return [...first, predictions.find(({ label }) => label === explained) ?? { label: explained }];
}

/** @type {(one: { label: string, confidence?: number }, place: number, explained: string, explain: (label: string) => void) => HTMLElement} */
function row({ label, confidence }, place, explained, explain) {
  const item = document.createElement("li");
  const bar = part("span", "bar", "");
  bar.setAttribute("aria-hidden", "true");
  const share = document.createElement("i");
  share.style.width = `${100 * (confidence ?? 0)}%`;
  bar.append(share);
  const why = button("", place === 0 ? "Why?" : "Why not?", () => explain(label));
  why.setAttribute("aria-label", place === 0 ? `Why ${plain(label)}?` : `Why not ${plain(label)}?`);
  why.setAttribute("aria-pressed", String(label === explained));
  item.append(named("name", label), part("span", "share", confidence === undefined ? "less" : percent(confidence)), bar, why);
  return item;
}

/** What a screen reader is told of an answer.
 * @param {Schemas["Prediction"]} reply */
export const inWords = (reply) =>
  reply.status === "unknown"
    ? "I don’t know: not like anything it was trained on."
    : `${plain(reply.label)}, ${percent(reply.confidence)}.`;
