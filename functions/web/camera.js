// @ts-check
// The camera of a desktop or a phone, live: what it sees is sent when its user says so.
import { closeDialog, openDialog } from "./dialog.js";
import { tell } from "./problems.js";
import { $, button, part } from "./words.js";

const QUALITY = 0.92;

/** Call `taken` with the photo that is taken. Where the browser gives no camera, a phone's own app takes it.
 * @param {(files: File[]) => void} taken */
export function onCamera(taken) {
  const live = Boolean(navigator.mediaDevices?.getUserMedia); // only on localhost and over TLS
  $("camera-button").hidden = !live;
  $("capture-button").hidden = live || !matchMedia("(pointer: coarse)").matches;
  $("camera-button").addEventListener("click", () => openCamera(taken));
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
    if (!video.isConnected && $("dialog").open) return stop(); // it was closed meanwhile
    video.srcObject = stream;
  };
  const take = async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    const photo = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    const time = new Date().toLocaleTimeString("en-GB").replaceAll(":", ".");
    closeDialog();
    if (photo) taken([new File([photo], `camera ${time}.jpg`, { type: "image/jpeg" })]);
  };
  const turn = () => {
    facing = facing === "environment" ? "user" : "environment";
    start().catch(refused);
  };
  /** @param {any} error */
  const refused = (error) => {
    stop();
    closeDialog();
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
  if (several) buttons.append(button("quiet", "Other camera", turn));
  openDialog("Camera", [video, buttons], stop);
}
