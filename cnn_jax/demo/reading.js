// Reads what was prepared: the classes or numbers, with their probabilities.

import { forward, meanProbabilities } from "./network.js";
import { bestDivision } from "./numbers.js";

/**
 * @typedef {import("./preparation/prepare.js").Candidate} Candidate
 * @typedef {import("./network.js").Model} Model
 */

/**
 * @typedef {object} Part A digit, or all that is drawn.
 * @property {Candidate} candidate
 * @property {Float64Array} probabilities [classes], 0..1.
 * @property {number} best Index of the most probable class.
 */

/**
 * @typedef {object} Line One line of writing.
 * @property {string} label The class, or the number.
 * @property {number} probability Of all of it, 0..1.
 * @property {Part[]} parts From left to right.
 */

/**
 * Reads one line, as `commands/predict.py` does.
 *
 * @param {Candidate[]} line Parts that may be its digits.
 * @param {Model[]} models They answer together.
 * @returns {Line}
 */
export function readLine(line, models) {
  const all = line.map((candidate) => {
    const probabilities = meanProbabilities(models.map((model) => forward(model, candidate.image)));
    return { candidate, probabilities, best: probabilities.indexOf(Math.max(...probabilities)) };
  });
  const { chosen: indices, share } = bestDivision(line, all.map(probabilityOf));
  const chosen = indices.map((index) => all[index]);
  return {
    label: chosen.map((part) => models[0].classNames[part.best]).join(""),
    probability: chosen.reduce((product, part) => product * probabilityOf(part), share),
    parts: chosen,
  };
}

/**
 * Returns the probability of the most probable class, 0..1.
 *
 * @param {Part} part
 */
export function probabilityOf(part) {
  return part.probabilities[part.best];
}
