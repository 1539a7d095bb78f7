// @ts-check
// How things are said, and the small parts that pages are made of.

/** @type {(id: string) => any} */
export const $ = (id) => document.getElementById(id);

/** @param {string} label */
export const plain = (label) => label.replaceAll("_", " ");

/** @param {number} share */
export const percent = (share) => (share > 0 && share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`);

/** @type {(tag: string, name: string, text: string) => HTMLElement} */
export function part(tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}
