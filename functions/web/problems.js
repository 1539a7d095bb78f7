// @ts-check
// What went wrong, and the tokens that the function asks for.
import { session } from "./api.js";
import { $ } from "./words.js";

/** What is done once more when its user says so. */
let retry = () => {};
/** @type {ReturnType<typeof setInterval> | undefined} */
let counting;
/** What is told of files, each once. @type {Set<string>} */
const lines = new Set();

/** Say it, in view; below what was said of other files.
 * @param {any} error a Problem
 * @param {() => void} again asks once more
 * @param {string} [about] the file that it is about */
export function tell(error, again, about) {
  const already = !$("problem").hidden;
  retry = again;
  clearInterval(counting);
  $("empty").hidden = error.slug !== "not-ready";
  $("problem").hidden = error.slug === "not-ready";
  if (!about) lines.clear();
  lines.add(about ? `${about}: ${error.message}` : error.message);
  $("detail").textContent = [...lines].join("\n");
  $("again").hidden = !error.passes;
  $("again").textContent = "Try again";
  if (error.passes && error.wait) countDown(error.wait);
  if (error.slug === "unauthenticated") askForTokens(error.wanted);
  if (!already) $("problem").scrollIntoView({ block: "nearest" });
}

export function calm() {
  clearInterval(counting);
  lines.clear();
  for (const id of ["problem", "empty", "tokens", "not-known"]) $(id).hidden = true;
}

/** The server has said when: go on by itself then.
 * @param {number} seconds */
function countDown(seconds) {
  const until = performance.now() + 1000 * seconds;
  const show = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    if (left <= 0) return again();
    $("again").textContent = `Try again (by itself in ${left} s)`;
  };
  counting = setInterval(show, 1000);
  show();
}

function again() {
  clearInterval(counting);
  retry();
}

/** @param {string} wanted */
function askForTokens(wanted) {
  $("tokens").hidden = false;
  $("user").hidden = !wanted.includes("Bearer");
  $("app").hidden = !wanted.includes("FirebaseAppCheck");
  // Nothing is wrong yet where none was given.
  $("problem").hidden = Object.keys(session.tokens).length === 0;
}

for (const id of ["retry", "again"]) $(id).addEventListener("click", again);
$("tokens").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  const [user, app] = ["user", "app"].map((id) => $(id).control.value.trim());
  session.tokens = { ...(user && { Authorization: `Bearer ${user}` }), ...(app && { "X-Firebase-AppCheck": app }) };
  again();
});
