/**
 * The nearest pixel of a set, exactly, as `scipy.ndimage.distance_transform_edt` finds it: also the
 * same one of several that are equally near (Maurer, Qi and Raghavan 2003, A Linear Time Algorithm
 * for Computing Exact Euclidean Distance Transforms of Binary Images in Arbitrary Dimensions).
 */

/**
 * @typedef {import("./filters.js").Plane} Plane
 */

const NONE = -1;

/** Returns for each pixel the row of the nearest true pixel in its column, or -1. */
function nearestRows({ values, height, width }) {
  const rows = new Int32Array(values.length).fill(NONE);
  for (let x = 0; x < width; x++) {
    let above = NONE;
    for (let y = 0; y < height; y++) {
      if (values[y * width + x]) above = y;
      rows[y * width + x] = above;
    }
    let below = NONE;
    for (let y = height - 1; y >= 0; y--) {
      if (values[y * width + x]) below = y;
      const i = y * width + x;
      if (below !== NONE && (rows[i] === NONE || below - y < y - rows[i])) rows[i] = below;
    }
  }
  return rows;
}

/** Whether column `b` is nowhere nearest between `a` and `c`, with their squared distances. */
function isHidden(a, b, c, squaredA, squaredB, squaredC) {
  const [left, right] = [b - a, c - b];
  const both = left + right;
  return both * squaredB - right * squaredA - left * squaredC - left * right * both > 0;
}

/** Returns the columns whose pixels are nearest somewhere on a row, from left to right. */
function visibleColumns(squared) {
  const kept = [];
  for (let x = 0; x < squared.length; x++) {
    if (squared[x] === Infinity) continue;
    while (kept.length >= 2) {
      const a = kept[kept.length - 2];
      const b = kept[kept.length - 1];
      if (!isHidden(a, b, x, squared[a], squared[b], squared[x])) break;
      kept.pop();
    }
    kept.push(x);
  }
  return kept;
}

/**
 * Returns for each pixel the index of the nearest true one.
 * @param {Plane} mask with at least one true pixel
 * @returns {Int32Array} [height * width]
 */
export function nearestTrue(mask) {
  const { height, width } = mask;
  const rows = nearestRows(mask);
  const nearest = new Int32Array(height * width);
  const squared = new Float64Array(width); // Distance of each column's nearest pixel, upright.
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const row = rows[y * width + x];
      squared[x] = row === NONE ? Infinity : (row - y) ** 2;
    }
    const columns = visibleColumns(squared);
    let k = 0;
    for (let x = 0; x < width; x++) {
      const distance = (column) => (column - x) ** 2 + squared[column];
      while (k < columns.length - 1 && distance(columns[k]) > distance(columns[k + 1])) k++;
      nearest[y * width + x] = rows[y * width + columns[k]] * width + columns[k];
    }
  }
  return nearest;
}

/**
 * Returns for each pixel the distance to the nearest true one.
 * @param {Plane} mask with at least one true pixel
 * @returns {Float64Array} [height * width], in pixels
 */
export function distanceToTrue(mask) {
  const { height, width } = mask;
  const nearest = nearestTrue(mask);
  const distance = new Float64Array(height * width);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const column = nearest[i] % width;
      const row = (nearest[i] - column) / width;
      distance[i] = Math.sqrt((column - x) ** 2 + (row - y) ** 2);
    }
  }
  return distance;
}
