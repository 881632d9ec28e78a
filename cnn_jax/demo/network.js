// The network: its parameters, and the forward pass from an image to probabilities.

/**
 * @typedef {object} Convolution
 * @property {Float32Array} kernel [size, size, channels, filters], in this order; not flipped.
 * @property {Float32Array} bias [filters].
 * @property {number} size Height and width of the kernel.
 * @property {number} filters Number of filters, the channels of the output.
 * @property {number} strides Step of the kernel in both directions.
 * @property {string} pool `max`, `avg` or `none`, over windows of 2x2 after the activation.
 */

/**
 * @typedef {object} Model
 * @property {number[]} imageShape [height, width, channels].
 * @property {string[]} classNames Name of each class, in the order of the logits.
 * @property {Convolution[]} convolutions In order.
 * @property {number[]} pads Rows and columns of zeros [before, after] an input of a convolution.
 * @property {string} activation `relu`, `leaky_relu` or `sigmoid`.
 * @property {{kernel: Float32Array, bias: Float32Array}} linear Kernel [inputs, classes], whose
 *   inputs are in the order height, width, channel; bias [classes].
 */

/**
 * @typedef {object} Layer
 * @property {string} name As in the table of `--mode=describe`: `conv_1`.
 * @property {string} kind `conv`, `activation`, `pool` or `linear`.
 * @property {number[]} shape [height, width, channels], or [classes].
 * @property {Float32Array} values In the order height, width, channel.
 */

/**
 * @typedef {object} Result
 * @property {Layer[]} layers All layers after the image, in order.
 * @property {Float32Array} logits [classes].
 * @property {Float64Array} probabilities [classes], 0..1, of sum 1.
 */

/** The functions of one number, by their name in the config. */
export const ACTIVATIONS = {
  /** @param {number} x */
  relu: (x) => Math.max(x, 0),
  /** @param {number} x */
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  /** @param {number} x */
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};

/**
 * Decodes bytes in base64.
 *
 * @param {string} text
 * @returns {Uint8Array}
 */
export function decodeBytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/**
 * Decodes bytes that were compressed by zlib.
 *
 * @param {string} text Base64.
 * @returns {Promise<Uint8Array>}
 */
export async function decodeCompressed(text) {
  const stream = new Blob([decodeBytes(text)]).stream();
  const inflated = new Response(stream.pipeThrough(new DecompressionStream("deflate")));
  return new Uint8Array(await inflated.arrayBuffer());
}

/**
 * Decodes one model of the page's data.
 *
 * @param {any} data As `content.py` builds it.
 * @param {number} index Of the model, from 0.
 * @returns {Model}
 */
export function decodeModel(data, index) {
  /** @type {[string, string][]} */
  const params = Object.entries(data.models[index].params);
  return assembleModel(
    data,
    Object.fromEntries(params.map(([name, text]) => [name, decodeFloats(text)])),
  );
}

/**
 * Returns the network of the page with these parameters.
 *
 * @param {any} data As `content.py` builds it.
 * @param {Record<string, Float32Array>} arrays Parameters by name, as `conv_1.kernel`.
 * @returns {Model}
 */
export function assembleModel(data, arrays) {
  const { strides, pads, activation, pools } = data.stage;
  return {
    imageShape: data.image_shape,
    classNames: data.class_names,
    convolutions: pools.map((/** @type {string} */ pool, /** @type {number} */ i) => {
      const kernel = arrays[`conv_${i + 1}.kernel`];
      const [size, , , filters] = data.shapes[`conv_${i + 1}.kernel`];
      const bias = arrays[`conv_${i + 1}.bias`];
      return { kernel, bias, size, filters, strides: strides[i], pool };
    }),
    pads,
    activation,
    linear: { kernel: arrays["linear_1.kernel"], bias: arrays["linear_1.bias"] },
  };
}

/**
 * @param {string} text Float32 in little-endian order, in base64.
 * @returns {Float32Array}
 */
function decodeFloats(text) {
  const bytes = decodeBytes(text);
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/**
 * Computes all layers of one image.
 *
 * @param {Model} model
 * @param {Uint8Array} image [height * width * channels], 0..255.
 * @returns {Result}
 */
export function forward(model, image) {
  /** @type {Layer[]} */
  const layers = [];
  let values = Float32Array.from(image, (pixel) => pixel / 255);
  let shape = model.imageShape;
  /** @type {(name: string, kind: string, layer: {shape: number[], values: Float32Array}) => void} */
  const add = (name, kind, layer) => {
    layers.push({ name, kind, ...layer });
    ({ shape, values } = layer);
  };
  const activate = ACTIVATIONS[/** @type {keyof ACTIVATIONS} */ (model.activation)];
  model.convolutions.forEach((convolution, i) => {
    const number = i + 1;
    add(`conv_${number}`, "conv", convolve(values, shape, convolution, model.pads));
    const activated = { shape, values: values.map(activate) };
    add(`${model.activation}_${number}`, "activation", activated);
    if (convolution.pool !== "none") {
      add(`pool_${number}`, "pool", pool(values, shape, convolution.pool));
    }
  });
  const logits = multiply(values, model.linear.kernel, model.linear.bias);
  add("linear_1", "linear", { shape: [logits.length], values: logits });
  return { layers, logits, probabilities: softmax(logits) };
}

/**
 * Computes a convolution with bias. Values outside of the input are zeros.
 *
 * @param {Float32Array} input
 * @param {number[]} shape Of the input: [height, width, channels].
 * @param {Convolution} convolution
 * @param {number[]} pads Zeros [before, after].
 * @returns {{shape: number[], values: Float32Array}}
 */
function convolve(input, [height, width, channels], convolution, [before, after]) {
  const { kernel, bias, size, filters, strides } = convolution;
  const [rows, columns] = [height, width].map(
    (side) => Math.floor((side + before + after - size) / strides) + 1,
  );
  const values = new Float32Array(rows * columns * filters);
  const sums = new Float64Array(filters);
  for (let position = 0; position < rows * columns; position++) {
    const top = Math.floor(position / columns) * strides - before;
    const left = (position % columns) * strides - before;
    sums.set(bias);
    for (let y = Math.max(top, 0); y < Math.min(top + size, height); y++) {
      for (let x = Math.max(left, 0); x < Math.min(left + size, width); x++) {
        const weights = ((y - top) * size + (x - left)) * channels * filters;
        addProducts(sums, input, (y * width + x) * channels, channels, kernel, weights);
      }
    }
    values.set(sums, position * filters);
  }
  return { shape: [rows, columns, filters], values };
}

/**
 * Adds the products of some inputs with their weights to the sum of each output.
 *
 * @param {Float64Array} sums One for each output; changed.
 * @param {Float32Array} input
 * @param {number} start Index of the first input.
 * @param {number} count Number of inputs.
 * @param {Float32Array} weights [inputs, outputs].
 * @param {number} offset Index of the first input's first weight.
 */
function addProducts(sums, input, start, count, weights, offset) {
  for (let i = 0; i < count; i++) {
    const value = input[start + i];
    const row = offset + i * sums.length;
    if (value !== 0) {
      for (let k = 0; k < sums.length; k++) {
        sums[k] += value * weights[row + k];
      }
    }
  }
}

/**
 * Halves height and width: the maximum or mean of each window of 2x2. An odd last row or column is
 * dropped.
 *
 * @param {Float32Array} input
 * @param {number[]} shape Of the input: [height, width, channels].
 * @param {string} kind `max` or `avg`.
 * @returns {{shape: number[], values: Float32Array}}
 */
function pool(input, [height, width, channels], kind) {
  const [rows, columns] = [height >> 1, width >> 1];
  const values = new Float32Array(rows * columns * channels);
  for (let i = 0; i < values.length; i++) {
    const channel = i % channels;
    const column = Math.floor(i / channels) % columns;
    const row = Math.floor(i / (channels * columns));
    const corner = (2 * row * width + 2 * column) * channels + channel;
    const below = corner + width * channels;
    const window = [input[corner], input[corner + channels], input[below], input[below + channels]];
    values[i] = kind === "max" ? Math.max(...window) : window.reduce((a, b) => a + b) / 4;
  }
  return { shape: [rows, columns, channels], values };
}

/**
 * Computes the fully connected layer.
 *
 * @param {Float32Array} input
 * @param {Float32Array} kernel [inputs, classes].
 * @param {Float32Array} bias [classes].
 * @returns {Float32Array} Logits [classes].
 */
function multiply(input, kernel, bias) {
  const sums = Float64Array.from(bias);
  addProducts(sums, input, 0, input.length, kernel, 0);
  return Float32Array.from(sums);
}

/**
 * Turns logits into probabilities.
 *
 * @param {Float32Array} logits
 * @returns {Float64Array} 0..1, of sum 1.
 */
export function softmax(logits) {
  const highest = Math.max(...logits);
  const exponentials = Float64Array.from(logits, (logit) => Math.exp(logit - highest));
  const total = exponentials.reduce((a, b) => a + b);
  return exponentials.map((value) => value / total);
}

/**
 * Returns the mean of the probabilities of several models, as an ensemble answers.
 *
 * @param {Result[]} results At least one.
 * @returns {Float64Array}
 */
export function meanProbabilities(results) {
  return results[0].probabilities.map(
    (_, k) => results.reduce((sum, result) => sum + result.probabilities[k], 0) / results.length,
  );
}
