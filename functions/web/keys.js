// @ts-check
// Keyboard shortcuts: single keys, which can be turned off for those whom they disturb.
import { openDialog } from "./dialog.js";
import { $, part } from "./words.js";

/** @typedef {{ keys: string[], does: string, act: (key: string) => void }} Shortcut */

let on = true;

/** @param {Shortcut[]} shortcuts */
export function onKeys(shortcuts) {
  const all = [...shortcuts, { keys: ["?"], does: "This list", act: () => list(all) }];
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const writes = target.matches("input:not([type=radio], [type=checkbox], [type=range], [type=file]), select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || writes) return;
    if ($("dialog").open || (!on && event.key !== "?")) return;
    if (event.key.startsWith("Arrow") && target.matches("input:not([type=file])")) return; // which it moves
    const found = all.find(({ keys }) => keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.act(event.key);
  });
  $("help").addEventListener("click", () => list(all));
}

/** @param {Shortcut[]} all */
function list(all) {
  const table = document.createElement("dl");
  for (const { keys, does } of all) {
    const term = document.createElement("dt");
    const shown = keys.length > 2 ? [keys[0], "to", keys[keys.length - 1]] : keys;
    term.append(...shown.flatMap((key) => [key === "to" ? " to " : part("kbd", "", NAMES[key] ?? key), " "]));
    table.append(term, part("dd", "", does));
  }
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = on;
  box.addEventListener("change", () => (on = box.checked));
  label.append(box, " Single keys do something");
  openDialog("Keyboard shortcuts", [table, label]);
}

/** @type {Record<string, string>} */
const NAMES = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
