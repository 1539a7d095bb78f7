// A client of Pointer's HTTP contract for browsers and Node, made of fetch and crypto.subtle alone.
import type { components } from "./pointer.js";

/** What openapi.yaml names. */
export type Schemas = components["schemas"];
export type Prediction = Schemas["Prediction"];
export type Predictions = Schemas["Predictions"];
export type Model = Schemas["Model"];
export type Models = Schemas["Models"];
export type Corrected = Schemas["Corrected"];
export type Problem = Schemas["ProblemDetails"] & { request_id?: string };

/** A photo as a file of any format that the contract names. */
export type Photo = Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;
/** Gives a token when a request needs one; `refresh` asks for a new one, because the last was refused. */
export type Token = (refresh: boolean) => string | null | undefined | Promise<string | null | undefined>;

export interface ClientOptions {
  /** Which model is asked, of those that `models()` names; by default the server's default. */
  model?: string;
  /** A Firebase ID token, where ACCESS asks for one: `(refresh) => auth.currentUser?.getIdToken(refresh)`. */
  idToken?: Token;
  /** An App Check token: `async (refresh) => (await getToken(appCheck, refresh)).token`. */
  appCheckToken?: Token;
  /** Milliseconds that a call may take with all its attempts; of a download, each part. 60,000 by default. */
  deadline?: number;
}

export interface CallOptions {
  /** Ends the call, whatever it is doing, with the signal's reason. */
  signal?: AbortSignal;
  /** Instead of the client's. */
  deadline?: number;
}

export interface PredictOptions extends CallOptions {
  /** How many labels to list, 1 to 100. */
  topK?: number;
  /** True explains the most probable label; a label explains that one. */
  gradcam?: boolean | string;
  /** Explains by hiding one part after another, which any model can be explained by, at 64 more forward passes. */
  occlusion?: boolean;
  gradcamFormat?: Schemas["OverlayFormat"];
  /** Longest side of the overlay in pixels, 32 to 2048. */
  gradcamSize?: number;
  /** Averages over several views of the photo. */
  tta?: "mirror" | "crops" | "all";
  /** The user agrees that the photo may be kept, to learn from. */
  consent?: boolean;
}

/** What speaks for a label, as a picture over the photo. */
export interface Overlay {
  image: Blob;
  label: string;
  confidence: number;
  version: string | null;
}

/** A correction; one of `request_id`, `photo_sha256` and `image` (base64, with `consent`) says which photo is meant. */
export interface Correction {
  /** What the photo shows; null for none of the labels. */
  label: string | null;
  request_id?: string;
  photo_sha256?: string;
  image?: string;
  consent?: boolean;
  seen?: Schemas["Seen"];
}

/** What serves, as it was when it was asked for. */
export interface Described {
  etag: string;
  model: Model;
}

/** The LiteRT file that serves, verified. */
export interface Downloaded extends Described {
  content: Uint8Array<ArrayBuffer>;
}

/** The server said that something is wrong: RFC 9457. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  /** The last part of `type`, such as `invalid-image`; empty where what answered was not Pointer. */
  readonly slug: string;

  constructor(
    readonly problem: Problem,
    /** Seconds to wait before the same is asked again, where that is known. */
    readonly retryAfter: number | null = null,
  ) {
    super(problem.detail);
    const [, slug] = /^urn:pointer:problem:(.+)$/.exec(problem.type) ?? [];
    this.slug = slug ?? "";
  }

  get status(): number {
    return this.problem.status;
  }
}

/** What was downloaded is not what was announced. What was downloaded before still works. */
export class DamagedError extends Error {
  override readonly name = "DamagedError";
}

const DEADLINE = 60_000;
const PART = 8 * 2 ** 20;
/** How often a download begins anew, because another version serves. */
const ATTEMPTS = 3;

export class Client {
  readonly #api: URL;
  readonly #options: ClientOptions;

  /**
   * @param url where the function is, such as `https://example.web.app/api`.
   * @throws TypeError where tokens would be sent in the clear.
   */
  constructor(url: string | URL, options: ClientOptions = {}) {
    this.#api = new URL(url);
    this.#api.search = this.#api.hash = "";
    if (!this.#api.pathname.endsWith("/")) this.#api.pathname += "/";
    const own = ["localhost", "127.0.0.1", "[::1]"].includes(this.#api.hostname);
    if ((options.idToken || options.appCheckToken) && this.#api.protocol !== "https:" && !own) {
      throw new TypeError(`Expected an https:// address for the tokens; received ${this.#api.origin}.`);
    }
    this.#options = options;
  }

  /** Classifies a photo. */
  async predict(photo: Photo, options: PredictOptions = {}): Promise<Prediction> {
    return (await this.#post(queryOf(options), formOf([photo]), options)).json();
  }

  /**
   * Classifies photos, in their order: a prediction or a problem for each, all by one version. The server says how many it
   * takes, 8 unless MAX_PHOTOS is another number. Of one photo alone the problem is thrown, as by `predict`.
   */
  async predictSeveral(photos: Photo[], options: PredictOptions = {}): Promise<Predictions> {
    if (photos.length === 0) throw new TypeError("Expected one photo or more; received none.");
    const reply = await (await this.#post(queryOf(options), formOf(photos), options)).json();
    if (photos.length > 1) return reply;
    const { model, request_id, ...result } = reply as Prediction;
    return { results: [{ index: 0, ...result }], model, request_id };
  }

  /** Explains a label, by default the most probable one, and returns the overlay itself. */
  async explain(photo: Photo, options: PredictOptions = {}): Promise<Overlay> {
    const query = queryOf({ gradcam: true, ...options });
    const reply = await this.#post(query, formOf([photo]), options, { Accept: "image/*" });
    return {
      image: await reply.blob(),
      label: decodeURIComponent(reply.headers.get("X-Pointer-Label") ?? ""),
      confidence: Number(reply.headers.get("X-Pointer-Confidence")),
      version: reply.headers.get("X-Pointer-Version"),
    };
  }

  /** Says what a photo shows. The same said again is the same correction. */
  async feedback(correction: Correction, options: CallOptions = {}): Promise<Corrected> {
    const headers = { "Content-Type": "application/json" };
    return (await this.#send("feedback", { method: "POST", body: JSON.stringify(correction), headers }, options)).json();
  }

  /** Returns what serves: `kept` itself where that is still it. */
  async model(kept: Described | null = null, options: CallOptions = {}): Promise<Described> {
    const reply = await this.#send("model", { headers: conditional(kept) }, options);
    if (reply.status === 304 && kept) return kept;
    return { etag: reply.headers.get("ETag") ?? "", model: await reply.json() };
  }

  /** Returns which models may be asked for. */
  async models(options: CallOptions = {}): Promise<Models> {
    return (await this.#send("models", {}, options)).json();
  }

  /**
   * Downloads the LiteRT file that serves, in parts, and compares its hash; returns `kept` itself where that is still it.
   *
   * @param progress is told how many bytes of how many are there.
   * @throws DamagedError where the hash is another one.
   */
  async modelFile(
    kept: Downloaded | null = null,
    { progress, ...options }: CallOptions & { progress?: (received: number, total: number) => void } = {},
  ): Promise<Downloaded> {
    for (let attempt = 1; ; attempt++) {
      const described = await this.model(kept, options);
      if (described === kept) return kept;
      const { file } = described.model;
      if (kept && kept.model.file.sha256 === file.sha256) return { ...described, content: kept.content };
      try {
        const content = await this.#parts(file, options, progress);
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
        const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
        if (found !== file.sha256) throw new DamagedError(`Expected the SHA-256 ${file.sha256}; received ${found}.`);
        return { ...described, content };
      } catch (error) {
        const moved = error instanceof ProblemError && error.status === 412;
        if (!moved || attempt === ATTEMPTS) throw error;
      }
    }
  }

  async #parts(
    file: Schemas["File"],
    options: CallOptions,
    progress: (received: number, total: number) => void = () => {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const content = new Uint8Array(file.bytes);
    for (let at = 0; at < file.bytes; ) {
      const headers = { Range: `bytes=${at}-${at + PART - 1}`, "If-Match": `"${file.sha256}"` };
      const reply = await this.#send(file.url, { headers, cache: "no-store" }, options);
      const part = new Uint8Array(await reply.arrayBuffer());
      const range = reply.headers.get("Content-Range") ?? "all of it";
      if (reply.status !== 206 || part.length === 0 || range !== `bytes ${at}-${at + part.length - 1}/${file.bytes}`) {
        const announced = `${file.bytes} bytes from ${at} on`;
        throw new DamagedError(`Expected ${announced}; received ${part.length} (${range}). Try again later.`);
      }
      content.set(part, at);
      at += part.length;
      progress(at, file.bytes);
    }
    return content;
  }

  #post(query: URLSearchParams, body: FormData, options: CallOptions, headers?: HeadersInit): Promise<Response> {
    return this.#send(`?${query}`, { method: "POST", body, ...(headers && { headers }) }, options);
  }

  /** Sends a request until it is answered by something else than "later", or until the deadline. */
  async #send(path: string, init: RequestInit, { signal, deadline }: CallOptions): Promise<Response> {
    const address = new URL(path, this.#api);
    const { model } = this.#options;
    if (model && path !== "models") address.searchParams.set("model", model);
    const within = deadline ?? this.#options.deadline ?? DEADLINE;
    const until = Date.now() + within;
    const signals = [AbortSignal.timeout(within), ...(signal ? [signal] : [])];
    const either = AbortSignal.any(signals);
    for (let attempt = 0, refresh = false; ; attempt++) {
      const headers = { ...init.headers, ...(await this.#tokens(refresh)) };
      either.throwIfAborted();
      const reply = await fetch(address, { ...init, headers, signal: either });
      if (reply.ok || reply.status === 304) return reply;
      const problem = await problemOf(reply);
      if (problem.status === 401 && this.#hasTokens && !refresh) {
        refresh = true;
        continue;
      }
      const seconds = waitBefore(problem, attempt);
      if (seconds === null || Date.now() + 1000 * seconds >= until) throw problem;
      await sleep(1000 * seconds, either);
    }
  }

  get #hasTokens(): boolean {
    return Boolean(this.#options.idToken ?? this.#options.appCheckToken);
  }

  async #tokens(refresh: boolean): Promise<Record<string, string>> {
    const { idToken, appCheckToken } = this.#options;
    const [user, app] = await Promise.all([idToken?.(refresh), appCheckToken?.(refresh)]);
    return { ...(user && { Authorization: `Bearer ${user}` }), ...(app && { "X-Firebase-AppCheck": app }) };
  }
}

function queryOf(options: PredictOptions): URLSearchParams {
  const { topK, gradcam = false, occlusion, gradcamFormat, gradcamSize, tta, consent } = options;
  const which = typeof gradcam === "string" ? `label:${gradcam}` : ""; // a label may be "1" itself
  const values = {
    top_k: topK,
    gradcam: occlusion ? (which ? `occlusion:${which}` : "occlusion") : which || (gradcam ? "1" : undefined),
    gradcam_format: gradcamFormat,
    gradcam_size: gradcamSize,
    tta,
    consent: consent ? "1" : undefined,
  };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) query.set(name, String(value));
  return query;
}

function formOf(photos: Photo[]): FormData {
  const form = new FormData();
  for (const photo of photos) form.append("image", photo instanceof Blob ? photo : new Blob([photo]));
  return form;
}

function conditional(kept: Described | null): Record<string, string> {
  return kept ? { "If-None-Match": kept.etag } : {};
}

async function problemOf(reply: Response): Promise<ProblemError> {
  const after = reply.headers.get("Retry-After");
  const seconds = after === null ? null : Number(after);
  const retryAfter = seconds === null || Number.isFinite(seconds) ? seconds : (Date.parse(after!) - Date.now()) / 1000;
  const known = Number.isFinite(retryAfter) ? retryAfter : null;
  const body = await reply.text();
  if (reply.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    return new ProblemError(JSON.parse(body), known);
  }
  const detail = `Expected an answer of Pointer; received status ${reply.status} from something before it.`;
  return new ProblemError({ type: "about:blank", title: reply.statusText, status: reply.status, detail }, known);
}

/** Seconds; null where asking again is of no use. */
function waitBefore(problem: ProblemError, attempt: number): number | null {
  if (problem.status !== 503 && problem.status !== 429) return null;
  // Google's front end says no time where it has no instance free.
  const seconds = problem.retryAfter ?? (problem.slug ? null : 2 ** attempt);
  return seconds === null ? null : Math.max(0, seconds) * (1 + Math.random() / 4); // so that not all come back at once
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", end);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", end, { once: true });
  });
}
