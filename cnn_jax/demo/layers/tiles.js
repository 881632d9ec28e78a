// Small pictures of numbers: a pixel for each number. The style sheet enlarges them.

import { createElement } from "./elements.js";

/** @typedef {import("./colours.js").ColourScale} ColourScale */

/** A canvas and its pixels. */
export class Picture {
  /**
   * @param {number} width In pixels.
   * @param {number} height In pixels.
   */
  constructor(width, height) {
    this.width = width;
    this.canvas = /** @type {HTMLCanvasElement} */ (createElement("canvas", { width, height }));
    // A canvas in the memory of the CPU: its pixels come from there.
    this.context = /** @type {CanvasRenderingContext2D} */ (
      this.canvas.getContext("2d", { willReadFrequently: true })
    );
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer); // 0: transparent.
  }

  /** Shows the pixels as they are now. */
  show() {
    this.context.putImageData(this.image, 0, 0);
  }
}

/**
 * Draws one channel of a map.
 *
 * @param {Picture} picture Of the size of the map.
 * @param {{shape: number[], values: ArrayLike<number>}} map [height, width, channels].
 * @param {number} channel
 * @param {ColourScale} scale
 * @param {number} [numValues] Number of values to draw, row by row.
 */
export function drawMap(picture, { shape, values }, channel, scale, numValues = Infinity) {
  const { pixels } = picture;
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = i < numValues ? scale.pixelOf(values[i * shape[2] + channel]) : 0;
  }
  picture.show();
}

/**
 * Creates the picture of a filter, which has a tile for each input channel.
 *
 * @param {number} size Height and width of the filter.
 * @param {number} channels Number of input channels.
 */
export function createFilterPicture(size, channels) {
  const columns = numTileColumns(channels);
  const rows = Math.ceil(channels / columns);
  return new Picture(columns * (size + 1) - 1, rows * (size + 1) - 1);
}

/**
 * Draws a filter. Between its tiles is a pixel of nothing.
 *
 * @param {Picture} picture From `createFilterPicture`.
 * @param {import("../network.js").Convolution} convolution
 * @param {number} filter
 * @param {ColourScale} scale
 */
export function drawFilter(picture, { kernel, size, filters }, filter, scale) {
  const numWeights = kernel.length / filters;
  const channels = numWeights / size ** 2;
  const columns = numTileColumns(channels);
  for (let i = 0; i < numWeights; i++) {
    const [cell, channel] = [Math.floor(i / channels), i % channels];
    const y = Math.floor(channel / columns) * (size + 1) + Math.floor(cell / size);
    const x = (channel % columns) * (size + 1) + (cell % size);
    picture.pixels[y * picture.width + x] = scale.pixelOf(kernel[i * filters + filter]);
  }
  picture.show();
}

/**
 * Returns the number of tiles side by side: all of up to three colours, else about a square.
 *
 * @param {number} channels
 */
function numTileColumns(channels) {
  return channels <= 3 ? channels : Math.ceil(Math.sqrt(channels));
}

/**
 * Draws an image as the network sees it, with a margin of nothing around it.
 *
 * @param {Picture} picture Of the size of the image and the margin.
 * @param {{shape: number[], values: Float32Array}} image [height, width, channels], 0..1; three
 *   channels are red, green and blue, of any other number the first is shown.
 * @param {number} margin In pixels, on each side.
 */
export function drawInput(picture, { shape: [height, width, channels], values }, margin) {
  for (let i = 0; i < height * width; i++) {
    const [row, column] = [Math.floor(i / width) + margin, (i % width) + margin];
    const start = 4 * (row * picture.width + column);
    for (let c = 0; c < 3; c++) {
      const value = values[i * channels + (channels === 3 ? c : 0)];
      picture.image.data[start + c] = Math.round(255 * value);
    }
    picture.image.data[start + 3] = 255;
  }
  picture.show();
}
