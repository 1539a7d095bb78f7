// @ts-check
// How photos get here: chosen, taken, pasted or dropped.
import { $ } from "./words.js";

/** Call `taken` with the files that are given.
 * @param {(files: File[]) => void} taken */
export function onPhotos(taken) {
  /** @param {FileList | undefined | null} files */
  const take = (files) => {
    if (files && files.length > 0) taken([...files]);
  };
  for (const id of ["file", "capture"]) {
    $(id).addEventListener("change", () => {
      take($(id).files);
      $(id).value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => take(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging"); // it has left the page, not a part of it
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer?.files);
  });
}
