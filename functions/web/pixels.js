// @ts-check
// A photo to the pixels that a model takes, as the server makes them (classifier/photo/preprocessing.py).

/** @typedef {import("../../clients/typescript/pointer").components["schemas"]} Schemas */
/** @typedef {{ width: number, height: number, data: Uint8Array<ArrayBuffer> }} Picture red, green and blue, row by row */
/** @typedef {{ first: number, weights: Float64Array }} Sum what one pixel is made of, along one axis, in units of 1/ONE */

const COVER = 1.25; // how much larger than the model's input a photo stays at least when it is reduced
const ONE = 2 ** 22; // weights are whole numbers of which so many are one, as Pillow has them: its rounding is part of it
const STRIP = 2 ** 20; // about so many pixels are read out of the decoded photo at once

/**
 * Decodes a photo, upright and in sRGB, transparent parts over white, and fits it to a model's input: at first reduced
 * by a whole number, then by the bilinear filter that is antialiased, which no canvas has.
 *
 * @param {Blob} photo
 * @param {Schemas["Input"]} input
 * @returns {Promise<Uint8Array<ArrayBuffer>>} red, green and blue, row by row, 0 to 255
 */
export async function pixelsOf(photo, { width, height, resize }) {
  const bitmap = await createImageBitmap(photo).catch(() => notDecoded(photo)); // turned as its EXIF says
  try {
    const scale = Math.min(bitmap.width / width, bitmap.height / height);
    const [across, down] = resize === "crop" ? [scale * width, scale * height] : [bitmap.width, bitmap.height];
    const factor = Math.max(1, Math.floor(scale / COVER));
    const [left, top] = [(bitmap.width - across) / 2, (bitmap.height - down) / 2];
    const small = reduced(bitmap, factor);
    const narrow = resampled(small, sums(small.width, left / factor, across / factor, width), true);
    return resampled(narrow, sums(small.height, top / factor, down / factor, height), false).data;
  } finally {
    bitmap.close();
  }
}

/** What to do about a photo that this browser cannot decode. HEIC and AVIF begin alike; few browsers decode the first.
 * @param {Blob} photo
 * @returns {Promise<never>} */
async function notDecoded(photo) {
  const start = new TextDecoder("latin1").decode(await photo.slice(4, 12).arrayBuffer());
  const what = /^ftyp(?!avi)/.test(start) ? "HEIC, which this browser cannot decode" : "in a format that this browser cannot decode";
  throw new Error(`the photo is ${what}. Choose it as JPEG or PNG to run it here; the server’s answer above stands.`);
}

/** @type {(bitmap: ImageBitmap, factor: number) => Picture} Averages squares of so many pixels a side. */
function reduced(bitmap, factor) {
  const [width, height] = [Math.ceil(bitmap.width / factor), Math.ceil(bitmap.height / factor)];
  const data = new Uint8Array(width * height * 3);
  const rows = Math.max(1, Math.floor(STRIP / bitmap.width / factor)); // of the result, in a strip
  const canvas = new OffscreenCanvas(bitmap.width, rows * factor);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  if (!context) throw new Error("Expected a canvas to decode photos with; this browser gives none.");
  for (let y = 0; y < height; y += rows) {
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, -y * factor);
    const deep = Math.min(rows * factor, bitmap.height - y * factor);
    const strip = context.getImageData(0, 0, bitmap.width, deep).data;
    for (let row = 0; row < Math.min(rows, height - y); row++) {
      for (let x = 0; x < width; x++) {
        const end = [Math.min((x + 1) * factor, bitmap.width), Math.min((row + 1) * factor, deep)];
        let [red, green, blue] = [0, 0, 0];
        for (let v = row * factor; v < end[1]; v++) {
          for (let at = 4 * (v * bitmap.width + x * factor); at < 4 * (v * bitmap.width + end[0]); at += 4) {
            red += strip[at];
            green += strip[at + 1];
            blue += strip[at + 2];
          }
        }
        const count = (end[0] - x * factor) * (end[1] - row * factor);
        const to = 3 * ((y + row) * width + x);
        data[to] = Math.round(red / count);
        data[to + 1] = Math.round(green / count);
        data[to + 2] = Math.round(blue / count);
      }
    }
  }
  return { width, height, data };
}

/**
 * Says what each of `length` pixels is made of, which show `extent` of `size` pixels from `start` on: those below a
 * triangle around its middle, which is as wide as two of the larger pixels.
 *
 * @type {(size: number, start: number, extent: number, length: number) => Sum[]}
 */
function sums(size, start, extent, length) {
  const scale = extent / length;
  const reach = Math.max(1, scale);
  return Array.from({ length }, (_, place) => {
    const middle = start + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(middle - reach + 0.5));
    const end = Math.min(size, Math.trunc(middle + reach + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, each) => {
      return Math.max(0, 1 - Math.abs((each + first - middle + 0.5) * (1 / reach)));
    });
    const total = weights.reduce((sum, each) => sum + each, 0);
    return { first, weights: weights.map((each) => Math.floor(each * (1 / total) * ONE + 0.5)) };
  });
}

/** @type {(picture: Picture, axis: Sum[], across: boolean) => Picture} Makes one axis as long as there are sums. */
function resampled({ width, height, data }, axis, across) {
  const [wide, high] = across ? [axis.length, height] : [width, axis.length];
  const made = new Uint8Array(wide * high * 3);
  const step = 3 * (across ? 1 : width); // from one pixel of a sum to the next
  for (let y = 0, to = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const { first, weights } = axis[across ? x : y];
      const from = across ? 3 * (y * width + first) : 3 * (first * width + x);
      for (let colour = 0; colour < 3; colour++, to++) {
        let sum = ONE / 2;
        for (let each = 0; each < weights.length; each++) sum += weights[each] * data[from + colour + each * step];
        made[to] = Math.floor(sum / ONE);
      }
    }
  }
  return { width: wide, height: high, data: made };
}
