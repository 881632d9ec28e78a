/** The pixels of a canvas as an RGB picture of bounded size: `preprocessing/decode.py`. */

import { shrinkTo } from "./picture.js";

/**
 * @typedef {import("./picture.js").Picture} Picture
 */

const MAX_SIDE = 1200; // Pixels. A digit that fills a tenth of them still has plenty.
const MIN_SIDE = 8; // Pixels. A tiny picture is not tinier.
const MIN_EDGES = 0.7; // Part of the edges between squares, from first to last, that are seen.

/**
 * Converts RGBA to RGB and shrinks it to 1200 pixels.
 *
 * Where a tiny picture was enlarged by drawing a square for each of its pixels, that tiny picture
 * is restored: edges of such squares are no strokes.
 * @param {Uint8ClampedArray} rgba [height * width * 4]
 * @param {number} width
 * @param {number} height
 * @returns {Picture}
 */
export function decode(rgba, width, height) {
  let picture = { pixels: addBackground(rgba), height, width };
  const side = sideOfSquares(picture);
  if (side > 1 && Math.floor(Math.min(width, height) / side) >= MIN_SIDE) {
    picture = onePixelPerSquare(picture, side);
  }
  return shrinkTo(picture, MAX_SIDE, 1);
}

/**
 * Returns the luma of a colour as Pillow's mode L: ITU-R BT.601.
 * @param {number} red
 * @param {number} green
 * @param {number} blue
 * @returns {number} 0..255
 */
export function luma(red, green, blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

/** Puts RGBA pixels on white or black, whichever contrasts with their opaque part. */
function addBackground(rgba) {
  const background = isOpaque(rgba) || isLight(rgba) ? 0 : 255;
  const pixels = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, k = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3];
    for (let channel = i; channel < i + 3; channel++, k++) {
      const level = rgba[channel] * alpha + background * (255 - alpha);
      pixels[k] = alpha === 255 ? rgba[channel] : Math.floor(level / 255 + 0.5);
    }
  }
  return pixels;
}

function isOpaque(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] < 255) return false;
  return true;
}

function isLight(rgba) {
  let [light, opaque] = [0, 0];
  for (let i = 0; i < rgba.length; i += 4) {
    light += luma(rgba[i], rgba[i + 1], rgba[i + 2]) * rgba[i + 3];
    opaque += rgba[i + 3];
  }
  return light > 127.5 * opaque;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** Returns the rows (or columns) whose pixels differ from those of the one before. */
function findEdges({ pixels, height, width }, isRows, stride) {
  const [lines, across] = isRows ? [height, width] : [width, height];
  const [along, step] = isRows ? [width, 1] : [1, width];
  const edges = [];
  for (let line = 1; line < lines; line++) {
    for (let k = 0; k < across; k += stride) {
      const here = 3 * (line * along + k * step);
      const before = here - 3 * along;
      if (
        pixels[here] !== pixels[before] ||
        pixels[here + 1] !== pixels[before + 1] ||
        pixels[here + 2] !== pixels[before + 2]
      ) {
        edges.push(line);
        break;
      }
    }
  }
  return edges;
}

/**
 * Returns the side of the squares of one colour of which a picture consists, in pixels: the largest
 * number that divides both sides and each row and column where a colour changes. 1 for most
 * pictures, also for one of few rectangles with round coordinates.
 */
function sideOfSquares(picture) {
  let side = greatestCommonDivisor(picture.height, picture.width);
  let edges = [];
  // Of most pictures a few rows or columns show it.
  for (const stride of [32, 1]) {
    edges = [true, false].map((isRows) => findEdges(picture, isRows, stride));
    side = edges.flat().reduce(greatestCommonDivisor, side);
    if (side === 1) return 1;
  }
  for (const positions of edges) {
    const span = positions.at(-1) - positions[0];
    if (!positions.length || positions.length < MIN_EDGES * (1 + span / side)) return 1;
  }
  return side;
}

function onePixelPerSquare({ pixels, width, height }, side) {
  const size = { height: Math.floor(height / side), width: Math.floor(width / side) };
  const small = new Uint8Array(size.height * size.width * 3);
  for (let i = 0; i < small.length; i++) {
    const x = Math.floor(i / 3) % size.width;
    const y = Math.floor(i / 3 / size.width);
    small[i] = pixels[(y * side * width + x * side) * 3 + (i % 3)];
  }
  return { pixels: small, ...size };
}
