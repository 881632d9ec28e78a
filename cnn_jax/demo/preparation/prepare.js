/**
 * Prepares a drawing for the network as `--mode=predict` does: the steps of `preprocessing/photo.py`
 * for a ground of one colour, to within 2 of 255 levels.
 */

import { decode } from "./decode.js";
import { asFramed, frameInk } from "./frame.js";
import { findInk, findLines } from "./lines.js";
import { enlargeTo } from "./picture.js";
import { UnevenGround } from "./segment.js";
import { roundHalfEven } from "./statistics.js";

/**
 * @typedef {import("./frame.js").Conventions} Conventions
 */

/**
 * A part of a drawing that may be a digit.
 * @typedef {object} Crop
 * @property {Uint8Array} image [height * width], 0..255, what the network sees
 * @property {[number, number, number, number]} box its left, upper, right and lower end
 * @property {number} start index of the first piece of the line that belongs to it, and
 * @property {number} stop index after the last one
 * @property {number} cost how unlikely its shape is
 */

/**
 * @typedef {object} Prepared
 * @property {Crop[][]} lines for each line of writing, from top to bottom, the parts that may be its
 *   digits: a sequence of them in which each starts where the one before stops is a way to read it
 * @property {"dark on light" | "light on dark"} polarity
 * @property {boolean} isDoubtful whether perhaps nothing is drawn, on paper with texture or lines
 */

/**
 * Prepares a drawing.
 * @param {Uint8ClampedArray} pixels [height * width * 4], RGBA
 * @param {number} width of the drawing
 * @param {number} height of the drawing
 * @param {Conventions} conventions of the data set
 * @param {number[]} [imageShape] height, width and channels (1) of the network's images
 * @returns {Prepared | {error: string}} the error is "uneven" where the ground is not of one
 *   colour, and begins with "shows nothing" where nothing is drawn
 */
export function prepare(pixels, width, height, conventions, imageShape = [28, 28, 1]) {
  try {
    const picture = decode(pixels, width, height);
    const scale = Math.max(width, height) / Math.max(picture.width, picture.height);
    return prepareOnEvenGround(picture, scale, conventions, imageShape.slice(0, 2));
  } catch (error) {
    if (error instanceof UnevenGround) return { error: "uneven" };
    throw error;
  }
}

function prepareOnEvenGround(picture, reduction, conventions, size) {
  const enlarged = enlargeTo(picture, conventions.box_size);
  const found = (conventions.divide ? findLines : findInk)(enlarged);
  if (!found.lines.length) return { error: "shows nothing: all its pixels have one colour" };
  const scale = (reduction * picture.width) / enlarged.width;
  let lines = found.lines.map((line) =>
    line.map(({ ink, box, start, stop, cost }) => ({
      image: frameInk(ink.strength, size, conventions),
      box: box.map((end) => roundHalfEven(scale * end)),
      start,
      stop,
      cost,
    })),
  );
  let { isDark } = found.lines[0][0].ink;
  const isWhole = lines.length === 1 && lines[0].length === 1;
  const framed = isWhole && asFramed(picture, size, conventions);
  if (framed) {
    isDark = framed.isDark;
    lines = [[{ ...lines[0][0], image: framed.image }]];
  }
  const polarity = isDark ? "dark on light" : "light on dark";
  return { lines, polarity, isDoubtful: found.isDoubtful };
}
