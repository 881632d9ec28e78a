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
 * Moves the value that sorting would put at an index there, and no larger ones before it (Hoare's
 * quickselect).
 */
function select(values, index) {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const pivot = values[index];
    let [i, j] = [low, high];
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const value = values[i];
      values[i++] = values[j];
      values[j--] = value;
    }
    if (j < index) low = i;
    if (i > index) high = j;
  }
}

/** Returns the values at an index and after it, if `values` were sorted. Changes their order. */
function pairAt(values, index) {
  select(values, index);
  if (index === values.length - 1) return [values[index], values[index]];
  let next = values[index + 1];
  for (let i = index + 2; i < values.length; i++) if (values[i] < next) next = values[i];
  return [values[index], next];
}

/**
 * Returns the median.
 * @param {Float32Array | Uint8Array} values at least one; their order is changed
 * @returns {number}
 */
export function median(values) {
  const [low, high] = pairAt(values, (values.length - 1) >> 1);
  return values.length % 2 ? low : Math.fround((low + high) / 2);
}

/**
 * Returns a percentile, interpolated linearly between the two nearest values.
 * @param {Float32Array} values at least one; their order is changed
 * @param {number} percent 0..100
 * @returns {number} float32
 */
export function percentile(values, percent) {
  const position = (values.length - 1) * (percent / 100);
  const index = Math.floor(position);
  const [low, high] = pairAt(values, index);
  const rest = position - index;
  const step = Math.fround(high - low);
  // From the nearer end, as NumPy, so that the result is the same to the last bit.
  return rest < 0.5
    ? Math.fround(low + Math.fround(step * Math.fround(rest)))
    : Math.fround(high - Math.fround(step * Math.fround(1 - rest)));
}

/**
 * Returns the values where a mask is true.
 * @template {Float32Array | Uint8Array} V
 * @param {V} values
 * @param {ArrayLike<number>} mask
 * @returns {V}
 */
export function valuesWhere(values, mask) {
  const result = new values.constructor(countTrue(mask));
  let count = 0;
  for (let i = 0; i < values.length; i++) if (mask[i]) result[count++] = values[i];
  return result;
}

/**
 * Returns the sum.
 * @param {ArrayLike<number>} values
 * @returns {number}
 */
export function sumOf(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum;
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
