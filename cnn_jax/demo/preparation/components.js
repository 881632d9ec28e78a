/** Connected components of masks, their boxes and holes. */

import { invert, maskWhere } from "./filters.js";

/**
 * @typedef {import("./filters.js").Plane} Plane
 */

/**
 * Rows and columns; `bottom` and `right` are exclusive.
 * @typedef {object} Box
 * @property {number} top
 * @property {number} bottom
 * @property {number} left
 * @property {number} right
 */

/**
 * Connected components of a mask, numbered from 1 by their first pixel in reading order.
 * @typedef {object} Components
 * @property {Int32Array} labels [height * width], 0 where the mask is false
 * @property {number} height
 * @property {number} width
 * @property {Box[]} boxes of each component: that of label 1 first
 */

const UNVISITED = -1;

/**
 * Finds the connected components of a mask.
 * @param {Plane} mask
 * @param {boolean} joinsCorners whether pixels that touch at a corner are connected
 * @returns {Components}
 */
export function findComponents(mask, joinsCorners) {
  const { height, width } = mask;
  const boxes = [];
  // With a margin of 0, so that each pixel has all its neighbours.
  const grid = pad({ ...mask, values: new Int32Array(mask.values) }, 1);
  for (let i = 0; i < grid.values.length; i++) grid.values[i] *= UNVISITED;
  for (let y = 1; y <= height; y++) {
    for (let x = 1; x <= width; x++) {
      const first = y * grid.width + x;
      if (grid.values[first] === UNVISITED) {
        boxes.push(fill(grid, first, boxes.length + 1, joinsCorners));
      }
    }
  }
  const inner = { top: 1, bottom: height + 1, left: 1, right: width + 1 };
  return { labels: cut(grid, inner).values, height, width, boxes };
}

/** Labels what is connected with a pixel of a grid, and returns its box without the margin. */
function fill({ values, width }, first, label, joinsCorners) {
  const steps = [-1, 1, -width, width];
  if (joinsCorners) steps.push(-width - 1, -width + 1, width - 1, width + 1);
  let [top, bottom, left, right] = [Infinity, 0, Infinity, 0];
  const stack = [first];
  values[first] = label;
  while (stack.length > 0) {
    const pixel = stack.pop();
    const x = pixel % width;
    const y = (pixel - x) / width;
    if (y < top) top = y;
    if (y > bottom) bottom = y;
    if (x < left) left = x;
    if (x > right) right = x;
    for (let k = 0; k < steps.length; k++) {
      const next = pixel + steps[k];
      if (values[next] !== UNVISITED) continue;
      values[next] = label;
      stack.push(next);
    }
  }
  return { top: top - 1, bottom, left: left - 1, right };
}

/**
 * Returns the bounding box of the values above 0.
 * @param {Plane} plane with at least one of them
 * @returns {Box}
 */
export function boundingBox({ values, height, width }) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (values[y * width + x] <= 0) continue;
      top = Math.min(top, y);
      bottom = y + 1;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
    }
  }
  return { top, bottom, left, right };
}

/**
 * Returns a part of a plane.
 * @template {{values: Float32Array | Uint8Array | Int32Array, width: number}} P
 * @param {P} plane
 * @param {Box} box
 * @returns {P}
 */
export function cut({ values, width }, { top, bottom, left, right }) {
  const result = new values.constructor((bottom - top) * (right - left));
  for (let y = top; y < bottom; y++) {
    result.set(values.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { values: result, height: bottom - top, width: right - left };
}

/**
 * Returns a plane of zeros but for a part of it.
 * @param {Plane} part
 * @param {Box} box of the part
 * @param {{height: number, width: number}} size of the plane
 * @returns {Plane}
 */
export function paste(part, { top, left }, { height, width }) {
  const result = new part.values.constructor(height * width);
  for (let y = 0; y < part.height; y++) {
    const row = part.values.subarray(y * part.width, (y + 1) * part.width);
    result.set(row, (top + y) * width + left);
  }
  return { values: result, height, width };
}

/**
 * Returns the pixels of some components within a box.
 * @param {Components} components
 * @param {Box} box
 * @param {number[]} chosen labels
 * @returns {Plane} a mask
 */
export function maskOf({ labels, height, width }, box, chosen) {
  const part = cut({ values: labels, height, width }, box);
  return maskWhere(part, (label) => chosen.includes(label));
}

/**
 * Returns a plane with a margin of zeros.
 * @param {Plane} plane
 * @param {number} margin pixels on each side
 * @returns {Plane}
 */
export function pad({ values, height, width }, margin) {
  const size = { height: height + 2 * margin, width: width + 2 * margin };
  return paste({ values, height, width }, { top: margin, left: margin }, size);
}

/**
 * Returns a mask without holes.
 * @param {Plane} mask
 * @returns {Plane}
 */
export function fillHoles(mask) {
  const padded = pad(mask, 1);
  const { labels, height, width } = findComponents(invert(padded), false);
  // The margin is outside, and its first pixel has label 1.
  const filled = maskWhere({ values: labels, height, width }, (label) => label !== 1);
  return cut(filled, { top: 1, bottom: height - 1, left: 1, right: width - 1 });
}

/**
 * @param {Box} box
 * @param {number} height of the picture
 * @param {number} width of the picture
 * @returns {boolean} whether the box touches no border of the picture
 */
export function isClearOfBorder({ top, bottom, left, right }, height, width) {
  return top > 0 && bottom < height && left > 0 && right < width;
}

/**
 * @param {Box} box
 * @returns {number}
 */
export function longerSide({ top, bottom, left, right }) {
  return Math.max(bottom - top, right - left);
}
