/** Segments ink from a ground of one colour: `preprocessing/segment.py`. */

import { boundingBox } from "./components.js";
import { nearestTrue } from "./distance.js";
import { gaussianBlur } from "./filters.js";
import { findEvenGround } from "./ground.js";
import { thresholdInk } from "./ink.js";
import { BICUBIC, BOX, crop, resize, shrinkTo } from "./picture.js";
import { findSheetOrFrame } from "./sheet.js";
import { roundHalfEven } from "./statistics.js";

/**
 * @typedef {import("./filters.js").Plane} Plane
 * @typedef {import("./ink.js").Ink} Ink
 * @typedef {import("./picture.js").Picture} Picture
 */

/**
 * A part of a picture, reduced, and the ink on it.
 * @typedef {object} View
 * @property {Picture} picture the part of the picture
 * @property {[number, number]} origin its left and upper end on the whole picture, in pixels
 * @property {Picture} reduced a reduced copy,
 * @property {Ink} ink the ink on it, and
 * @property {number} scale the number of pixels of the picture per pixel of that copy
 */

/** The ground of a picture is not of one colour. */
export class UnevenGround extends Error {}

const SEARCH_SIDE = 160; // Pixels of the longer side of a view. More find no more ink.
const MIN_NEARER = 0.5; // Scale of a second view, as a part of the first's, that shows no more.
const MAX_NESTED = 3; // Sheets and frames around a digit: a form on a desk, a box on the form.

/**
 * Finds where on a picture the ink is, roughly. Where a sheet or a frame surrounds the ink, only
 * its inside is searched.
 * @param {Picture} picture
 * @returns {View | null} null for a picture without ink
 */
export function searchPicture(picture) {
  let view = segmentPart(picture, [0, 0]);
  if (!view) return null;
  // Printed lines that cross the whole picture: all of it is paper.
  const maxNested = view.ink.hasRules ? 0 : MAX_NESTED;
  for (let nested = 0; nested < maxNested; nested++) {
    const region = findSheetOrFrame(view.reduced);
    if (!region) break;
    const inside = cropToRegion(view.picture, region);
    const origin = [view.origin[0] + inside.left, view.origin[1] + inside.upper];
    const inner = segmentPart(inside.picture, origin);
    if (!inner) break; // No ink inside: the sheet or frame is the drawing.
    view = inner;
  }
  return view;
}

/**
 * Finds the ink of a view again, only where it is, which shows its strength.
 * @param {View} view
 * @returns {View | null} null where there is no ink
 */
export function searchAgain(view) {
  const { top, bottom, left, right } = boundingBox(view.ink.strength);
  const { scale, picture, origin } = view;
  const margin = Math.max(scale * right - scale * left, scale * bottom - scale * top) / 2;
  const x = roundHalfEven(Math.max(scale * left - margin, 0));
  const y = roundHalfEven(Math.max(scale * top - margin, 0));
  const end = roundHalfEven(Math.min(scale * right + margin, picture.width));
  const lower = roundHalfEven(Math.min(scale * bottom + margin, picture.height));
  // A ground of one colour looks the same from hardly nearer.
  const nearer = Math.max(1, Math.max(end - x, lower - y) / SEARCH_SIDE);
  if (nearer > MIN_NEARER * scale) return view;
  return segmentPart(crop(picture, x, y, end, lower), [origin[0] + x, origin[1] + y]);
}

/**
 * Segments a part of a picture.
 * @param {Picture} picture
 * @param {[number, number]} origin left and upper end of the part on the whole picture
 * @param {number} [side] pixels of the longer side of the reduced copy that is searched
 * @returns {View | null} null where there is no ink
 * @throws {UnevenGround}
 */
export function segmentPart(picture, origin, side = SEARCH_SIDE) {
  const reduced = shrinkTo(picture, side);
  const [longer, reducedLonger] = [picture, reduced].map((p) => Math.max(p.width, p.height));
  const ink = segmentInk(reduced);
  return ink && { picture, origin, reduced, ink, scale: longer / reducedLonger };
}

/**
 * Returns the left, upper, right and lower end of ink on the whole picture.
 * @param {View} view where it was found
 * @param {Plane} strength of the ink
 * @returns {[number, number, number, number]}
 */
export function boxOnPicture({ origin: [x, y], scale }, strength) {
  const { top, bottom, left, right } = boundingBox(strength);
  return [x + scale * left, y + scale * top, x + scale * right, y + scale * bottom];
}

/** Separates ink from a ground of one colour. */
function segmentInk(picture) {
  const { pixels, height, width } = picture;
  const even = findEvenGround(picture);
  if (!even) throw new UnevenGround("the ground is not of one colour");
  // In any large picture noise is finer than strokes.
  const sigma = Math.min(Math.max(height, width), SEARCH_SIDE) / 300;
  const smooth = gaussianBlur(pixels, height, width, 3, sigma);
  const { colour, inside } = even;
  const difference = differenceFrom(smooth, width, colour, inside);
  const [red, green, blue] = inkDirection(difference);
  let sum = 0;
  const tone = new Float32Array(difference.length / 3);
  for (let i = 0; i < tone.length; i++) {
    const [r, g, b] = [difference[3 * i], difference[3 * i + 1], difference[3 * i + 2]];
    tone[i] = r * red + g * green + b * blue;
    sum += tone[i];
  }
  const isDark = sum < 0;
  const depth = new Float32Array(height * width);
  for (let y = inside.top, i = 0; y < inside.bottom; y++) {
    for (let x = inside.left; x < inside.right; x++, i++) {
      depth[y * width + x] = Math.max(isDark ? -tone[i] : tone[i], 0);
    }
  }
  return thresholdInk({ values: depth, height, width }, isDark);
}

/** Returns the difference from a colour of the pixels in a box, [n * 3]. */
function differenceFrom(pixels, width, colour, { top, bottom, left, right }) {
  const result = new Float32Array((bottom - top) * (right - left) * 3);
  for (let y = top, i = 0; y < bottom; y++) {
    for (let k = (y * width + left) * 3; k < (y * width + right) * 3; k++, i++) {
      result[i] = pixels[k] - colour[i % 3];
    }
  }
  return result;
}

/** Returns the main direction of differences [n * 3]: a unit colour, towards lighter. */
function inkDirection(difference) {
  let [rr, rg, rb, gg, gb, bb] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < difference.length; i += 3) {
    const [r, g, b] = [difference[i], difference[i + 1], difference[i + 2]];
    rr += r * r;
    rg += r * g;
    rb += r * b;
    gg += g * g;
    gb += g * b;
    bb += b * b;
  }
  let matrix = [rr, rg, rb, rg, gg, gb, rb, gb, bb]; // The sum of their outer products.
  // Squared again and again, a matrix becomes the outer product of its main eigenvector.
  for (let pass = 0; pass < 40; pass++) {
    const trace = matrix[0] + matrix[4] + matrix[8];
    if (trace === 0) return [0, 0, 1]; // All pixels have the colour of the ground.
    const m = matrix.map((value) => value / trace);
    matrix = m.map((_, k) => {
      const [row, column] = [k - (k % 3), k % 3];
      return m[row] * m[column] + m[row + 1] * m[column + 3] + m[row + 2] * m[column + 6];
    });
  }
  const row = [0, 3, 6].reduce((a, b) => (matrix[a + a / 3] >= matrix[b + b / 3] ? a : b));
  const eigenvector = matrix.slice(row, row + 3);
  const [red, green, blue] = eigenvector;
  const sign = 0.299 * red + 0.587 * green + 0.114 * blue > 0 ? 1 : -1;
  const length = sign * Math.hypot(red, green, blue);
  return eigenvector.map((value) => Math.fround(value / length));
}

/**
 * Crops a picture to the bounding box of a region and extends the region over the rest of it.
 * @param {Picture} picture
 * @param {Plane} region a mask of a reduced view
 * @returns {{picture: Picture, left: number, upper: number}} and where its corner was
 */
export function cropToRegion(picture, region) {
  const view = resize(picture, region.width, region.height, BOX);
  const nearest = nearestTrue(region);
  const extended = new Uint8Array(view.pixels.length);
  for (let i = 0; i < extended.length; i++) {
    extended[i] = view.pixels[3 * nearest[Math.floor(i / 3)] + (i % 3)];
  }
  const background = resize({ ...view, pixels: extended }, picture.width, picture.height, BICUBIC);
  const mask = enlargeMask(region, picture.width, picture.height);
  const { top, bottom, left, right } = boundingBox(mask);
  const { pixels } = background;
  for (let i = 0; i < mask.values.length; i++) {
    if (mask.values[i]) pixels.set(picture.pixels.subarray(3 * i, 3 * i + 3), 3 * i);
  }
  return { picture: crop(background, left, top, right, bottom), left, upper: top };
}

/** Resizes a mask by taking the nearest pixel. */
function enlargeMask({ values, height, width }, newWidth, newHeight) {
  const nearest = (length, newLength) => {
    // Summed up as by Pillow, which decides where a pixel is half-way between two.
    let position = (length / newLength) * 0.5;
    return Int32Array.from({ length: newLength }, () => {
      const index = Math.trunc(position);
      position += length / newLength;
      return Math.min(index, length - 1);
    });
  };
  const [rows, columns] = [nearest(height, newHeight), nearest(width, newWidth)];
  const result = new Uint8Array(newHeight * newWidth);
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      result[y * newWidth + x] = values[rows[y] * width + columns[x]];
    }
  }
  return { values: result, height: newHeight, width: newWidth };
}
