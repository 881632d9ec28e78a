// The largest of many numbers that are added up, and the sum of the rest.

/**
 * Adds up the products of each input channel.
 *
 * @param {Float64Array} products [size, size, channels].
 * @param {number} channels
 * @returns {Float64Array} [channels].
 */
export function channelSums(products, channels) {
  const sums = new Float64Array(channels);
  products.forEach((product, i) => {
    sums[i % channels] += product;
  });
  return sums;
}

/**
 * Returns the parts with the largest magnitudes, largest first, and the sum of the rest.
 *
 * @param {Float64Array} parts
 * @param {number} count Number of parts to return.
 * @returns {{largest: {index: number, part: number}[], numRest: number, rest: number}}
 */
export function largestParts(parts, count) {
  const indices = Array.from(parts.keys());
  indices.sort((a, b) => Math.abs(parts[b]) - Math.abs(parts[a]) || a - b);
  const largest = indices.slice(0, count).map((index) => ({ index, part: parts[index] }));
  const others = indices.slice(count);
  const rest = others.reduce((sum, index) => sum + parts[index], 0);
  return { largest, numRest: others.length, rest };
}
