// Prepares a drawing as an image like those of the training set.

/**
 * @typedef {object} Candidate A part of a drawing that may be a digit, or all of it.
 * @property {Uint8Array} image [height * width * channels], 0..255, what the network takes.
 * @property {number[] | null} box Its left, upper, right and lower end, in pixels of the drawing.
 * @property {number} start Index of the first piece of the line that belongs to it.
 * @property {number} stop Index after the last one.
 * @property {number} cost How unlikely its shape is.
 */

/**
 * @typedef {object} Prepared Either `lines` and the rest, or `error`.
 * @property {Candidate[][]} [lines] For each line of writing the parts that may be its digits.
 * @property {string | null} [polarity] `dark on light`, `light on dark`, or null.
 * @property {boolean} [isDoubtful] Whether perhaps nothing is written.
 * @property {string} [error] `uneven`, or the reason why there is nothing to read.
 */

/**
 * Prepares a drawing of one digit on a ground of one colour.
 *
 * @param {Uint8ClampedArray} pixels RGBA.
 * @param {number} width
 * @param {number} height
 * @param {any} conventions As `content.py` builds them.
 * @param {number[]} imageShape [height, width, 1] of the network's images.
 * @returns {Prepared}
 */
export function prepare(pixels, width, height, conventions, imageShape) {
  const ground = pixels[0];
  for (let x = 0; x < width; x++) {
    if (Math.abs(pixels[4 * x] - ground) > 25) {
      return { error: "uneven" };
    }
  }
  let [left, top, right, bottom] = [width, height, 0, 0];
  const ink = Float32Array.from({ length: width * height }, (_, i) => {
    const strength = Math.abs(pixels[4 * i] - ground) / 255;
    if (strength > 0.3) {
      const [x, y] = [i % width, Math.floor(i / width)];
      [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
    }
    return strength;
  });
  if (right <= left) {
    return { error: "shows nothing: all of it has the same brightness" };
  }
  const image = frameInk(ink, width, [left, top, right, bottom], conventions, imageShape);
  const box = [left, top, right, bottom];
  const polarity = ground > 127 ? "dark on light" : "light on dark";
  const candidate = { image, box, start: 0, stop: 1, cost: 0 };
  return { lines: [[candidate]], polarity, isDoubtful: false };
}

/**
 * @param {Float32Array} ink
 * @param {number} width
 * @param {number[]} box
 * @param {any} conventions
 * @param {number[]} imageShape
 * @returns {Uint8Array}
 */
function frameInk(ink, width, [left, top, right, bottom], conventions, [rows, columns]) {
  const scale = conventions.box_size / Math.max(right - left, bottom - top);
  const sums = [0, 0, 0];
  forEachPixel((x, y, strength) => {
    sums[0] += strength;
    sums[1] += strength * (x + 0.5);
    sums[2] += strength * (y + 0.5);
  });
  const image = new Float32Array(rows * columns);
  forEachPixel((x, y, strength) => {
    const column = Math.floor(columns / 2 + (x + 0.5 - sums[1] / sums[0]) * scale);
    const row = Math.floor(rows / 2 + (y + 0.5 - sums[2] / sums[0]) * scale);
    if (row >= 0 && row < rows && column >= 0 && column < columns) {
      image[row * columns + column] += 255 * strength * scale ** 2;
    }
  });
  return Uint8Array.from(image, (value) => Math.min(255, Math.round(value)));

  /** @param {(x: number, y: number, strength: number) => void} visit */
  function forEachPixel(visit) {
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        visit(x, y, ink[y * width + x]);
      }
    }
  }
}
