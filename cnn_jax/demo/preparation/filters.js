/** Filters of grey values and masks as in `scipy.ndimage`. */

/**
 * A picture of one channel. Masks are uint8, 0 or 1.
 * @typedef {object} Plane
 * @property {Float32Array | Uint8Array} values [height * width]
 * @property {number} height
 * @property {number} width
 */

const TRUNCATE = 4; // Standard deviations to which a Gaussian reaches.

/**
 * Returns where a plane is above a threshold.
 * @param {Plane} plane
 * @param {number} threshold
 * @returns {Plane} a mask
 */
export function maskAbove({ values, height, width }, threshold) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) mask[i] = values[i] > threshold ? 1 : 0;
  return { values: mask, height, width };
}

/**
 * Returns where a mask is false.
 * @param {Plane} mask
 * @returns {Plane} a mask
 */
export function invert({ values, height, width }) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) mask[i] = 1 - values[i];
  return { values: mask, height, width };
}

/**
 * Returns where a condition holds for a plane's values.
 * @param {Plane} plane
 * @param {(value: number) => boolean} isTrue
 * @returns {Plane} a mask
 */
export function maskWhere({ values, height, width }, isTrue) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) mask[i] = isTrue(values[i]) ? 1 : 0;
  return { values: mask, height, width };
}

/** Returns a Gaussian of sum 1, or with order 1 its derivative, at whole distances. */
function gaussianKernel(sigma, order) {
  const radius = Math.floor(TRUNCATE * sigma + 0.5);
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp((-0.5 / (sigma * sigma)) * (i - radius) ** 2),
  );
  const total = kernel.reduce((sum, value) => sum + value, 0);
  return kernel.map((value, i) => {
    const slope = order === 0 ? 1 : (i - radius) / (sigma * sigma);
    return (value / total) * slope;
  });
}

/** Returns an index on a line that is reflected at its ends: d c b a | a b c d | d c b a. */
function reflected(index, length) {
  const turn = ((index % (2 * length)) + 2 * length) % (2 * length);
  return turn < length ? turn : 2 * length - 1 - turn;
}

/** Correlates the middle axis of values [outer, length, inner] with a kernel. */
function correlate(values, outer, length, inner, kernel) {
  const radius = kernel.length >> 1;
  const sign = kernel[0] === kernel[2 * radius] ? 1 : -1;
  const result = new Float32Array(values.length);
  const before = new Int32Array(length * radius); // Where the values of a line's pairs start.
  const after = new Int32Array(length * radius);
  for (let i = 0; i < before.length; i++) {
    const distance = radius - (i % radius);
    const position = Math.floor(i / radius);
    before[i] = reflected(position - distance, length) * inner;
    after[i] = reflected(position + distance, length) * inner;
  }
  let target = 0;
  for (let start = 0; start < outer * length * inner; start += length * inner) {
    for (let position = 0; position < length; position++) {
      for (let i = start; i < start + inner; i++) {
        let sum = values[target] * kernel[radius];
        for (let k = 0, at = position * radius; k < radius; k++, at++) {
          sum += (values[i + before[at]] + sign * values[i + after[at]]) * kernel[k];
        }
        result[target++] = sum;
      }
    }
  }
  return result;
}

/**
 * Blurs values with a Gaussian.
 * @param {ArrayLike<number>} values [height * width * channels]
 * @param {number} height
 * @param {number} width
 * @param {number} channels
 * @param {number} sigma standard deviation in pixels
 * @returns {Float32Array}
 */
export function gaussianBlur(values, height, width, channels, sigma) {
  const kernel = gaussianKernel(sigma, 0);
  const rows = correlate(values, 1, height, width * channels, kernel);
  return correlate(rows, height, width, channels, kernel);
}

/**
 * Returns the squared gradient magnitude: large at strong edges, small for noise.
 * @param {Plane} tone
 * @returns {Float32Array} [height * width]
 */
export function squaredGradient({ values, height, width }) {
  const smooth = gaussianKernel(0.5, 0);
  const slope = gaussianKernel(0.5, 1);
  const down = correlate(correlate(values, 1, height, width, slope), height, width, 1, smooth);
  const right = correlate(correlate(values, 1, height, width, smooth), height, width, 1, slope);
  for (let i = 0; i < down.length; i++) {
    const square = Math.fround(down[i] * down[i]) + Math.fround(right[i] * right[i]);
    down[i] = Math.fround(Math.sqrt(Math.fround(square))) ** 2;
  }
  return down;
}

/**
 * Returns the strength of edges, by central differences; one-sided at the ends.
 * @param {Plane} plane at least 2x2
 * @returns {Float32Array} [height * width], the length of the gradient
 */
export function gradientLength({ values, height, width }) {
  const result = new Float32Array(values.length);
  for (let y = 0; y < height; y++) {
    const above = Math.max(y - 1, 0);
    const below = Math.min(y + 1, height - 1);
    for (let x = 0; x < width; x++) {
      const left = Math.max(x - 1, 0);
      const right = Math.min(x + 1, width - 1);
      const rise = (values[below * width + x] - values[above * width + x]) / (below - above);
      const run = (values[y * width + right] - values[y * width + left]) / (right - left);
      result[y * width + x] = Math.sqrt(rise * rise + run * run);
    }
  }
  return result;
}

/** Grows the middle axis of a mask [outer, length, inner] by some pixels in both directions. */
function growAlong(mask, outer, length, inner, pixels) {
  const result = new Uint8Array(mask.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * length * inner + i;
      let last = -Infinity; // The nearest true pixel before, then after.
      for (let k = 0; k < length; k++) {
        if (mask[start + k * inner]) last = k;
        if (k - last <= pixels) result[start + k * inner] = 1;
      }
      last = Infinity;
      for (let k = length - 1; k >= 0; k--) {
        if (mask[start + k * inner]) last = k;
        if (last - k <= pixels) result[start + k * inner] = 1;
      }
    }
  }
  return result;
}

/**
 * Grows a mask by some pixels in all eight directions.
 * @param {Plane} mask
 * @param {number} pixels
 * @returns {Plane}
 */
export function dilate({ values, height, width }, pixels) {
  const rows = growAlong(values, 1, height, width, pixels);
  return { values: growAlong(rows, height, width, 1, pixels), height, width };
}

/**
 * Grows a mask by some pixels up and down.
 * @param {Plane} mask
 * @param {number} pixels
 * @returns {Plane}
 */
export function dilateRows({ values, height, width }, pixels) {
  return { values: growAlong(values, 1, height, width, pixels), height, width };
}

/**
 * Shrinks a mask by one pixel in the four directions. Outside of it is false.
 * @param {Plane} mask
 * @returns {Plane}
 */
export function erode({ values, height, width }) {
  const result = new Uint8Array(values.length);
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x;
      const all = values[i - width] & values[i - 1] & values[i] & values[i + 1];
      result[i] = all & values[i + width];
    }
  }
  return { values: result, height, width };
}

/**
 * Returns the least value within a distance of each value of a line, reflected at its ends.
 * @param {Float32Array} line
 * @param {number} distance
 * @returns {Float32Array}
 */
export function leastWithin(line, distance) {
  return line.map((_, i) => {
    let least = Infinity;
    for (let k = i - distance; k <= i + distance; k++) {
      least = Math.min(least, line[reflected(k, line.length)]);
    }
    return least;
  });
}

/**
 * Blurs a line with a Gaussian.
 * @param {Float32Array} line
 * @param {number} sigma standard deviation
 * @returns {Float32Array}
 */
export function blurLine(line, sigma) {
  return correlate(line, 1, line.length, 1, gaussianKernel(sigma, 0));
}

/**
 * Removes what is lower than `size` pixels: the least value of a window, then the largest.
 * @param {Plane} plane values of at least 0; outside of it they are 0
 * @param {number} size
 * @returns {Float32Array} [height * width]
 */
export function openRows({ values, height, width }, size) {
  const before = size >> 1;
  const slide = (source, first, choose) =>
    source.map((_, i) => {
      const row = Math.floor(i / width);
      let chosen = choose(Infinity, -Infinity) < 0 ? Infinity : -Infinity;
      for (let k = row + first; k < row + first + size; k++) {
        chosen = choose(chosen, k < 0 || k >= height ? 0 : source[k * width + (i % width)]);
      }
      return chosen;
    });
  return slide(slide(values, -before, Math.min), before - size + 1, Math.max);
}

/**
 * Returns a plane with rows and columns exchanged.
 * @param {Plane} plane
 * @returns {Plane}
 */
export function transpose({ values, height, width }) {
  const result = values.map((_, i) => values[(i % height) * width + Math.floor(i / height)]);
  return { values: result, height: width, width: height };
}
