/**
 * RGB pictures, cropped and resized to the same levels as by Pillow (its `src/libImaging/Resample.c`
 * and `Reduce.c`).
 */

import { roundHalfEven } from "./statistics.js";

/**
 * @typedef {object} Picture
 * @property {Uint8Array | Uint8ClampedArray} pixels [height * width * 3], RGB, 0..255
 * @property {number} height
 * @property {number} width
 */

/** Averages the area that a pixel covers. */
export const BOX = { support: 0.5, weigh: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };

/** Cubic convolution with a = -0.5 (https://en.wikipedia.org/wiki/Bicubic_interpolation). */
export const BICUBIC = {
  support: 2,
  weigh(distance) {
    const x = Math.abs(distance);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
  },
};

const PRECISION_BITS = 22; // Of the weights of 8-bit levels: sums of them fit in 32 bits.

/**
 * Returns the source pixels of each pixel of a resized line, and their weights, of sum 1.
 * @param {number} length of the line
 * @param {number} from left end of the part that is resized
 * @param {number} to its right end
 * @param {number} size pixels of the result
 * @param {{support: number, weigh: (x: number) => number}} filter
 * @returns {{first: number, weights: Float64Array}[]}
 */
export function resizingWeights(length, from, to, size, filter) {
  const scale = (Math.fround(to) - Math.fround(from)) / size;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const result = [];
  for (let i = 0; i < size; i++) {
    const centre = Math.fround(from) + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(last - first);
    let total = 0;
    for (let k = 0; k < weights.length; k++) {
      weights[k] = filter.weigh((k + first - centre + 0.5) * (1 / stretch));
      total += weights[k];
    }
    if (total !== 0) for (let k = 0; k < weights.length; k++) weights[k] /= total;
    result.push({ first, weights });
  }
  return result;
}

/** Resizes the middle axis of 8-bit levels [outer, length, inner]. */
function resizeLevels(levels, outer, length, inner, taps) {
  const result = new Uint8ClampedArray(outer * taps.length * inner);
  const fixed = taps.map(({ weights }) => Int32Array.from(weights, toFixedPoint));
  let target = 0;
  for (let o = 0; o < outer; o++) {
    for (let t = 0; t < taps.length; t++) {
      const weights = fixed[t];
      const start = (o * length + taps[t].first) * inner;
      for (let i = start; i < start + inner; i++) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (let k = 0, at = i; k < weights.length; k++, at += inner)
          sum += levels[at] * weights[k];
        result[target++] = sum >> PRECISION_BITS;
      }
    }
  }
  return result;
}

function toFixedPoint(weight) {
  return Math.trunc(weight * 2 ** PRECISION_BITS + (weight < 0 ? -0.5 : 0.5));
}

/**
 * Resizes a picture.
 * @param {Picture} picture
 * @param {number} width of the result
 * @param {number} height of the result
 * @param {{support: number, weigh: (x: number) => number}} filter `BOX` or `BICUBIC`
 * @param {number} [right] right and
 * @param {number} [lower] lower end of the part that is resized
 * @returns {Picture}
 */
export function resize(picture, width, height, filter, right, lower) {
  const columns = resizingWeights(picture.width, 0, right ?? picture.width, width, filter);
  const rows = resizingWeights(picture.height, 0, lower ?? picture.height, height, filter);
  // As Pillow from version 13 on. Levels are rounded after the first axis.
  const rowsFirst = picture.height - height > Math.max(0, 2 * (picture.width - width));
  let { pixels } = picture;
  if (rowsFirst) pixels = resizeLevels(pixels, 1, picture.height, picture.width * 3, rows);
  const between = rowsFirst ? height : picture.height;
  pixels = resizeLevels(pixels, between, picture.width, 3, columns);
  if (!rowsFirst) pixels = resizeLevels(pixels, 1, picture.height, width * 3, rows);
  return { pixels, height, width };
}

/** Averages blocks of pixels; those at the right and lower ends may be smaller. */
function reduce(picture, factorX, factorY) {
  const width = Math.ceil(picture.width / factorX);
  const height = Math.ceil(picture.height / factorY);
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const lower = Math.min((y + 1) * factorY, picture.height);
    for (let x = 0; x < width; x++) {
      const right = Math.min((x + 1) * factorX, picture.width);
      const area = (lower - y * factorY) * (right - x * factorX);
      const multiplier = Math.trunc(Math.fround(2 ** 24 / area));
      for (let channel = 0; channel < 3; channel++) {
        let sum = area >> 1;
        for (let row = y * factorY; row < lower; row++) {
          const start = row * picture.width;
          for (let column = x * factorX; column < right; column++) {
            sum += picture.pixels[(start + column) * 3 + channel];
          }
        }
        pixels[(y * width + x) * 3 + channel] = Math.floor((sum * multiplier) / 2 ** 24);
      }
    }
  }
  return { pixels, height, width };
}

/** Returns the whole number next to `length` that keeps the aspect ratio best, at least 1. */
function roundAspect(length, error) {
  const [low, high] = [Math.floor(length), Math.ceil(length)];
  return Math.max(error(low) <= error(high) ? low : high, 1);
}

/**
 * Returns a copy whose longer side is at most `side` pixels, as Pillow's `thumbnail`.
 * @param {Picture} picture
 * @param {number} side
 * @param {number} [gap] least reduction that is left to exact averages; whole blocks do the rest
 * @returns {Picture}
 */
export function shrinkTo(picture, side, gap = 2) {
  const { width, height } = picture;
  if (side >= width && side >= height) return picture;
  const aspect = width / height;
  let [newWidth, newHeight] = [side, side];
  if (aspect <= 1) newWidth = roundAspect(side * aspect, (n) => Math.abs(aspect - n / side));
  else newHeight = roundAspect(side / aspect, (n) => (n ? Math.abs(aspect - side / n) : 0));
  const factorX = Math.trunc(width / newWidth / gap) || 1;
  const factorY = Math.trunc(height / newHeight / gap) || 1;
  if (factorX === 1 && factorY === 1) return resize(picture, newWidth, newHeight, BOX);
  const reduced = reduce(picture, factorX, factorY);
  return resize(reduced, newWidth, newHeight, BOX, width / factorX, height / factorY);
}

/**
 * Enlarges a picture whose longer side is less than `side` pixels.
 * @param {Picture} picture
 * @param {number} side
 * @returns {Picture}
 */
export function enlargeTo(picture, side) {
  const scale = side / Math.max(picture.width, picture.height);
  if (scale <= 1) return picture;
  const width = Math.max(1, roundHalfEven(scale * picture.width));
  const height = Math.max(1, roundHalfEven(scale * picture.height));
  return resize(picture, width, height, BICUBIC);
}

/**
 * Crops a picture. What is outside of it is black.
 * @param {Picture} picture
 * @param {number} left
 * @param {number} upper
 * @param {number} right
 * @param {number} lower
 * @returns {Picture}
 */
export function crop(picture, left, upper, right, lower) {
  const [width, height] = [right - left, lower - upper];
  const pixels = new Uint8Array(width * height * 3);
  const end = Math.min(right, picture.width);
  for (let y = 0; y < Math.min(height, picture.height - upper); y++) {
    const start = (upper + y) * picture.width;
    const row = picture.pixels.subarray((start + left) * 3, (start + end) * 3);
    pixels.set(row, y * width * 3);
  }
  return { pixels, height, width };
}
