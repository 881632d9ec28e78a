/** Reads a line of writing: of all ways to divide it into digits, the one that the model prefers. */

/**
 * Finds the parts of a line that are its digits.
 *
 * A way to divide a line weighs the product over its parts of their probability and the exponential
 * of their negative cost. Sums and maxima over all ways are found by dynamic programming over the
 * places where the line may be divided (the forward and the Viterbi algorithm).
 * @param {{start: number, stop: number, cost: number}[]} line parts that may be digits
 * @param {ArrayLike<number>} probability 0..1, of the most probable class of each
 * @returns {{chosen: number[], share: number}} the indices of the parts of the way that weighs most,
 *   from left to right, and its share of the weight of all ways, 0..1
 */
export function bestDivision(line, probability) {
  const best = new Map([[0, { weight: 1, parts: [] }]]); // By the place where they end.
  const total = new Map([[0, 1]]);
  const order = line.map((_, i) => i).sort((a, b) => line[a].stop - line[b].stop);
  for (const index of order) {
    const { start, stop, cost } = line[index];
    const before = best.get(start);
    if (!before) continue;
    const factor = Math.max(probability[index], 1e-9) * Math.exp(-cost);
    total.set(stop, (total.get(stop) ?? 0) + total.get(start) * factor);
    const weight = before.weight * factor;
    if (weight > (best.get(stop)?.weight ?? -Infinity)) {
      best.set(stop, { weight, parts: [...before.parts, index] });
    }
  }
  const end = Math.max(...best.keys());
  const { weight, parts } = best.get(end);
  return { chosen: parts, share: weight / total.get(end) };
}
