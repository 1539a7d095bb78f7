// @ts-check
// The photos of this session: each waits for its turn, is looked at, and can be shown again.
import { aborted } from "./api.js";

/** @typedef {import("./request.js").Answer} Answer */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {import("./api.js").Schemas["Gradcam"]} Heatmap */
/** @typedef {"waiting" | "running" | "done" | "failed" | "stopped"} State */

/** A photo, what is known of it, and by label the heatmaps that were asked for.
 * @typedef {{ file: File, url: string, state: State, answer: Answer | null, problem: Problem | null,
 *   heatmaps: Map<string, Heatmap>, explained: string }} Photo */

/** Of these, the photos that wait are not tried until `again`: it would go wrong for each of them. */
const FOR_ALL = ["unauthenticated", "forbidden", "not-ready"];

export class Queue {
  /** @type {Photo[]} */
  photos = [];
  /** @type {{ photo: Photo, stop: AbortController } | null} */
  running = null;

  /** @param {(photo: Photo, signal: AbortSignal) => Promise<Answer>} look answers one
   * @param {() => void} changed is called when a photo's state has changed
   * @param {(photo: Photo) => void} ended is called when one is done, failed or stopped */
  constructor(look, changed, ended) {
    this.look = look;
    this.changed = changed;
    this.ended = ended;
  }

  /** @param {File[]} files
   * @returns {Photo[]} */
  add(files) {
    const added = files.map((file) => ({
      file, url: URL.createObjectURL(file), state: /** @type {State} */ ("waiting"), answer: null, problem: null,
      heatmaps: new Map(), explained: "",
    }));
    this.photos.push(...added);
    this.go();
    return added;
  }

  /** Look at these once more; what is known of them stays until there is more.
   * @param {Photo[]} photos */
  redo(photos) {
    for (const photo of photos) if (photo.state !== "running") photo.state = "waiting";
    this.go();
  }

  /** Those that failed for a reason that passes, or were stopped, and those that wait. */
  unfinished() {
    const passes = (/** @type {Photo} */ { problem }) =>
      problem !== null && (problem.passes || FOR_ALL.includes(problem.slug ?? ""));
    return this.photos.filter((each) => ["waiting", "stopped"].includes(each.state) || (each.state === "failed" && passes(each)));
  }

  /** Look at no more of those that wait, and stop the one that is looked at. */
  cancel() {
    for (const photo of this.photos) if (photo.state === "waiting") photo.state = "stopped";
    this.running?.stop.abort();
    this.changed();
  }

  forget() {
    this.cancel();
    for (const photo of this.photos) URL.revokeObjectURL(photo.url);
    this.photos = [];
    this.changed();
  }

  async go() {
    this.changed();
    if (this.running) return;
    for (let photo; (photo = this.photos.find(({ state }) => state === "waiting")); ) {
      this.running = { photo, stop: new AbortController() };
      photo.state = "running";
      photo.problem = null;
      this.changed();
      try {
        photo.answer = await this.look(photo, this.running.stop.signal);
        photo.state = "done";
      } catch (error) {
        photo.state = aborted(error) ? "stopped" : "failed";
        photo.problem = aborted(error) ? null : /** @type {Problem} */ (error);
      }
      this.running = null;
      if (!this.photos.includes(photo)) continue; // it was forgotten meanwhile
      this.ended(photo);
      if (photo.problem && (photo.problem.passes || FOR_ALL.includes(photo.problem.slug ?? ""))) break;
    }
    this.changed();
  }
}
