// @ts-check
// The try-it page: one photo, what the model says, and why. Each part of it has a file of its own.
import { look, onModel } from "./about.js";
import { aborted, ask } from "./api.js";
import { onPhotos } from "./photo.js";
import { calm, onAgain, tell } from "./problems.js";
import { showPhoto, showReply } from "./result.js";
import { $, plain } from "./words.js";

/** @type {File | null} */
let photo = null; // that is shown
/** @type {string | null} */
let asked = null; // the label that the last request was about
/** @type {AbortController | null} */
let running = null; // of the request under way

/** @param {File[]} files */
function choose(files) {
  if (files.length > 1) return tell(new Error("One photo at a time, please."));
  photo = files[0];
  showPhoto(photo);
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
    /** @type {{ [name in keyof import("./api.js").Operations["predict"]["parameters"]["query"]]: string }} */
    const options = { top_k: "5", gradcam, gradcam_size: "1024", tta: $("tta").checked ? "1" : "0" };
    const reply = await ask(`?${new URLSearchParams(options)}`, { method: "POST", body, signal: mine.signal });
    if (mine === running) showReply(reply, label === null, classify);
  } catch (error) {
    if (aborted(error)) return;
    const { slug } = /** @type {import("./api.js").Problem} */ (error);
    if (!occlusion && slug === "cannot-explain") return classify(label, true);
    if (label === null) $("result").hidden = true;
    tell(error);
  }
}

onPhotos(choose);
onModel(() => photo && classify(null));
onAgain(() => (photo ? classify(asked) : look()));
$("tta").addEventListener("change", () => photo && classify(null));
look();
