// @ts-check
// The photos that the version shows, to be tried with a click or by a link: ?sample=2.
import { serving, setInAddress } from "./about.js";
import { address, fetched } from "./api.js";
import { tell } from "./problems.js";
import { $, plain } from "./words.js";

/** @typedef {import("./api.js").Schemas["Sample"]} Sample */

/** @type {string[]} */
let urls = [];

/** Where each sample is, and the version that shows it there. @type {WeakMap<File, { url: string, version: string }>} */
const sources = new WeakMap();

/** Where a photo comes from that is a sample; undefined of any other.
 * @param {File} file */
export const sourceOf = (file) => sources.get(file);

/** Show what there is; `taken` gets the photo that is clicked.
 * @param {(files: File[]) => void} taken */
export async function showSamples(taken) {
  const samples = serving.model?.samples ?? [];
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  const files = await Promise.all(samples.map((sample, index) => photoOf(sample, index).catch(() => null)));
  const items = files.flatMap((file, index) => (file ? [item(file, samples[index], index, taken)] : []));
  $("sample-list").replaceChildren(...items);
  $("samples").hidden = items.length === 0;
}

/** Take the sample that the page's address names, if it names one.
 * @param {(files: File[]) => void} taken */
export async function takeFromAddress(taken) {
  const named = new URLSearchParams(location.search).get("sample");
  if (named === null) return;
  const samples = serving.model?.samples ?? [];
  const index = Number(named) - 1;
  try {
    if (!(index in samples)) {
      const some = samples.length ? `sample to be a number from 1 to ${samples.length}` : "no sample: this version shows none";
      throw new Error(`Expected ${some}; received ${named}.`);
    }
    taken([await photoOf(samples[index], index)]);
  } catch (error) {
    tell(error, () => takeFromAddress(taken));
  }
}

/** @type {(sample: Sample, index: number) => Promise<File>} */
async function photoOf({ url, media_type, label }, index) {
  const version = serving.model?.version ?? "";
  const photo = await (await fetched(url)).blob();
  const ending = media_type.split("/")[1].replace("jpeg", "jpg");
  const file = new File([photo], `sample ${index + 1}, ${plain(label)}.${ending}`, { type: media_type });
  sources.set(file, { url: address(url).href, version });
  return file;
}

/** @type {(file: File, sample: Sample, index: number, taken: (files: File[]) => void) => HTMLElement} */
function item(file, { label }, index, taken) {
  const url = URL.createObjectURL(file);
  urls.push(url);
  const image = document.createElement("img");
  image.src = url;
  image.alt = `Sample photo ${index + 1}: ${plain(label)}`;
  const choose = document.createElement("button");
  choose.type = "button";
  choose.className = "sample";
  choose.append(image);
  choose.addEventListener("click", () => {
    setInAddress("sample", String(index + 1));
    taken([file]);
  });
  const entry = document.createElement("li");
  entry.append(choose);
  return entry;
}
