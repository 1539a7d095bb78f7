// @ts-check
// What serves: its labels, version and figures, which models there are, and what whoever made it says of it.
import { ask, fetched, session } from "./api.js";
import { openDialog } from "./dialog.js";
import { calm, tell } from "./problems.js";
import { $, button, day, named, part, percent, plain } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */

const CHIPS = 8;
const REASONS = {
  missing: "is not in the store", corrupt: "is damaged", unloadable: "does not run here",
  unavailable: "cannot be read at the moment",
};

/** What serves, as it was last told. @type {{ model: Schemas["Model"] | null }} */
export const serving = { model: null };

let known = () => {};

/** Call `act` whenever it is told what serves.
 * @param {() => void} act */
export const onKnown = (act) => (known = act);

/** Ask what serves, and say it. */
export async function look() {
  try {
    showModels(await ask("models"));
    const model = /** @type {Schemas["Model"]} */ (await ask("model"));
    serving.model = model;
    describe(model);
    calm();
    known();
  } catch (error) {
    const { slug } = /** @type {import("./api.js").Problem} */ (error);
    $("facts").replaceChildren($("version"));
    $("version").textContent = slug === "not-ready" ? "No version serves yet" : "";
    tell(error, look);
  }
}

/** Say which version has answered, and ask what it is where it is another one than before.
 * @param {Schemas["Served"]} served */
export function noteVersion(served) {
  const known = serving.model;
  if (known && served.name === known.name && served.version === known.version && served.channel === known.channel) return;
  look();
}

/** @param {Schemas["Model"]} model */
export function describe(model) {
  const { labels, notice, since, created_at, card, channel, fallback } = model;
  $("knows").hidden = false;
  $("count").textContent = labels.length === 1 ? "It knows one label:" : `It knows ${labels.length.toLocaleString("en")} labels:`;
  $("some").replaceChildren(...labels.slice(0, CHIPS).map((label) => named("chip", label)));
  $("all-labels").hidden = labels.length <= CHIPS;
  $("labels").replaceChildren(...labels.map((label) => new Option(plain(label), plain(label))));
  $("version").textContent = `${model.name} ${model.version}`;
  const facts = [$("version"), part("span", "", since ? `serves since ${day(since)}` : `made on ${day(created_at)}`)];
  facts.push(part("span", "", quality(model)));
  if (card) facts.push(button("link", "Model card", () => showCard(card)));
  $("facts").replaceChildren(...facts);
  $("badge").hidden = channel === "production" && !fallback;
  $("badge").textContent = fallback
    ? `${model.version} answers in place of ${fallback.pointed}, which ${REASONS[fallback.reason] ?? fallback.reason}.`
    : `A ${channel}: you are among those who get this version while it is on trial.`;
  $("wrong").hidden = model.feedback === false; // servers before it do not tell
  $("notice").textContent = notice ?? "";
  $("notice").hidden = !notice;
}

/** How good it is, as its manifest tells.
 * @param {Schemas["Model"]} model */
function quality({ metrics }) {
  const test = /** @type {Record<string, unknown>} */ (metrics.test ?? {});
  const { top_1, top_1_low, top_1_high, photos } = test;
  if (typeof top_1 !== "number") return "how often it is right was not measured";
  const of = typeof photos === "number" ? `${photos.toLocaleString("en")} test photos` : "its test photos";
  const sure = typeof top_1_low === "number" && typeof top_1_high === "number"
    ? ` (95 % interval: ${percent(top_1_low)} to ${percent(top_1_high)})` : "";
  return `right on ${percent(top_1)} of ${of}${sure}`;
}

function showLabels() {
  const labels = serving.model?.labels ?? [];
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "Search";
  search.setAttribute("aria-label", "Search the labels");
  const count = part("p", "soft", "");
  count.setAttribute("role", "status");
  const list = document.createElement("ul");
  list.className = "columns";
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = labels.filter((label) => plain(label).toLowerCase().includes(wanted));
    count.textContent = `${found.length} of ${labels.length}`;
    list.replaceChildren(...found.map((label) => {
      const item = document.createElement("li");
      item.append(named("", label));
      return item;
    }));
  };
  search.addEventListener("input", filter);
  filter();
  openDialog("What it knows", [search, count, list]);
}

/** @param {string} card */
async function showCard(card) {
  try {
    const text = await (await fetched(card)).text();
    const shown = part("pre", "card", text);
    shown.tabIndex = 0; // it scrolls
    openDialog("Model card", [shown]);
  } catch (error) {
    tell(error, () => showCard(card));
  }
}

/** @param {Schemas["Models"]} all */
function showModels(all) {
  const names = all.models.map(({ name }) => name);
  if (!names.includes(session.model)) session.model = ""; // an address may name one that is no longer there
  session.litert = all.litert_js ?? "";
  $("models").hidden = names.length < 2;
  $("model").replaceChildren(...names.map((name) => new Option(name, name === all.default ? "" : name)));
  $("model").value = session.model === all.default ? "" : session.model;
}

/** Call `changed` when another model was chosen and is known.
 * @param {() => void} changed */
export function onModel(changed) {
  $("model").addEventListener("change", () => {
    session.model = $("model").value;
    setInAddress("model", session.model);
    look().then(changed);
  });
}

/** Put a parameter into the page's address, so that it can be sent to others; "" takes it out.
 * @type {(name: string, value: string) => void} */
export function setInAddress(name, value) {
  const here = new URL(location.href);
  value ? here.searchParams.set(name, value) : here.searchParams.delete(name);
  history.replaceState(null, "", here);
}

$("all-labels").addEventListener("click", showLabels);
