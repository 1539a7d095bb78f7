// @ts-check
// The request that was just made, as code to copy.
import { address, session } from "./api.js";
import { openDialog } from "./dialog.js";
import { button, part } from "./words.js";

/** @typedef {import("./queue.js").Photo} Photo */
/** @typedef {{ url: string, name: string, type: string, headers: [string, string][] }} Asked */

/** In the order in which they are offered. @type {Record<string, (asked: Asked) => string>} */
export const LANGUAGES = {
  curl: ({ url, name, headers }) =>
    ["curl", ...headers.map(([key, value]) => `-H '${key}: ${value}'`), `-F ${shell(`image=@${text(name)}`)}`, `'${url}'`].join(" \\\n  "),
  JavaScript: ({ url, name, headers }) => `const body = new FormData();
body.append("image", photo); // a File or Blob: ${name}
const reply = await fetch(${text(url)}, {
  method: "POST",
  body,${headers.length ? `\n  headers: { ${headers.map(([key, value]) => `${text(key)}: ${text(value)}`).join(", ")} },` : ""}
});
const { label, confidence, gradcam } = await reply.json();`,
  Python: ({ url, name, headers }) => `import requests

with open(${text(name)}, "rb") as photo:
    reply = requests.post(
        ${text(url)},
        files={"image": photo},${headers.length ? `\n        headers={${headers.map(([key, value]) => `${text(key)}: ${text(value)}`).join(", ")}},` : ""}
        timeout=60,
    )
reply.raise_for_status()
print(reply.json()["label"], reply.json()["confidence"])`,
  Kotlin: ({ url, name, type, headers }) => `val connection = URL(${kotlin(url)}).openConnection() as HttpURLConnection
connection.requestMethod = "POST"
connection.doOutput = true
${headers.concat([["Content-Type", type]]).map(([key, value]) => `connection.setRequestProperty(${kotlin(key)}, ${kotlin(value)})`).join("\n")}
connection.outputStream.use { File(${kotlin(name)}).inputStream().copyTo(it) }
val reply = JSONObject(connection.inputStream.bufferedReader().readText())
println(reply.getString("label"))`,
  Swift: ({ url, name, type, headers }) => `var request = URLRequest(url: URL(string: ${text(url)})!)
request.httpMethod = "POST"
${headers.concat([["Content-Type", type]]).map(([key, value]) => `request.setValue(${text(value)}, forHTTPHeaderField: ${text(key)})`).join("\n")}
let photo = try Data(contentsOf: URL(fileURLWithPath: ${text(name)}))
let (data, _) = try await URLSession.shared.upload(for: request, from: photo)
let reply = try JSONSerialization.jsonObject(with: data) as? [String: Any]
print(reply?["label"] ?? "")`,
};

/** @param {string} word */
const shell = (word) => `'${word.replaceAll("'", "'\\''")}'`;
/** @param {string} word */
const text = (word) => JSON.stringify(word);
/** @param {string} word */
const kotlin = (word) => text(word).replaceAll("$", "\\$");

/** Where tokens are sent, their place is there and not they.
 * @param {Photo} photo
 * @returns {Asked | null} */
export function askedOf({ answer, file }) {
  if (!answer) return null;
  const headers = /** @type {[string, string][]} */ (
    Object.keys(session.tokens).map((key) => [key, key === "Authorization" ? "Bearer ID_TOKEN" : "APP_CHECK_TOKEN"])
  );
  return { url: address(`?${answer.query}`).href, name: file.name, type: file.type || "application/octet-stream", headers };
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
    code.textContent = LANGUAGES[language](asked);
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
