// Writes functions/web/contract.html, the contract as a page that is read (`make types`): openapi.yaml by Scalar's renderer
// to Markdown, and by marked to HTML, so that the page needs no script. With --check it only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { createMarkdownFromOpenApi } from "@scalar/openapi-to-markdown";
import { Marked } from "marked";
import { parse } from "yaml";

const [SOURCE, TARGET] = ["functions/openapi.yaml", "functions/web/contract.html"];
/** What nearly all replies have, and is said once. */
const COMMON = ["X-Request-Id", "X-Content-Type-Options", "Cache-Control", "RateLimit", "RateLimit-Policy"];
const OPERATION = /^<a id="scalar-(operation|schema)-/;

/** Takes out of each operation what nearly all have, and says it at the beginning. */
function saidOnce(document) {
  const { headers, responses } = document.components;
  const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
  for (const response of [...Object.values(responses), ...operations.flatMap((one) => Object.values(one.responses))]) {
    for (const name of COMMON) delete response.headers?.[name];
  }
  for (const one of operations) one.parameters = one.parameters?.filter(({ $ref }) => !$ref?.endsWith("/RequestId"));
  for (const [path, item] of Object.entries(document.paths)) {
    for (const [method, one] of Object.entries(item)) one.summary = `${method.toUpperCase()} ${path}: ${one.summary}`;
  }
  const described = COMMON.map((name) => {
    const { description } = headers[{ "X-Request-Id": "RequestId", "X-Content-Type-Options": "NoSniff" }[name] ?? name.replaceAll("-", "")];
    return `- \`${name}\`: ${description.trim().replaceAll("\n", " ")}`;
  });
  document.info.description += `\nReplies have these headers, besides those that are named below:\n\n${described.join("\n")}\n`;
  document.info.title += ": the HTTP contract";
  delete document.servers; // it is where this page is
  return document;
}

/** Folds the contents' list of schemas and every response, of which those of success are open. */
function folded(tokens, marked) {
  let [html, open] = ["", false];
  const fold = (summary, opened) => {
    if (open) html += "</details>\n";
    open = summary !== "";
    const text = marked.parseInline(summary.replaceAll("\\`", "`"));
    if (open) html += `<details${opened ? " open" : ""}><summary>${text}</summary>\n`;
  };
  for (const token of tokens) {
    if (token.type === "heading" && token.depth === 5) fold(token.text, /^2/.test(token.text));
    else if (token.type === "paragraph" && token.text === "**Schemas**") fold("Schemas", false);
    else {
      if (open && (token.type === "heading" || OPERATION.test(token.raw))) fold("");
      html += marked.parser([token]);
    }
  }
  fold("");
  return html;
}

const document = saidOnce(parse(readFileSync(SOURCE, "utf8")));
const { openapi, info } = document;
const markdown = (await createMarkdownFromOpenApi(document))
  .replace(/^(- \*\*OpenAPI Version:\*\*).*$/m, `$1 \`${openapi}\``) // of which the renderer reads every version as the newest
  .replace(/^- \*\*(Method|Path|Operation ID):\*\* .*\n/gm, ""); // which the heading says
const marked = new Marked();
const page = `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>${info.title}</title>
  <link rel="icon" href="favicon.ico">
  <link rel="stylesheet" href="colours.css">
  <link rel="stylesheet" href="contract.css">
</head>
<body>
<header><a href="./">The page to try it</a> <a href="api/openapi.yaml">This as openapi.yaml</a></header>
<main>
${folded(marked.lexer(markdown), marked)}</main>
</body>
</html>
`;
if (!process.argv.includes("--check")) writeFileSync(TARGET, page);
else if (readFileSync(TARGET, "utf8") !== page) {
  console.error(`${TARGET} is not what ${SOURCE} says: run make types.`);
  process.exit(1);
}
