// Pictures and images of data sets on canvases.

const MAX_SIDE = 1200; // Pixels of a picture, as in `preprocessing/decode.py`.

/**
 * Decodes a picture file, upright and at most `MAX_SIDE` pixels a side.
 *
 * @param {Blob} file
 * @returns {Promise<HTMLCanvasElement>} Rejected where the browser does not know its format.
 */
export async function decodePicture(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((n) =>
    Math.max(1, Math.round(scale * n)),
  );
  const canvas = newCanvas(width, height);
  const context = context2d(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return canvas;
}

/**
 * Draws an image of a data set, a pixel for each of its pixels.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {Uint8Array} image [height * width * channels], 0..255.
 * @param {number[]} shape [height, width, channels], with one channel (grey) or three.
 * @returns {HTMLCanvasElement} `canvas`.
 */
export function drawImage(canvas, image, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) {
      pixels.data[4 * i + channel] = image[i * channels + (channels === 1 ? 0 : channel)];
    }
    pixels.data[4 * i + 3] = 255;
  }
  context2d(canvas).putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * Crops the middle of a picture and scales it, as for a model of colour images.
 *
 * @param {HTMLCanvasElement} picture
 * @param {number[]} shape [height, width, 3].
 * @returns {Uint8Array} [height * width * 3], 0..255.
 */
export function cropToShape(picture, [height, width]) {
  const context = context2d(newCanvas(width, height));
  const scale = Math.min(picture.width / width, picture.height / height);
  const [cropWidth, cropHeight] = [scale * width, scale * height];
  const [left, top] = [(picture.width - cropWidth) / 2, (picture.height - cropHeight) / 2];
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, cropWidth, cropHeight, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from(data.filter((_, i) => i % 4 < 3));
}

/**
 * @param {number} width
 * @param {number} height
 * @returns {HTMLCanvasElement}
 */
export function newCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function context2d(canvas) {
  const options = { willReadFrequently: true };
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", options));
}
