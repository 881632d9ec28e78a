/** Finds an even ground, on which ink is whatever differs from it: `preprocessing/even_ground.py`. */

import { cut, findComponents, isClearOfBorder, maskOf } from "./components.js";
import { distanceToTrue } from "./distance.js";
import { gradientLength, invert, maskAbove } from "./filters.js";
import { countTrue, largest, median, percentile, sumOf, valuesWhere } from "./statistics.js";

/**
 * @typedef {import("./components.js").Box} Box
 * @typedef {import("./picture.js").Picture} Picture
 */

const SAMPLE_SIDE = 80; // Pixels of the longer side from which on a part of them tells the colour.
const TOLERANCE = 12; // Levels of 255 by which the ground may differ from its commonest colour.
const CLEAR = 36; // Levels of 255 by which ink differs from the ground.
const MIN_CLEAR = 0.5; // Part of what is no ground that must be so clear.
const MIN_OF_BORDER = 0.5; // Part of the border that must be ground.
const MIN_OF_ALL = 1 / 3; // Part of all pixels that must be ground.
const MAX_WIDE = 0.7; // Of the longer side: at the border no stroke is so wide, but a shadow is.
const MIN_BAND_FILL = 0.75; // Part of its bounding box that a band of shadow along a side fills.
const MAX_SOFT = 0.02; // Of the longer side: a wider edge is that of a shadow,
const SOFT_PIXELS = 3; // but not an edge of so many pixels: tiny pictures were enlarged smoothly.
const LINE_WIDTH = 0.04; // Of the side across: a line along the border is at most so wide.
const LINE_LENGTH = 0.9; // Of the side along which it runs.

/**
 * Finds the colour of an even ground, and the part of a picture inside of border lines.
 * @param {Picture} picture
 * @returns {{colour: number[], inside: Box} | null} null where the ground is not even
 */
export function findEvenGround(picture) {
  const { height, width } = picture;
  const colour = commonestColour(picture);
  const difference = { values: differences(picture, colour), height, width };
  const isGround = invert(maskAbove(difference, TOLERANCE));
  const clear = countTrue(maskAbove(difference, CLEAR).values);
  // Most of the rest is only a little darker or lighter: light that falls askew.
  if (clear < MIN_CLEAR * (height * width - countTrue(isGround.values))) return null;
  const [top, bottom] = insideOfLines(isGround.values, height, width, width, 1);
  const [left, right] = insideOfLines(isGround.values, width, height, 1, width);
  const inside = { top, bottom, left, right };
  if (hasShadow(cut(difference, inside))) return null;
  return isMostlyGround(cut(isGround, inside)) ? { colour, inside } : null;
}

/** Returns the largest difference over the channels of each pixel from a colour, 0..255. */
function differences({ pixels, height, width }, [red, green, blue]) {
  const result = new Float32Array(height * width);
  for (let i = 0; i < result.length; i++) {
    result[i] = Math.max(
      Math.abs(pixels[3 * i] - red),
      Math.abs(pixels[3 * i + 1] - green),
      Math.abs(pixels[3 * i + 2] - blue),
    );
  }
  return result;
}

function isMostlyGround({ values, height, width }) {
  let border = 0;
  for (let x = 0; x < width; x++) border += values[x] + values[(height - 1) * width + x];
  for (let y = 1; y < height - 1; y++) border += values[y * width] + values[(y + 1) * width - 1];
  const around = 2 * width + 2 * Math.max(height - 2, 0);
  return border / around >= MIN_OF_BORDER && countTrue(values) / values.length >= MIN_OF_ALL;
}

/** Whether what is no ground is softer than ink, or wider where it touches the border. */
function hasShadow(difference) {
  const { values, height, width } = difference;
  const mask = maskAbove(difference, CLEAR);
  if (!countTrue(mask.values) || Math.min(height, width) < 2) return false;
  const side = Math.max(height, width);
  const full = percentile(valuesWhere(values, mask.values), 75);
  const strength = values.map((value) => Math.min(value / full, 1));
  // The length of the outline is the total variation (the coarea formula).
  const outline = sumOf(gradientLength({ values: strength, height, width }));
  const [faint, strong] = [Math.fround(0.2), Math.fround(0.8)];
  let soft = 0;
  for (let i = 0; i < strength.length; i++) if (strength[i] > faint && strength[i] < strong) soft++;
  if (soft / Math.max(outline, 1) > Math.max(SOFT_PIXELS, MAX_SOFT * side)) return true;
  return hasWidePartAtBorder(mask, side);
}

function hasWidePartAtBorder(mask, side) {
  const { height, width } = mask;
  const components = findComponents(mask, false);
  const labels = components.boxes
    .map((_, i) => i + 1)
    .filter((label) => !isClearOfBorder(components.boxes[label - 1], height, width));
  if (!labels.length) return false;
  const ground = invert(mask);
  if (!countTrue(ground.values)) return true;
  const radius = distanceToTrue(ground);
  return labels.some((label) => {
    const box = components.boxes[label - 1];
    const part = maskOf(components, box, [label]).values;
    const within = cut({ values: radius, height, width }, box).values;
    if (2 * largest(valuesWhere(within, part)) > MAX_WIDE * side) return true;
    return isAlongSide(box, height, width) && countTrue(part) / part.length > MIN_BAND_FILL;
  });
}

/** Whether a box covers a side of the picture, but not all of the picture. */
function isAlongSide({ top, bottom, left, right }, height, width) {
  const isFull = [bottom - top === height, right - left === width];
  const touches = [top === 0 || bottom === height, left === 0 || right === width];
  return isFull[0] !== isFull[1] && touches[0] && touches[1];
}

/** Returns the median of the pixels in the fullest cell of colour space, [3]. */
function commonestColour({ pixels, height, width }) {
  const stride = Math.max(1, Math.floor(Math.max(height, width) / SAMPLE_SIDE));
  const sample = [];
  for (let y = 0; y < height; y += stride) {
    for (let x = 0; x < width; x += stride) sample.push(3 * (y * width + x));
  }
  const cell = fullestCell(pixels, sample);
  const levels = cell.map(() => new Uint8Array(sample.length));
  let count = 0;
  for (const i of sample) {
    const isNear = (channel) => {
      const before = cell[channel] - (pixels[i + channel] >> 4);
      return before === 0 || before === 1;
    };
    if (!isNear(0) || !isNear(1) || !isNear(2)) continue;
    for (let channel = 0; channel < 3; channel++) levels[channel][count] = pixels[i + channel];
    count++;
  }
  return levels.map((values) => median(values.subarray(0, count)));
}

/**
 * Returns the cell of 16 levels that holds most colours together with those before it on each axis:
 * noise may be on the edge of two cells.
 */
function fullestCell(pixels, sample) {
  const counts = new Uint16Array(16 ** 3);
  for (const i of sample) {
    counts[((pixels[i] >> 4) << 8) | (pixels[i + 1] & 0xf0) | (pixels[i + 2] >> 4)]++;
  }
  const countAt = (r, g, b) => (r < 0 || g < 0 || b < 0 ? 0 : counts[(r << 8) | (g << 4) | b]);
  let fullest = [0, 0, 0];
  let most = 0;
  for (let r = 0; r < 16; r++) {
    for (let g = 0; g < 16; g++) {
      for (let b = 0; b < 16; b++) {
        let count = 0;
        for (let k = 0; k < 8; k++) count += countAt(r - (k >> 2), g - ((k >> 1) & 1), b - (k & 1));
        if (count > most) [most, fullest] = [count, [r, g, b]];
      }
    }
  }
  return fullest;
}

/** Returns the first and the end of the rows (or columns) without lines along the border. */
function insideOfLines(isGround, lines, across, lineStep, acrossStep) {
  const isLine = (line) => {
    let others = 0;
    for (let k = 0; k < across; k++) others += 1 - isGround[line * lineStep + k * acrossStep];
    return others / across >= LINE_LENGTH;
  };
  // Most of a tiny picture must stay.
  const widest = Math.min(Math.max(1, Math.trunc(LINE_WIDTH * lines)), Math.floor(lines / 3));
  const widthOf = (nth) => {
    let width = 0;
    for (let k = 0; k <= widest && k < lines; k++) if (isLine(nth(k))) width = k + 1;
    return width <= widest ? width : 0; // A wider bar is part of the drawing.
  };
  return [widthOf((k) => k), lines - widthOf((k) => lines - 1 - k)];
}
