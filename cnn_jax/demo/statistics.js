/** Medians, percentiles, sums and rounding as in NumPy. */

/**
 * Rounds half to even, as Python's `round` and `numpy.rint`.
 * @param {number} value
 * @returns {number}
 */
export function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Returns the median.
 * @param {Float32Array | Uint8Array} values at least one; they are sorted in place
 * @returns {number}
 */
export function median(values) {
  values.sort();
  const middle = values.length >> 1;
  if (values.length % 2) return values[middle];
  return Math.fround((values[middle - 1] + values[middle]) / 2);
}

/**
 * Returns a percentile, interpolated linearly between the two nearest values.
 * @param {Float32Array} values at least one; they are sorted in place
 * @param {number} percent 0..100
 * @returns {number} float32
 */
export function percentile(values, percent) {
  values.sort();
  const position = (values.length - 1) * (percent / 100);
  const index = Math.floor(position);
  const low = values[index];
  const high = values[Math.min(index + 1, values.length - 1)];
  const rest = position - index;
  const step = Math.fround(high - low);
  // From the nearer end, as NumPy, so that the result is the same to the last bit.
  return rest < 0.5
    ? Math.fround(low + Math.fround(step * Math.fround(rest)))
    : Math.fround(high - Math.fround(step * Math.fround(1 - rest)));
}

/**
 * Returns a float32 sum in NumPy's order: halves of halves, down to eight sums side by side.
 *
 * The centre of a symmetric drawing is half-way between two pixels. To which of them it is rounded
 * depends on the last bit.
 * @param {Float32Array} values
 * @param {number} [start]
 * @param {number} [count]
 * @returns {number} float32
 */
export function sumPairwise(values, start = 0, count = values.length) {
  if (count > 128) {
    const half = (count >> 1) - ((count >> 1) % 8);
    const left = sumPairwise(values, start, half);
    return Math.fround(left + sumPairwise(values, start + half, count - half));
  }
  const eight = new Float32Array(8);
  const whole = count - (count % 8);
  for (let i = 0; i < whole; i++) eight[i % 8] += values[start + i];
  for (let gap = 1; gap < 8; gap *= 2) {
    for (let i = 0; i < 8; i += 2 * gap) eight[i] += eight[i + gap];
  }
  let total = eight[0];
  for (let i = whole; i < count; i++) total = Math.fround(total + values[start + i]);
  return total;
}

/**
 * Returns the largest value.
 * @param {ArrayLike<number>} values
 * @returns {number} -Infinity for none
 */
export function largest(values) {
  let result = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > result) result = values[i];
  return result;
}

/**
 * Returns how many values are not zero.
 * @param {ArrayLike<number>} values
 * @returns {number}
 */
export function countTrue(values) {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i]) count++;
  return count;
}
