// The steps that play one image through the network.

import { convolutionOf, valueAt } from "./unit.js";
import { describeLayer } from "./words.js";

/**
 * @typedef {import("../network.js").Model} Model
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("./panel.js").Unit} Unit
 * @typedef {{index: number, text: string, channel: number | null, units: (Unit | null)[]}} Step
 *   What is shown of the layers up to `index`: the whole layer, or one growing map of it; the
 *   values that are chosen one after the other.
 */

/**
 * Lists the steps.
 *
 * @param {Model} model
 * @param {Layer[]} layers The image first.
 * @returns {Step[]}
 */
export function listSteps(model, layers) {
  /** @type {Step[]} */
  const steps = [];
  layers.forEach((layer, index) => {
    const unit = index === 0 ? null : largestUnit(layers, index);
    if (layer.kind === "conv" && unit) {
      const { channel } = unit;
      const text = describeSliding(model, layers, unit);
      steps.push({ index, text, channel, units: slidingUnits(layers, index, channel) });
    }
    const text = `${layer.name}. ${describeLayer(model, layers, index)}`;
    steps.push({ index, text, channel: null, units: [unit] });
  });
  return steps;
}

/**
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 */
function describeSliding(model, layers, { index, channel }) {
  const { size } = convolutionOf(model, layers[index]);
  const input = index === 1 ? "the image" : `the maps of ${layers[index - 1].name}`;
  return (
    `${layers[index].name}. Filter ${channel + 1} slides over ${input}: each window of ` +
    `${size}x${size} gives one value of its feature map, row by row.`
  );
}

/**
 * Returns the largest value of a layer, the one that answers most.
 *
 * @param {Layer[]} layers
 * @param {number} index
 * @returns {Unit}
 */
function largestUnit(layers, index) {
  const { shape, values } = layers[index];
  const [width, channels] = shape.length === 3 ? shape.slice(1) : [1, shape[0]];
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  const cell = Math.floor(best / channels);
  return { index, row: Math.floor(cell / width), column: cell % width, channel: best % channels };
}

/**
 * Returns the values of the first row one by one, then the largest value of each other row.
 *
 * @param {Layer[]} layers
 * @param {number} index
 * @param {number} channel
 * @returns {Unit[]}
 */
function slidingUnits(layers, index, channel) {
  const [height, width] = layers[index].shape;
  const columns = Array.from({ length: width }, (_, column) => column);
  const units = columns.map((column) => ({ index, row: 0, column, channel }));
  for (let row = 1; row < height; row++) {
    const values = columns.map((column) => valueAt(layers[index], row, column, channel));
    units.push({ index, row, column: values.indexOf(Math.max(...values)), channel });
  }
  return units;
}
