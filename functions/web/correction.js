// @ts-check
// "That is wrong": a tap opens it, a second one sends what is right, with the photo only where that is tapped.
import { ask } from "./api.js";
import { known } from "./labels.js";
import { tell } from "./problems.js";
import { $, button, named, part, plain } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */
/** @typedef {import("./queue.js").Photo} Photo */

const OFFERED = 4;

/** @param {Photo} photo that the correction is about */
export function openCorrection(photo) {
  const { answer } = photo;
  if (!answer) return;
  // "I don't know" claims no label, so that the nearest one may be right.
  const claimed = answer.reply.status === "unknown" ? null : answer.reply.label;
  const first = answer.reply.predictions.map(({ label }) => label).filter((label) => label !== claimed);
  const list = document.createElement("ul");
  for (const label of first.slice(0, OFFERED)) list.append(choice(photo, label, [named("", label)]));
  list.append(choice(photo, null, [part("span", "", "None of its labels")]));
  const title = part("h3", "", "What is it really?");
  title.tabIndex = -1; // it gets the focus: Enter, pressed too early, is to send nothing
  $("correction").replaceChildren(
    title,
    part("p", "soft", "A tap on the label sends it. “with photo” sends the photo too: you agree that it is kept, to learn from."),
    list,
    another(photo),
  );
  $("correction").hidden = false;
  $("wrong").setAttribute("aria-expanded", "true");
  $("thanks").textContent = "";
  title.focus();
}

export function closeCorrection() {
  $("correction").hidden = true;
  $("wrong").setAttribute("aria-expanded", "false");
  $("thanks").textContent = "";
}

/** @type {(photo: Photo, label: string | null, name: Node[]) => HTMLElement} */
function choice(photo, label, name) {
  const said = label === null ? "None of its labels" : plain(label);
  const alone = button("", "", () => send(photo, label, false));
  alone.append(...name);
  const along = button("quiet", "with photo", () => send(photo, label, true));
  along.setAttribute("aria-label", `${said}, with photo, which may be kept`);
  const item = document.createElement("li");
  item.append(alone, along);
  return item;
}

/** Any other label, also one that the model does not know.
 * @param {Photo} photo */
function another(photo) {
  const form = document.createElement("form");
  const label = part("label", "", "Something else");
  label.setAttribute("for", "right-label");
  const input = document.createElement("input");
  input.id = "right-label";
  input.maxLength = 200;
  input.dir = "auto";
  input.required = true;
  input.setAttribute("list", "labels");
  input.autocomplete = "off";
  const along = button("quiet", "with photo", () => form.reportValidity() && send(photo, known(input.value), true));
  along.setAttribute("aria-label", "Send it with photo, which may be kept");
  const field = part("span", "field", "");
  field.append(input, part("button", "", "Send"), along);
  form.append(label, field);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(photo, known(input.value), false);
  });
  return form;
}

/** @type {(photo: Photo, label: string | null, consent: boolean) => Promise<void>} */
async function send(photo, label, consent) {
  const { answer, file } = photo;
  if (!answer) return;
  const { request_id, model, label: seen, confidence, status } = answer.reply;
  const { version, channel } = model;
  /** @type {Schemas["Seen"]} */
  const said = { version, label: seen, confidence, status };
  if (channel === "production" || channel === "canary") said.channel = channel;
  try {
    const image = consent ? { image: await inBase64(file) } : {};
    const correction = { label, request_id, consent, seen: said, ...image };
    const headers = { "Content-Type": "application/json" };
    const kept = await ask("feedback", { method: "POST", headers, body: JSON.stringify(correction) });
    closeCorrection();
    const what = label === null ? "none of its labels" : plain(label);
    $("thanks").textContent = `Thank you: ${what}${kept.photo ? ", with the photo" : ""}.${kept.known ? " That was said before." : ""}`;
    $("wrong").focus();
  } catch (error) {
    tell(error, () => send(photo, label, consent), file.name);
  }
}

/** @param {File} file
 * @returns {Promise<string>} */
function inBase64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result).split(",")[1]);
    reader.onerror = () => failed(new Error("The photo cannot be read again: choose it once more."));
    reader.readAsDataURL(file);
  });
}
