// The numbers behind one value of a layer.
//
// `layers` is everywhere the image, then the layers of `forward`: the same list, with the same
// indices, as `layers_of` in model.py. Windows are in the order row, column, channel.

import { windowAt } from "./geometry.js";

/**
 * @typedef {import("../network.js").Model} Model
 * @typedef {import("../network.js").Layer} Layer
 */

/**
 * Returns the image, scaled to 0..1, and the layers of a forward pass.
 *
 * @param {Model} model
 * @param {Uint8Array} image [height * width * channels], 0..255.
 * @param {import("../network.js").Result} result Of `forward` for this model and image.
 * @returns {Layer[]}
 */
export function layersFromImage(model, image, result) {
  const values = Float32Array.from(image, (pixel) => pixel / 255);
  return [{ name: "image", kind: "image", shape: model.imageShape, values }, ...result.layers];
}

/**
 * Returns the convolution that a layer such as `leaky_relu_2` belongs to.
 *
 * @param {Model} model
 * @param {Layer} layer
 */
export function convolutionOf(model, layer) {
  const number = layer.name.slice(layer.name.lastIndexOf("_") + 1);
  return model.convolutions[Number(number) - 1];
}

/**
 * Returns a value of a map; zero outside of it, where the padding is.
 *
 * @param {Layer} layer
 * @param {number} row
 * @param {number} column
 * @param {number} channel
 */
export function valueAt(layer, row, column, channel) {
  const [height, width, channels] = layer.shape;
  const isInside = row >= 0 && row < height && column >= 0 && column < width;
  return isInside ? layer.values[(row * width + column) * channels + channel] : 0;
}

/**
 * Computes a value of a convolution: the sum of window x kernel, plus the bias of the filter.
 *
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {number} index Of the convolution in `layers`.
 * @param {number} row
 * @param {number} column
 * @param {number} filter
 * @returns {{top: number, left: number, size: number, channels: number, window: Float64Array,
 *   kernel: Float64Array, products: Float64Array, sum: number, bias: number, value: number}}
 *   Row and column where the window begins in the layer before, negative in the padding; window,
 *   kernel and products [size, size, channels].
 */
export function convolutionAt(model, layers, index, row, column, filter) {
  const input = layers[index - 1];
  const channels = input.shape[2];
  const { top, left, size } = windowAt(model, index, row, column);
  const { kernel: weights, bias: biases, filters } = convolutionOf(model, layers[index]);
  const window = new Float64Array(size * size * channels).map((_, i) => {
    const cell = Math.floor(i / channels);
    return valueAt(input, top + Math.floor(cell / size), left + (cell % size), i % channels);
  });
  const kernel = window.map((_, i) => weights[i * filters + filter]);
  const products = window.map((value, i) => value * kernel[i]);
  const sum = sumOfNumbers(products);
  const bias = biases[filter];
  return { top, left, size, channels, window, kernel, products, sum, bias, value: sum + bias };
}

/**
 * Returns a value of an activation, and the value before.
 *
 * @param {Layer[]} layers
 * @param {number} index Of the activation in `layers`.
 * @param {number} row
 * @param {number} column
 * @param {number} channel
 * @returns {{input: number, value: number}}
 */
export function activationAt(layers, index, row, column, channel) {
  const [input, value] = [index - 1, index].map((i) => valueAt(layers[i], row, column, channel));
  return { input, value };
}

/**
 * Computes a value of a pooling: the largest of four values, or their mean.
 *
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {number} index Of the pooling in `layers`.
 * @param {number} row
 * @param {number} column
 * @param {number} channel
 * @returns {{top: number, left: number, window: number[], winner: number, value: number}} The four
 *   values row by row, and the place of the largest among them: the first of equals, or -1 where
 *   the value is their mean.
 */
export function poolAt(model, layers, index, row, column, channel) {
  const { top, left } = windowAt(model, index, row, column);
  const window = [0, 1, 2, 3].map((i) =>
    valueAt(layers[index - 1], top + (i >> 1), left + (i & 1), channel),
  );
  if (convolutionOf(model, layers[index]).pool === "avg") {
    return { top, left, window, winner: -1, value: sumOfNumbers(window) / window.length };
  }
  const value = Math.max(...window);
  // Unlike `indexOf`, this also finds the NaN of a network that has diverged.
  const winner = window.findIndex((each) => Object.is(each, value) || each === value);
  return { top, left, window, winner, value };
}

/**
 * Computes a logit: the sum of value x weight over the last maps, plus the bias of the class.
 *
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {number} label Index of the class.
 * @returns {{kernel: Float32Array, products: Float64Array, sum: number, bias: number,
 *   value: number}} Kernel and products [height, width, channels] of the last maps.
 */
export function logitAt(model, layers, label) {
  const { values } = layers[layers.length - 2];
  const { kernel: weights, bias: biases } = model.linear;
  const kernel = values.map((_, i) => weights[i * biases.length + label]);
  const products = Float64Array.from(values, (value, i) => value * kernel[i]);
  const sum = sumOfNumbers(products);
  return { kernel, products, sum, bias: biases[label], value: sum + biases[label] };
}

/** @param {Float64Array | number[]} numbers */
function sumOfNumbers(numbers) {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}
