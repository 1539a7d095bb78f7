// @ts-check
// The labels that the model knows, as people write them.
import { serving } from "./about.js";
import { plain } from "./words.js";

/** @param {string} typed */
const simple = (typed) => plain(typed).trim().toLowerCase();

/** The model's own spelling of a label, where it knows it.
 * @param {string} typed */
export const known = (typed) => serving.model?.labels.find((label) => simple(label) === simple(typed)) ?? typed.trim();

/** Why a label cannot be asked about, with the one that was probably meant; "" where it can.
 * @param {string} typed */
export function whyNotKnown(typed) {
  const labels = serving.model?.labels ?? [];
  if (!typed.trim() || labels.length === 0 || labels.includes(known(typed))) return "";
  const near = nearest(simple(typed), labels);
  const meant = near === undefined ? "Choose one of those that it offers." : `Did you mean “${plain(near)}”?`;
  return `It has no label “${typed.trim()}”. ${meant}`;
}

/** The label that has these words in it, or else is spelt nearly so.
 * @type {(typed: string, labels: string[]) => string | undefined} */
function nearest(typed, labels) {
  const far = labels.map((label) => (simple(label).includes(typed) ? 0 : edits(typed, simple(label))));
  const least = Math.min(...far);
  return least <= Math.max(1, typed.length / 3) ? labels[far.indexOf(least)] : undefined;
}

/** How many letters have to be put in, left out or replaced to make one word of another (Levenshtein's distance).
 * @type {(one: string, other: string) => number} */
function edits(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, place) => place);
  for (let place = 1; place <= one.length; place++) {
    const next = [place];
    for (let at = 1; at <= other.length; at++) {
      next.push(Math.min(next[at - 1] + 1, row[at] + 1, row[at - 1] + (one[place - 1] === other[at - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[other.length];
}
