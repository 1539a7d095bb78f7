// @ts-check
// The page's one dialog: its content changes, and how it is opened and closed is the browser's.
import { $ } from "./words.js";

/** Called once when the dialog closes. @type {(() => void) | undefined} */
let ended;

/** @type {(title: string, content: Node[], closed?: () => void) => void} */
export function openDialog(title, content, closed) {
  if ($("dialog").open) finish(); // its close event comes when the next one is open already
  $("dialog").close();
  ended = closed;
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...content);
  $("dialog").showModal();
}

export const closeDialog = () => $("dialog").close();

function finish() {
  ended?.();
  ended = undefined;
  $("dialog-body").replaceChildren();
}

$("dialog").addEventListener("close", () => $("dialog").open || finish());
$("dialog").addEventListener("click", (/** @type {MouseEvent} */ event) => {
  if (event.target === $("dialog")) closeDialog(); // beside it
});
