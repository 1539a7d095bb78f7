// @ts-check
// Photo and heatmap: one over the other, side by side, or in turns.
import { $, still } from "./words.js";

const EVERY = 900; // milliseconds; well below three flashes a second
/** @type {ReturnType<typeof setInterval> | undefined} */
let turning;

export const mode = () => /** @type {any} */ ($("modes").querySelector(":checked")).value;

/** Put the two pictures as the chosen mode has them. */
export function arrange() {
  const alone = $("overlay").classList.contains("alone"); // the browser cannot show the photo
  const chosen = alone ? "blend" : mode();
  clearInterval(turning);
  $("tools").hidden = alone || $("overlay").hidden;
  $("stack").classList.toggle("beside", chosen === "beside");
  $("slider").hidden = chosen !== "blend";
  $("swap").hidden = chosen !== "flicker";
  $("overlay").style.opacity = chosen === "blend" && !alone ? `${Number($("strength").value) / 100}` : "1";
  if (chosen === "flicker" && !still()) turning = setInterval(turn, EVERY); // else by the button
  name();
}

/** Show the other one of the two. */
export function turn() {
  $("overlay").style.opacity = $("overlay").style.opacity === "0" ? "1" : "0";
  name();
}

function name() {
  $("swap").textContent = $("overlay").style.opacity === "0" ? "Show the heatmap" : "Show the photo alone";
}

/** @param {string} value */
export function setMode(value) {
  $("modes").querySelector(`[value=${value}]`).checked = true;
  arrange();
}

$("modes").addEventListener("change", arrange);
$("swap").addEventListener("click", () => {
  clearInterval(turning); // whoever takes it in hand wants it to stay
  turn();
});
$("strength").addEventListener("input", () => {
  $("overlay").style.opacity = `${Number($("strength").value) / 100}`;
  $("percent").textContent = `${$("strength").value} %`;
});
$("shown").addEventListener("error", () => {
  $("shown").hidden = true; // a format that the server reads and this browser does not
  $("overlay").classList.add("alone");
  arrange();
});
$("shown").addEventListener("load", () => {
  $("overlay").classList.remove("alone");
  arrange();
});
for (const id of ["shown", "overlay"]) {
  $(id).addEventListener("load", () => {
    $("stack").style.setProperty("--ratio", String($(id).naturalWidth / $(id).naturalHeight));
  });
}
