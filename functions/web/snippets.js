// @ts-check
// The request that was just made, as code to copy.
import { address, session } from "./api.js";
import { openDialog } from "./dialog.js";
import { sourceOf } from "./samples.js";
import { button, part } from "./words.js";

/** @typedef {import("./queue.js").Photo} Photo */
/** `sample`: where the photo comes from that the page offers, as long as `version` serves; its user has no file of it.
 * @typedef {{ url: string, name: string, sample: string | undefined, version: string, type: string, headers: [string, string][] }} Asked */

/** In the order in which they are offered. @type {Record<string, (asked: Asked) => string>} */
export const LANGUAGES = {
  curl: ({ url, name, sample, headers }) => {
    const sent = headers.map(([key, value]) => `-H '${key}: ${value}'`);
    const photo = `-F ${shell(sample ? "image=@-" : `image=@${text(name)}`)}`;
    const asks = ["curl", ...sent, photo, shell(url)].join(" \\\n  ");
    return sample ? `${["curl -fsS", ...sent, shell(sample)].join(" ")} |\n${asks}` : asks;
  },
  JavaScript: ({ url, name, sample, headers }) => {
    const sent = headers.length ? `headers: { ${pairs(headers)} }` : "";
    return `${sample
    ? `const sample = await fetch(${text(sample)}${sent && `, { ${sent} }`});
if (!sample.ok) throw new Error(await sample.text());
const photo = await sample.blob();`
    : `const { openAsBlob } = await import("node:fs"); // Node 20 or later; in a page, photo is the File of an <input>
const photo = await openAsBlob(${text(name)});`}
const body = new FormData();
body.append("image", photo);
const reply = await fetch(${text(url)}, {
  method: "POST",
  body,${sent && `\n  ${sent},`}
});
if (!reply.ok) throw new Error(await reply.text());
const { label, confidence } = await reply.json();
console.log(label, confidence);`;
  },
  Python: ({ url, name, sample, headers }) => {
    const sent = headers.length ? `headers={${pairs(headers)}}, ` : "";
    const ask = (/** @type {string} */ photo) => `reply = requests.post(
    ${text(url)},
    files={"image": ${photo}},
    ${sent}timeout=60,
)
reply.raise_for_status()
print(reply.json()["label"], reply.json()["confidence"])`;
    return `import requests

${sample
    ? `photo = requests.get(${text(sample)}, ${sent}timeout=60)\nphoto.raise_for_status()\n${ask("photo.content")}`
    : `with open(${text(name)}, "rb") as file:\n    photo = file.read()\n${ask("photo")}`}`;
  },
  Kotlin: ({ url, name, sample, type, headers }) => {
    // By itself Java would rather have a JPEG than JSON, and gets the overlay.
    const set = (/** @type {string} */ on, /** @type {[string, string][]} */ all) =>
      all.map(([key, value]) => `${on}.setRequestProperty(${kotlin(key)}, ${kotlin(value)})\n`).join("");
    return `import java.io.File
import java.net.HttpURLConnection
import java.net.URL
import org.json.JSONObject

${sample
    ? `val sample = URL(${kotlin(sample)}).openConnection()\n${set("sample", headers)}val photo = sample.getInputStream().readBytes()`
    : `val photo = File(${kotlin(name)}).readBytes()`}
val connection = URL(${kotlin(url)}).openConnection() as HttpURLConnection
connection.requestMethod = "POST"
connection.doOutput = true
${set("connection", [...headers, ["Content-Type", type], ["Accept", "application/json"]])}connection.outputStream.use { it.write(photo) }
val reply = JSONObject(connection.inputStream.bufferedReader().readText())
println(reply.getString("label"))`;
  },
  Swift: ({ url, name, sample, type, headers }) => {
    const set = (/** @type {string} */ on, /** @type {[string, string][]} */ all) =>
      all.map(([key, value]) => `${on}.setValue(${text(value)}, forHTTPHeaderField: ${text(key)})\n`).join("");
    return `import Foundation

${sample
    ? `var sample = URLRequest(url: URL(string: ${text(sample)})!)\n${set("sample", headers)}let (photo, _) = try await URLSession.shared.data(for: sample)`
    : `let photo = try Data(contentsOf: URL(fileURLWithPath: ${text(name)}))`}
var request = URLRequest(url: URL(string: ${text(url)})!)
request.httpMethod = "POST"
${set("request", [...headers, ["Content-Type", type]])}let (data, _) = try await URLSession.shared.upload(for: request, from: photo)
let reply = try JSONSerialization.jsonObject(with: data) as? [String: Any]
print(reply?["label"] ?? "")`;
  },
};

/** The code in a language; of a sample it says how long that is there.
 * @type {(language: string, asked: Asked) => string} */
function codeIn(language, asked) {
  const code = LANGUAGES[language](asked);
  const mark = ["curl", "Python"].includes(language) ? "#" : "//";
  return asked.sample ? `${mark} A sample of ${asked.version}: gone when another version serves.\n${code}` : code;
}

/** @param {string} word */
const shell = (word) => `'${word.replaceAll("'", "'\\''")}'`;
/** @param {string} word */
const text = (word) => JSON.stringify(word);
/** @param {string} word */
const kotlin = (word) => text(word).replaceAll("$", "\\$");
/** @param {[string, string][]} headers */
const pairs = (headers) => headers.map(([key, value]) => `${text(key)}: ${text(value)}`).join(", ");

/** Where tokens are sent, their place is there and not they.
 * @param {Photo} photo
 * @returns {Asked | null} */
export function askedOf({ answer, file }) {
  if (!answer) return null;
  const headers = /** @type {[string, string][]} */ (
    Object.keys(session.tokens).map((key) => [key, key === "Authorization" ? "Bearer ID_TOKEN" : "APP_CHECK_TOKEN"])
  );
  const type = file.type || "application/octet-stream";
  const { url: sample, version = "" } = sourceOf(file) ?? {};
  return { url: address(`?${answer.query}`).href, name: file.name, sample, version, type, headers };
}

/** @param {Photo} photo */
export function openSnippets(photo) {
  const asked = askedOf(photo);
  if (!asked) return;
  const code = part("pre", "code", "");
  code.tabIndex = 0; // it scrolls
  const said = part("span", "soft", "");
  said.setAttribute("role", "status");
  const choices = part("p", "choices", "");
  const choose = (/** @type {string} */ language) => {
    code.textContent = codeIn(language, asked);
    said.textContent = "";
    for (const each of choices.children) each.setAttribute("aria-pressed", String(each.textContent === language));
  };
  choices.append(...Object.keys(LANGUAGES).map((language) => button("quiet", language, () => choose(language))));
  const copy = button("button", "Copy", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent ?? "");
      said.textContent = "Copied.";
    } catch {
      getSelection()?.selectAllChildren(code); // a browser that forbids it: its user copies what is selected
      said.textContent = "Selected: copy it with the keyboard.";
    }
  });
  const last = part("p", "buttons", "");
  last.append(copy, said);
  choose("curl");
  openDialog("Exactly this request", [choices, code, last]);
}
