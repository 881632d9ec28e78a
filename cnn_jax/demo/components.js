/** Connected components of masks, their boxes and holes. */

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

/**
 * Finds the connected components of a mask.
 * @param {Plane} mask
 * @param {boolean} joinsCorners whether pixels that touch at a corner are connected
 * @returns {Components}
 */
export function findComponents({ values, height, width }, joinsCorners) {
  const labels = new Int32Array(values.length);
  const boxes = [];
  const steps = joinsCorners ? [-1, 0, 1] : [0];
  const stack = [];
  for (let first = 0; first < values.length; first++) {
    if (!values[first] || labels[first]) continue;
    const label = boxes.length + 1;
    const box = { top: height, bottom: 0, left: width, right: 0 };
    const visit = (pixel) => {
      if (!values[pixel] || labels[pixel]) return;
      labels[pixel] = label;
      stack.push(pixel);
    };
    visit(first);
    while (stack.length) {
      const pixel = stack.pop();
      const x = pixel % width;
      const y = (pixel - x) / width;
      extend(box, x, y);
      if (x > 0) visit(pixel - 1);
      if (x < width - 1) visit(pixel + 1);
      for (const step of steps) {
        if (x + step < 0 || x + step >= width) continue;
        if (y > 0) visit(pixel - width + step);
        if (y < height - 1) visit(pixel + width + step);
      }
    }
    boxes.push(box);
  }
  return { labels, height, width, boxes };
}

function extend(box, x, y) {
  box.top = Math.min(box.top, y);
  box.bottom = Math.max(box.bottom, y + 1);
  box.left = Math.min(box.left, x);
  box.right = Math.max(box.right, x + 1);
}

/**
 * Returns the bounding box of the values above 0.
 * @param {Plane} plane with at least one of them
 * @returns {Box}
 */
export function boundingBox({ values, height, width }) {
  const box = { top: height, bottom: 0, left: width, right: 0 };
  for (let i = 0; i < values.length; i++) {
    if (values[i] > 0) extend(box, i % width, Math.floor(i / width));
  }
  return box;
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
 * Returns the pixels of some components within a box.
 * @param {Components} components
 * @param {Box} box
 * @param {number[]} chosen labels
 * @returns {Plane} a mask
 */
export function maskOf({ labels, width }, box, chosen) {
  const part = cut({ values: labels, width }, box);
  return { ...part, values: Uint8Array.from(part.values, (label) => chosen.includes(label)) };
}

/**
 * Returns a plane with a margin of zeros.
 * @param {Plane} plane
 * @param {number} margin pixels on each side
 * @returns {Plane}
 */
export function pad({ values, height, width }, margin) {
  const newWidth = width + 2 * margin;
  const result = new values.constructor((height + 2 * margin) * newWidth);
  for (let y = 0; y < height; y++) {
    const row = values.subarray(y * width, (y + 1) * width);
    result.set(row, (y + margin) * newWidth + margin);
  }
  return { values: result, height: height + 2 * margin, width: newWidth };
}

/**
 * Returns a mask without holes.
 * @param {Plane} mask
 * @returns {Plane}
 */
export function fillHoles(mask) {
  const { values, height, width } = pad(mask, 1);
  const outside = { values: values.map((value) => 1 - value), height, width };
  const { labels } = findComponents(outside, false);
  // The margin is outside, and its first pixel has label 1.
  const filled = { values: Uint8Array.from(labels, (label) => label !== 1), height, width };
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
