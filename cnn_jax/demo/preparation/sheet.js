/** Finds a sheet of paper, or a frame, in which ink is to be searched: `preprocessing/sheet.py`. */

import {
  boundingBox,
  cut,
  fillHoles,
  findComponents,
  isClearOfBorder,
  longerSide,
  maskOf,
  paste,
} from "./components.js";
import { erode, gaussianBlur, maskAbove, maskWhere, squaredGradient } from "./filters.js";
import { countTrue, largest, median, valuesWhere } from "./statistics.js";

/**
 * @typedef {import("./filters.js").Plane} Plane
 * @typedef {import("./picture.js").Picture} Picture
 */

const MIN_RECTANGULARITY = 0.88; // An ellipse fills 0.79 of its rectangle, a sheet askew 0.9.
const MIN_SHEET_FILL = 0.7; // Part of a sheet that is paper, not ink.
const MAX_FRAME_FILL = 0.5; // Part of a frame that is line or content. A square 0 is in between.
const LUMA = [0.299, 0.587, 0.114].map(Math.fround); // ITU-R BT.601.

/**
 * Finds a sheet that lies on a table, or the inside of a frame, if it contains ink.
 * @param {Picture} picture
 * @returns {Plane | null} a mask of the region to search again
 */
export function findSheetOrFrame({ pixels, height, width }) {
  const grey = new Float32Array(height * width);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = LUMA[0] * pixels[3 * i] + LUMA[1] * pixels[3 * i + 1] + LUMA[2] * pixels[3 * i + 2];
  }
  const sigma = Math.max(height, width) / 300;
  const tone = { values: gaussianBlur(grey, height, width, 1, sigma), height, width };
  const threshold = edgeTone(tone);
  const range = Math.fround(largest(tone.values) + largest(tone.values.map((value) => -value)));
  for (const mask of [maskAbove(tone, threshold), maskWhere(tone, (value) => value < threshold)]) {
    const found = rectangleInterior(mask);
    if (found && containsInk(cut(tone, found.box).values, found.region, Math.fround(0.2 * range))) {
      return paste(found.region, found.box, tone);
    }
  }
  return null;
}

/** Returns the mean tone of the edges. */
function edgeTone(tone) {
  const gradient = squaredGradient(tone);
  let [sum, total] = [0, 0];
  for (let i = 0; i < gradient.length; i++) {
    const weight = gradient[i] * gradient[i] + 1e-9; // Colours of equal luma have no edge.
    sum += tone.values[i] * weight;
    total += weight;
  }
  return Math.fround(sum / total);
}

/**
 * Returns the area of the largest component if it is a sheet, its holes if it is a frame: a mask of
 * its box.
 */
function rectangleInterior(mask) {
  const { height, width } = mask;
  const components = findComponents(mask, true);
  const sizes = components.boxes.map((box) =>
    isClearOfBorder(box, height, width) ? (box.bottom - box.top) * (box.right - box.left) : 0,
  );
  if (!sizes.some(Boolean)) return null;
  const index = sizes.indexOf(Math.max(...sizes));
  const box = components.boxes[index];
  const component = maskOf(components, box, [index + 1]);
  const filled = fillHoles(component);
  if (rectangularity(filled) < MIN_RECTANGULARITY) return null;
  const inside = filled.values;
  const filling = countTrue(valuesWhere(cut(mask, box).values, inside)) / countTrue(inside);
  if (MAX_FRAME_FILL < filling && filling < MIN_SHEET_FILL) return null;
  const holes = inside.map((value, i) => value & (1 - component.values[i]));
  const region = { ...filled, values: filling >= MIN_SHEET_FILL ? inside : holes };
  return { region: erode(erode(erode(region))), box }; // Clear of the soft, blurred edge.
}

/** Whether more than a speck stands out in it: a 1 of a thick pen is a rectangle too. */
function containsInk(tone, region, minContrast) {
  if (!countTrue(region.values)) return false;
  const paper = median(valuesWhere(tone, region.values));
  const difference = tone.map((value, i) => Math.abs(value - paper) * region.values[i]);
  const most = largest(difference);
  if (most < minContrast) return false;
  const mask = maskAbove({ ...region, values: difference }, most / 2);
  const { boxes } = findComponents(mask, true);
  const longest = Math.max(0, ...boxes.map(longerSide));
  return longest >= 0.1 * longerSide(boundingBox(region));
}

/** Returns the ratio of an area to its smallest enclosing rectangle, at any angle; at most 1. */
function rectangularity(filled) {
  const { width } = filled;
  const inner = erode(filled).values;
  const outline = [];
  for (let i = 0; i < inner.length; i++) {
    if (filled.values[i] && !inner[i]) outline.push([i % width, Math.floor(i / width)]);
  }
  const extent = (angle) => {
    const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
    let [least, most] = [Infinity, -Infinity];
    for (const [x, y] of outline) {
      const position = x * cosine + y * sine;
      least = Math.min(least, position);
      most = Math.max(most, position);
    }
    return most - least + 1;
  };
  let smallest = Infinity;
  for (let degrees = 0; degrees < 90; degrees += 3) {
    const angle = (degrees * Math.PI) / 180;
    smallest = Math.min(smallest, extent(angle) * extent(angle + Math.PI / 2));
  }
  return countTrue(filled.values) / smallest;
}
