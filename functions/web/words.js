// @ts-check
// How things are said, and the small parts that the page is made of.

/** @type {(id: string) => any} */
export const $ = (id) => document.getElementById(id);

/** @param {string} label */
export const plain = (label) => label.replaceAll("_", " ");

/** @param {number} share */
export const percent = (share) => (share > 0 && share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`);

/** @param {string} time RFC 3339 */
export const day = (time) =>
  new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });

/** How sure an answer is, in words: of its confidence and that of the next label.
 * @type {(confidence: number, second: number) => string} */
export function sureness(confidence, second) {
  if (confidence >= 0.95) return "Very sure";
  if (confidence >= 0.8) return "Quite sure";
  if (confidence - second < 0.1) return "Undecided between the first two";
  return confidence >= 0.5 ? "Fairly sure" : "Not sure, but likelier than any other";
}

/** @type {(tag: string, name: string, text: string) => HTMLElement} */
export function part(tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** @type {(name: string, text: string, click: () => void) => HTMLButtonElement} */
export function button(name, text, click) {
  const element = /** @type {HTMLButtonElement} */ (part("button", name, text));
  element.type = "button";
  element.addEventListener("click", click);
  return element;
}

/** A label's name, which may be written from the right to the left.
 * @type {(name: string, label: string) => HTMLElement} */
export function named(name, label) {
  const element = part("span", name, plain(label));
  element.dir = "auto";
  return element;
}

/** Whether its user wants nothing to move. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
