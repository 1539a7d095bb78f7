// @ts-check
// What serves: its name and version, which models there are, and what whoever made it says of it.
import { ask, session } from "./api.js";
import { calm, tell } from "./problems.js";
import { $ } from "./words.js";

/** @typedef {import("./api.js").Schemas} Schemas */

export async function look() {
  try {
    showModels(await ask("models"));
    const served = await ask("model");
    showVersion(served);
    $("notice").textContent = served.notice ?? "";
    $("notice").hidden = !served.notice;
    calm();
  } catch (error) {
    const { slug } = /** @type {import("./api.js").Problem} */ (error);
    $("version").textContent = slug === "not-ready" ? "No version serves yet" : "";
    tell(error);
  }
}

/** @param {Pick<Schemas["Model"], "name" | "version" | "channel">} model */
export function showVersion(model) {
  const channel = model.channel === "production" ? "" : ` (${model.channel})`;
  $("version").textContent = `${model.name} ${model.version}${channel}`;
}

/** @param {Schemas["Models"]} all */
function showModels(all) {
  const names = all.models.map(({ name }) => name);
  if (!names.includes(session.model)) session.model = ""; // an address may name one that is no longer there
  $("models").hidden = names.length < 2;
  $("model").replaceChildren(...names.map((name) => new Option(name, name === all.default ? "" : name)));
  $("model").value = session.model === all.default ? "" : session.model;
}

/** Call `changed` when another model was chosen and is known.
 * @param {() => void} changed */
export function onModel(changed) {
  $("model").addEventListener("change", () => {
    session.model = $("model").value;
    const here = new URL(location.href); // so that it can be sent to others
    session.model ? here.searchParams.set("model", session.model) : here.searchParams.delete("model");
    history.replaceState(null, "", here);
    look().then(changed);
  });
}
