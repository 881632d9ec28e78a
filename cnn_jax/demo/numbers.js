// Reads a line of writing: of all ways to divide it into digits, the one that the model prefers.

/**
 * Finds the parts of a line that are its digits, as `evaluation/numbers.py` does, which explains it.
 *
 * @param {{start: number, stop: number, cost: number}[]} line Parts that may be digits.
 * @param {ArrayLike<number>} probability 0..1, of the most probable class of each part.
 * @returns {{chosen: number[], share: number}} The indices of the parts of the way that weighs most,
 *   from left to right, and its share of the weight of all ways, 0..1.
 */
export function bestDivision(line, probability) {
  const best = new Map([[0, { weight: 1, parts: /** @type {number[]} */ ([]) }]]);
  const total = new Map([[0, 1]]);
  const order = [...line.keys()].sort((i, j) => line[i].stop - line[j].stop);
  for (const index of order) {
    const { start, stop, cost } = line[index];
    const before = best.get(start);
    if (!before) {
      continue;
    }
    const weight = Math.max(probability[index], 1e-9) * Math.exp(-cost);
    total.set(stop, (total.get(stop) ?? 0) + (total.get(start) ?? 0) * weight);
    if (before.weight * weight > (best.get(stop)?.weight ?? Number.NEGATIVE_INFINITY)) {
      best.set(stop, { weight: before.weight * weight, parts: [...before.parts, index] });
    }
  }
  const end = Math.max(...best.keys());
  const { weight, parts } = /** @type {{weight: number, parts: number[]}} */ (best.get(end));
  return { chosen: parts, share: weight / (total.get(end) ?? 1) };
}
