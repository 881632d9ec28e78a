/** Frames ink like the images of a data set: `preprocessing/frame.py`. */

import { boundingBox, cut, pad } from "./components.js";
import { luma } from "./decode.js";
import { distanceToTrue } from "./distance.js";
import { gradientLength, maskWhere } from "./filters.js";
import { MIN_STRENGTH } from "./ink.js";
import { BOX, resizingWeights } from "./picture.js";
import { countTrue, largest, median, roundHalfEven, sumOf } from "./statistics.js";

/**
 * @typedef {import("./components.js").Box} Box
 * @typedef {import("./filters.js").Plane} Plane
 * @typedef {import("./picture.js").Picture} Picture
 */

/**
 * Conventions of a data set, whose images show ink, light on black.
 * @typedef {object} Conventions
 * @property {number} box_size longer side of the ink's bounding box, in pixels
 * @property {boolean} centre_by_mass whether the centre of mass is in the middle of the image;
 *   otherwise the centre of the bounding box is
 * @property {number} min_stroke_width in pixels; thinner strokes are thickened
 * @property {boolean} divide whether ink is divided into lines and digits; else it is all one thing
 */

// Limits of images that are framed already.
const SMALLEST = 0.9; // Of the box size: the longer side of the ink, which fades at its ends.
const OFF_BY_MASS = 0.02; // Of the image's side: the centre of mass is off by rounding.
const OFF_BY_BOX = 0.08; // As KMNIST's boxes, which people drew, and boxes of whole pixels.

/**
 * Returns a picture that is framed by the conventions already, or null. Such a picture may be an
 * image of the data set itself, which must reach the model unchanged.
 * @param {Picture} picture
 * @param {[number, number]} size height and width of the images
 * @param {Conventions} conventions
 * @returns {{image: Uint8Array, isDark: boolean} | null} the image, light on exact black, and
 *   whether the picture is its negative
 */
export function asFramed({ pixels, height, width }, size, conventions) {
  if (height !== size[0] || width !== size[1]) return null;
  let image = new Uint8Array(height * width);
  for (let i = 0; i < image.length; i++) {
    image[i] = luma(pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]);
  }
  const ground = median(borderOf(image, height, width));
  const isDark = ground === 255;
  if (isDark) image = image.map((level) => 255 - level);
  else if (ground > 0) return null;
  const strength = { values: Float32Array.from(image, (level) => level / 255), height, width };
  strength.values = strength.values.map((value) => (value < MIN_STRENGTH ? 0 : value));
  if (!countTrue(strength.values)) return null;
  if (strokeWidth(strength) < conventions.min_stroke_width) return null;
  const { top, bottom, left, right } = boundingBox(strength);
  const side = Math.max(right - left, bottom - top) / conventions.box_size;
  const [middle, tolerance] = conventions.centre_by_mass
    ? [centreOfMass(strength), OFF_BY_MASS]
    : [[(top + bottom) / 2, (left + right) / 2], OFF_BY_BOX];
  const off = Math.max(...middle.map((centre, axis) => Math.abs(centre / size[axis] - 0.5)));
  return SMALLEST <= side && side <= 1 && off <= tolerance ? { image, isDark } : null;
}

/** Returns the pixels along the border; those in the corners twice. */
function borderOf(image, height, width) {
  const border = [...image.subarray(0, width), ...image.subarray((height - 1) * width)];
  for (let y = 0; y < height; y++) border.push(image[y * width], image[(y + 1) * width - 1]);
  return Uint8Array.from(border);
}

/**
 * Draws ink as an image by the conventions of a data set: light on black, scaled and centred.
 * @param {Plane} strength of the ink
 * @param {[number, number]} size height and width of the image, both at least `box_size`
 * @param {Conventions} conventions
 * @returns {Uint8Array} [height * width], 0..255
 */
export function frameInk(strength, [height, width], conventions) {
  const boxSize = conventions.box_size;
  const ink = cut(strength, boundingBox(strength));
  const thick = thicken(ink, conventions.min_stroke_width / boxSize);
  const box = boundingBox(thick);
  const [wide, high] = [box.right - box.left, box.bottom - box.top];
  const scale = boxSize / Math.max(wide, high);
  const scaled = average(
    thick,
    box,
    Math.max(1, roundHalfEven(scale * high)),
    Math.max(1, roundHalfEven(scale * wide)),
  );
  const most = largest(scaled.values);
  scaled.values = scaled.values.map((value) => value / most);
  const middle = conventions.centre_by_mass
    ? centreOfMass(scaled)
    : [scaled.height / 2, scaled.width / 2];
  // Clamped to the image: a skewed centre of mass must not cut off ink.
  const startOf = (side, centre, length) =>
    Math.min(Math.max(roundHalfEven(side / 2 - centre), 0), side - length);
  const top = startOf(height, middle[0], scaled.height);
  const left = startOf(width, middle[1], scaled.width);
  const image = new Uint8Array(height * width);
  for (let i = 0; i < scaled.values.length; i++) {
    const row = top + Math.floor(i / scaled.width);
    const level = Math.fround(255 * scaled.values[i]);
    image[row * width + left + (i % scaled.width)] = roundHalfEven(level);
  }
  return image;
}

/** Resizes a box of a plane; each pixel is the average of an area. */
function average({ values, height, width }, box, newHeight, newWidth) {
  const columns = resizingWeights(width, box.left, box.right, newWidth, BOX);
  const rows = resizingWeights(height, box.top, box.bottom, newHeight, BOX);
  const narrow = new Float32Array(height * newWidth);
  for (let i = 0; i < narrow.length; i++) {
    const start = Math.floor(i / newWidth) * width;
    const { first, weights } = columns[i % newWidth];
    narrow[i] = weights.reduce((sum, w, k) => sum + values[start + first + k] * w, 0);
  }
  const result = new Float32Array(newHeight * newWidth);
  for (let i = 0; i < result.length; i++) {
    const { first, weights } = rows[Math.floor(i / newWidth)];
    const x = i % newWidth;
    result[i] = weights.reduce((sum, w, k) => sum + narrow[(first + k) * newWidth + x] * w, 0);
  }
  return { values: result, height: newHeight, width: newWidth };
}

/** Returns the row and column of the centre of mass. */
function centreOfMass({ values, width }) {
  let [mass, down, across] = [0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    mass += values[i];
    down += values[i] * Math.floor(i / width);
    across += values[i] * (i % width);
  }
  return [down / mass, across / mass];
}

/**
 * Thickens strokes to a minimum width, a part of the longer side of the result's ink.
 *
 * Strokes that grow by a radius r on either side also make the ink's longer side grow, so the
 * radius solves w + 2 r = minWidth * (side + 2 r).
 */
function thicken(strength, minWidth) {
  const side = Math.max(strength.height, strength.width);
  const radius = (minWidth * side - strokeWidth(strength)) / (2 * (1 - minWidth));
  if (radius <= 0) return strength;
  const padded = pad(strength, Math.trunc(radius) + 2);
  const distance = distanceToTrue(maskWhere(padded, (value) => value >= 0.5));
  // The distance is between pixel centres. The outline is half a pixel from the ink's last pixel,
  // and a pixel is covered half when its centre is on the new outline.
  const values = padded.values.map((value, i) =>
    Math.max(value, Math.min(Math.max(radius + 1 - distance[i], 0), 1)),
  );
  return { ...padded, values };
}

/**
 * Returns the mean width of strokes in pixels: twice their area over the outline's length.
 *
 * The length of the outline is the total variation of the strength (the coarea formula).
 */
function strokeWidth(strength) {
  // At the ends of an array the gradient is one-sided: they must be outside of the ink's edge.
  return (2 * sumOf(strength.values)) / sumOf(gradientLength(pad(strength, 2)));
}
