// A line of plain words for each layer, in the words of docs/tutorial.ipynb.

import { pluralize } from "./format.js";
import { convolutionOf } from "./unit.js";

/** @type {Record<string, string>} */
const ACTIVATION_WORDS = {
  relu: "Keeps positive values and replaces negative ones by 0: blue disappears.",
  leaky_relu: "Keeps positive values and lets 1 % of a negative value through.",
  sigmoid: "Maps every value to 0..1.",
};

/** @type {Record<string, string>} */
const POOL_WORDS = {
  max:
    "Replaces each window of 2x2 values by the largest: somewhere in it there was an edge, and no " +
    "longer where exactly. The map becomes half as high and wide.",
  avg: "Replaces each window of 2x2 values by their mean. The map becomes half as high and wide.",
};

/**
 * Describes what a layer does.
 *
 * @param {import("../network.js").Model} model
 * @param {import("../network.js").Layer[]} layers The image first.
 * @param {number} index Of the layer.
 */
export function describeLayer(model, layers, index) {
  const { kind } = layers[index];
  if (kind === "image") return describeImage(layers[0]);
  if (kind === "linear") return describeLinear(layers[index - 1]);
  if (kind === "activation") return ACTIVATION_WORDS[model.activation];
  const convolution = convolutionOf(model, layers[index]);
  return kind === "pool"
    ? POOL_WORDS[convolution.pool]
    : describeConvolution(convolution.size, layers[index - 1]);
}

/** @param {import("../network.js").Layer} image */
function describeImage({ shape: [height, width, channels] }) {
  const colours = channels === 1 ? "" : `, in ${channels} channels`;
  return (
    `A picture is numbers: ${height} rows of ${width} pixels${colours}, each from 0 (black) to 1 ` +
    "(white)."
  );
}

/**
 * @param {number} size Height and width of the kernel.
 * @param {import("../network.js").Layer} input
 */
function describeConvolution(size, { name, shape: [, , channels] }) {
  const table = `${size}x${size} weights`;
  if (name !== "image") {
    return (
      `Each filter looks at all ${pluralize(channels, "map")} of ${name} at once, with a table of ` +
      `${table} for each. All products are added up, plus the filter's bias: one map again.`
    );
  }
  return (
    `A filter is a small table of ${table}${channels === 1 ? "" : " for each channel"}. It slides ` +
    "over the image. At every position the sum of weight x pixel, plus the filter's bias, is one " +
    "value of its feature map."
  );
}

/** @param {import("../network.js").Layer} input */
function describeLinear({ name, shape: [height, width, channels] }) {
  return (
    `Fully connected: a class has one weight for every value of ${name} ` +
    `(${height}x${width}x${channels}). The sum of weight x value, plus the class's bias, is its ` +
    "logit. Softmax turns the logits into probabilities."
  );
}
