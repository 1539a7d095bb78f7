// @ts-check
// The camera of a desktop or a phone: a photo is taken when its user says so; what it sees is told live where that is asked.
import { aborted } from "./api.js";
import { closeDialog, openDialog } from "./dialog.js";
import { tell } from "./problems.js";
import { glance } from "./request.js";
import { $, button, part, percent, plain } from "./words.js";

const QUALITY = 0.92;
const GLANCE_SIDE = 384; // pixels of the shorter side, of what is told live
const GLANCE_EVERY = 700; // milliseconds between an answer and the next photo

/** Call `taken` with the photo that is taken. Where the browser gives no camera, a phone's own app takes it.
 * @param {(files: File[]) => void} taken */
export function onCamera(taken) {
  const live = Boolean(navigator.mediaDevices?.getUserMedia); // only on localhost and over TLS
  $("camera-button").hidden = !live;
  if (!live) offerCapture();
  $("camera-button").addEventListener("click", () => openCamera(taken));
}

/** Let a phone's own app take the photo; on a desktop that button would only choose a file, which another does. */
function offerCapture() {
  $("capture-button").hidden = !matchMedia("(pointer: coarse)").matches;
}

/** @param {(files: File[]) => void} taken */
export async function openCamera(taken) {
  if ($("camera-button").hidden) return;
  const video = document.createElement("video");
  video.autoplay = video.muted = video.playsInline = true;
  /** @type {MediaStream | undefined} */
  let stream;
  let facing = "environment";
  const stop = () => stream?.getTracks().forEach((track) => track.stop());
  const start = async () => {
    stop();
    const wanted = { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 960 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    video.srcObject = stream;
  };
  const take = async () => {
    const photo = await picture(video, Infinity);
    const time = new Date().toLocaleTimeString("en-GB").replaceAll(":", ".");
    closeDialog();
    if (photo) taken([new File([photo], `camera ${time}.jpg`, { type: "image/jpeg" })]);
  };
  /** @param {any} error */
  const refused = (error) => {
    stop();
    closeDialog();
    offerCapture();
    const why = error.name === "NotAllowedError" ? "It may not be used: allow it in the browser's settings." : error.message;
    tell(new Error(`The camera gives no picture. ${why}`), () => {});
  };
  try {
    await start();
  } catch (error) {
    return refused(error);
  }
  const several = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput").length > 1;
  const buttons = part("p", "buttons", "");
  const shutter = button("button", "Take the photo", take);
  shutter.autofocus = true;
  buttons.append(shutter);
  if (several) {
    buttons.append(button("quiet", "Other camera", () => {
      facing = facing === "environment" ? "user" : "environment";
      start().catch(refused);
    }));
  }
  const { option, seen, end } = live(video);
  openDialog("Camera", [video, seen, buttons, option], () => {
    end();
    stop();
  });
}

/** What a video shows now, as a JPEG; null where it shows nothing yet.
 * @type {(video: HTMLVideoElement, side: number) => Promise<Blob | null>} */
async function picture(video, side) {
  const scale = Math.min(1, side / Math.min(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
  if (!canvas.width) return null;
  canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
  return await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}

/** A choice to be told all the time what a video shows: each picture is a request, one after the other.
 * @param {HTMLVideoElement} video */
function live(video) {
  const seen = part("p", "seen", "");
  const option = part("label", "live", "");
  const box = document.createElement("input");
  box.type = "checkbox";
  option.append(box, " Say what it sees, all the time");
  /** @type {AbortController | null} */
  let running = null;
  const look = async (/** @type {AbortController} */ mine) => {
    while (!mine.signal.aborted) {
      try {
        const photo = await picture(video, GLANCE_SIDE);
        if (photo) {
          const { status, label, confidence } = await glance(photo, mine.signal);
          seen.textContent = status === "unknown" ? "I don’t know" : `${plain(label)}, ${percent(confidence)}`;
        }
      } catch (error) {
        if (aborted(error)) return;
        seen.textContent = /** @type {Error} */ (error).message;
        const wait = /** @type {import("./api.js").Problem} */ (error).wait ?? 3;
        await new Promise((done) => setTimeout(done, 1000 * wait));
      }
      await new Promise((done) => setTimeout(done, GLANCE_EVERY));
    }
  };
  const end = () => running?.abort();
  box.addEventListener("change", () => {
    end();
    seen.textContent = "";
    if (box.checked) look((running = new AbortController()));
  });
  return { option, seen, end };
}
