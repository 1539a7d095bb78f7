// @ts-check
// Asks the function. Its address is relative, so that the page works wherever it lies.

/** @typedef {import("../../clients/typescript/pointer").components["schemas"]} Schemas */
/** @typedef {import("../../clients/typescript/pointer").operations} Operations */
/** @typedef {Error & { slug?: string, passes?: boolean, wanted?: string, wait?: number }} Problem */

export const API = new URL("api/", document.baseURI);

/** What all requests have in common: the model that is asked ("" for the default), the tokens as headers, and where
 * LiteRT.js is ("" for nowhere).
 * @type {{ model: string, tokens: Record<string, string>, litert: string }} */
export const session = { model: new URLSearchParams(location.search).get("model") ?? "", tokens: {}, litert: "" };

/** Where a path of the contract is, for the model that is asked.
 * @type {(path: string) => URL} */
export function address(path) {
  const url = new URL(path, API);
  if (session.model && path !== "models") url.searchParams.set("model", session.model);
  return url;
}

/** Ask, and return the reply; throws a Problem.
 * @type {(path: string, options?: RequestInit) => Promise<Response>} */
export async function fetched(path, options) {
  let reply;
  try {
    reply = await fetch(address(path), { ...options, headers: { ...session.tokens, ...options?.headers } });
  } catch (error) {
    if (aborted(error)) throw error;
    const message = "The server cannot be reached. Check your connection, then try again.";
    throw Object.assign(new Error(message), { passes: true });
  }
  if (reply.ok) return reply;
  /** @type {Partial<Schemas["Problem"]>} */
  const { type = "", detail, retry_after } = await reply.json().catch(() => ({}));
  /** @type {Problem} */
  const error = new Error(detail || `The server answered with status ${reply.status}.`);
  error.slug = type.split(":").pop();
  error.passes = reply.status === 429 || reply.status >= 500;
  error.wanted = reply.headers.get("WWW-Authenticate") ?? "";
  error.wait = retry_after;
  throw error;
}

/** Ask, and return the reply's JSON; throws a Problem.
 * @type {(path: string, options?: RequestInit) => Promise<any>} */
export const ask = async (path, options) => (await fetched(path, options)).json();

/** @param {unknown} error */
export const aborted = (error) => error instanceof Error && error.name === "AbortError";
