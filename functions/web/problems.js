// @ts-check
// What went wrong, and the tokens that the function asks for.
import { session } from "./api.js";
import { $ } from "./words.js";

/** @param {any} error */
export function tell(error) {
  $("empty").hidden = error.slug !== "not-ready";
  $("problem").hidden = error.slug === "not-ready";
  $("detail").textContent = error.message;
  $("again").hidden = !error.passes;
  $("status").textContent = "";
  if (error.slug === "unauthenticated") askForTokens(error.wanted);
}

export function calm() {
  $("problem").hidden = true;
  $("empty").hidden = true;
  $("tokens").hidden = true;
}

/** @param {string} wanted */
function askForTokens(wanted) {
  $("tokens").hidden = false;
  $("user").hidden = !wanted.includes("Bearer");
  $("app").hidden = !wanted.includes("FirebaseAppCheck");
  // Nothing is wrong yet where none was given.
  $("problem").hidden = Object.keys(session.tokens).length === 0;
}

/** Call `again` whenever what was asked is to be asked once more.
 * @param {() => void} again */
export function onAgain(again) {
  for (const id of ["retry", "again"]) $(id).addEventListener("click", again);
  $("tokens").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const [user, app] = ["user", "app"].map((id) => $(id).control.value.trim());
    session.tokens = { ...(user && { Authorization: `Bearer ${user}` }), ...(app && { "X-Firebase-AppCheck": app }) };
    again();
  });
}
