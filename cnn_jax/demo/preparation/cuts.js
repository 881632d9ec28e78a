/** Finds where ink that is wide may be cut into digits: `preprocessing/cuts.py`. */

import { blurLine, leastWithin } from "./filters.js";
import { roundHalfEven } from "./statistics.js";

/**
 * @typedef {import("./filters.js").Plane} Plane
 */

/**
 * A straight cut through ink from top to bottom.
 * @typedef {object} Cut
 * @property {number} column where it is at half the height
 * @property {number} slope columns by which it moves to the left per row upwards
 */

const MIN_WIDE = 0.85; // Width over height of ink that may be two digits.
const SLOPES = [0, -0.2, 0.2, -0.4, 0.4, -0.6]; // Columns per row. Most people lean right.
const MAX_CROSSED = Math.fround(0.35); // Of the height: the ink that a cut crosses.
const MAX_CUTS = 6; // Of ink that may be several digits.
export const MIN_WIDTH = 0.12; // Width over height of a digit.

/**
 * Finds the cuts through ink that cross least of it, from left to right.
 * @param {Plane} strength the ink, 0..1
 * @param {number} height of the line's digits, in pixels
 * @returns {Cut[]}
 */
export function findCuts(strength, height) {
  const { width } = strength;
  if (width < MIN_WIDE * height) return [];
  const crossed = SLOPES.map((slope) =>
    inkAlong(strength, slope).map((ink) => ink / Math.fround(height)),
  );
  const least = crossed[0].map((_, x) => Math.min(...crossed.map((line) => line[x])));
  const distance = Math.max(2, roundHalfEven(MIN_WIDTH * height));
  const around = leastWithin(least, distance);
  const columns = [];
  let last = -Infinity;
  for (let x = distance; x < width - distance; x++) {
    if (least[x] !== around[x] || least[x] > MAX_CROSSED) continue;
    if (x - last >= distance) columns.push(x);
    last = x;
  }
  return columns
    .sort((a, b) => least[a] - least[b])
    .slice(0, MAX_CUTS)
    .sort((a, b) => a - b)
    .map((x) => ({ column: x, slope: SLOPES[crossed.findIndex((line) => line[x] === least[x])] }));
}

/** Returns how much ink cuts of a slope cross, by the column at half the height. */
function inkAlong({ values, height, width }, slope) {
  const sums = new Float32Array(width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const sheared = roundHalfEven(x + slope * (y - height / 2));
      if (sheared >= 0 && sheared < width) sums[x] += values[y * width + sheared];
    }
  }
  return blurLine(sums, 0.02 * height);
}
