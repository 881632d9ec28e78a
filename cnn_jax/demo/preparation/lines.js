/**
 * Reads the ink of a picture as lines of digits, or as what may be digits: `preprocessing/lines.py`.
 *
 * Where two digits touch, or the strokes of one do not, several ways to divide a line are
 * candidates. Which one is right, only a model can tell (`numbers.js`).
 */

import { boundingBox, cut, paste } from "./components.js";
import { findCuts, MIN_WIDTH } from "./cuts.js";
import { nearestTrue } from "./distance.js";
import { maskAbove, maskWhere } from "./filters.js";
import { distanceOf, findLayout, heightOf, union, widthOf } from "./layout.js";
import { crop } from "./picture.js";
import { boxOnPicture, cropToRegion, searchAgain, searchPicture, segmentPart } from "./segment.js";
import { largest, roundHalfEven } from "./statistics.js";

/**
 * @typedef {import("./filters.js").Plane} Plane
 * @typedef {import("./ink.js").Ink} Ink
 * @typedef {import("./picture.js").Picture} Picture
 */

/**
 * Ink that may be a digit.
 * @typedef {object} Candidate
 * @property {number} start index of the first piece of the line that belongs to it, and
 * @property {number} stop index after the last one
 * @property {Ink} ink
 * @property {[number, number, number, number]} box left, upper, right, lower end on the picture
 * @property {number} cost how unlikely its shape is
 */

const CONNECTED = Math.fround(0.3); // Strength of ink that connects two strokes.
const MIN_HEIGHT = 60; // Pixels of a digit: strokes that nearly touch are apart.
const MAX_VIEW_SIDE = 1200; // Pixels of a view that is searched for this.
const MAYBE_NEAR = 0.2; // Of the height: digits so near to each other may be one.
const MAX_WIDTH = 1.4; // Width over height of a digit.
// How unlikely a candidate is by its shape, in nats.
const COST_OF_CUT = 1.25; // On either side,
const COST_OF_GAP = 0.5; // of two parts that do not touch, and
const COST_OF_WIDTH = 4; // per height by which it is wider than
const USUAL_WIDTH = 0.9; // so many heights.

/**
 * Finds the lines of writing on a picture.
 *
 * A sequence of candidates that starts at 0, continues where the one before stops, and ends where
 * the last one does, is a way to read a line.
 * @param {Picture} picture
 * @returns {{lines: Candidate[][], isDoubtful: boolean}} the lines, from top to bottom, none for a
 *   picture without ink, and whether there may be no writing
 */
export function findLines(picture) {
  const rough = searchPicture(picture);
  if (!rough) return { lines: [], isDoubtful: true };
  if (rough.ink.isDoubtful) {
    // The texture of paper falls into any number of parts.
    const fine = searchAgain(rough);
    return { lines: fine ? [[candidateOf(fine, 0, 1, 0)]] : [], isDoubtful: true };
  }
  const { view, layout } = layOut(rough);
  if (!view) return { lines: [], isDoubtful: true };
  if (!layout.isComplete || layout.lines.flat().length > 1) return divideLines(view, layout);
  const fine = searchAgain(rough);
  if (!fine) return { lines: [], isDoubtful: true };
  const isDoubtful = fine.ink.isDoubtful || layout.isDoubtful;
  return { lines: [cutIntoCandidates(fine, 0, 0)], isDoubtful };
}

/**
 * Finds all ink of a picture, as one candidate: `find_ink` of `preprocessing/segment.py`.
 * @param {Picture} picture
 * @returns {{lines: Candidate[][], isDoubtful: boolean}} as `findLines` returns
 */
export function findInk(picture) {
  const rough = searchPicture(picture);
  const fine = rough && searchAgain(rough);
  if (!fine) return { lines: [], isDoubtful: true };
  const { width, height } = picture;
  const candidate = { start: 0, stop: 1, ink: fine.ink, box: [0, 0, width, height], cost: 0 };
  return { lines: [[candidate]], isDoubtful: rough.ink.isDoubtful || fine.ink.isDoubtful };
}

/** Returns all ink of a view as one candidate. */
function candidateOf(view, start, stop, cost) {
  return { start, stop, ink: view.ink, box: boxOnPicture(view, view.ink.strength), cost };
}

/** Returns a view in which digits are large enough to tell them apart, and their layout. */
function layOut(rough) {
  const layout = layoutOf(rough);
  const groups = layout.lines.flat();
  const height = Math.max(...groups.map(heightOf));
  const isOne = layout.isComplete && groups.length === 1;
  if (isOne || height >= MIN_HEIGHT || rough.scale <= 1) return { view: rough, layout };
  const longer = Math.max(rough.reduced.height, rough.reduced.width);
  const side = Math.min(MAX_VIEW_SIDE, roundHalfEven((longer * MIN_HEIGHT) / height));
  const view = segmentPart(rough.picture, rough.origin, side);
  return { view, layout: view && layoutOf(view) };
}

function layoutOf({ ink: { strength } }) {
  return findLayout(maskAbove(strength, CONNECTED));
}

/** Divides each line of a layout into candidates. */
function divideLines(view, layout) {
  const { labels, height, width } = layout.components;
  const mask = maskAbove({ values: labels, height, width }, 0);
  const nearest = { ...mask, values: nearestTrue(mask).map((pixel) => labels[pixel]) };
  const divided = layout.lines.map((groups) => divideLine(view, layout, nearest, groups));
  const lines = divided.map(({ candidates }) => candidates).filter(({ length }) => length);
  const isDoubtful =
    layout.isDoubtful ||
    divided.some(({ isWhole }) => !isWhole) ||
    lines.flat().some(({ ink }) => ink.isDoubtful);
  return { lines, isDoubtful };
}

/** Divides a line into candidates; says also whether the second search found every group. */
function divideLine(view, layout, nearest, groups) {
  const height = Math.max(...groups.map(heightOf)) * view.scale;
  const candidates = [];
  const starts = [0]; // Index of the first piece of each group.
  for (const group of groups) {
    const fine = searchGroup(view, nearest, group);
    if (fine) candidates.push(...cutIntoCandidates(fine, starts.at(-1), height));
    starts.push(Math.max(0, ...candidates.map(({ stop }) => stop)));
  }
  for (let i = 0; i + 1 < groups.length; i++) {
    const [a, b] = groups.slice(i, i + 2);
    // Where both are equal, neither group was found again.
    if (starts[i] === starts[i + 2] || !mayBeOne(layout, a, b)) continue;
    const both = union([a, b]);
    const fine = searchGroup(view, nearest, both);
    const cost = COST_OF_GAP + costOfWidth(widthOf(both) / heightOf(both));
    if (fine) candidates.push(candidateOf(fine, starts[i], starts[i + 2], cost));
  }
  const isWhole = groups.every((_, i) => starts[i] < starts[i + 1]);
  return { candidates, isWhole };
}

/** Whether two neighbours in a line may be strokes of one digit. */
function mayBeOne({ components }, a, b) {
  const both = union([a, b]);
  const near = MAYBE_NEAR * heightOf(both);
  const isNarrow = widthOf(both) <= MAX_WIDTH * heightOf(both);
  return isNarrow && distanceOf(components, a, b, near) <= near;
}

/** Finds the ink of a group again, without that of its neighbours; null if there is none. */
function searchGroup({ picture, origin, scale }, nearest, group) {
  const { values, height, width } = nearest;
  const margin = Math.floor(Math.max(heightOf(group), widthOf(group)) / 2);
  const top = Math.max(group.box.top - margin, 0);
  const left = Math.max(group.box.left - margin, 0);
  const bottom = Math.min(group.box.bottom + margin, height);
  const right = Math.min(group.box.right + margin, width);
  const part = cut({ values, height, width }, { top, bottom, left, right });
  const region = maskWhere(part, (label) => group.parts.includes(label));
  const x = roundHalfEven(scale * left);
  const y = roundHalfEven(scale * top);
  const end = roundHalfEven(scale * left + scale * region.width);
  const lower = roundHalfEven(scale * top + scale * region.height);
  const inside = cropToRegion(crop(picture, x, y, end, lower), region);
  return segmentPart(inside.picture, [origin[0] + x + inside.left, origin[1] + y + inside.upper]);
}

/** Returns ink as one candidate, and if it is wide, what is between any two cuts through it. */
function cutIntoCandidates(view, position, height) {
  const { ink } = view;
  const box = boundingBox(ink.strength);
  const high = Math.max(box.bottom - box.top, height / view.scale);
  const strength = cut(ink.strength, box);
  const inner = findCuts(strength, high);
  if (!inner.length) {
    return [candidateOf(view, position, position + 1, costOfWidth(strength.width / high))];
  }
  const cuts = [{ column: -Infinity, slope: 0 }, ...inner, { column: Infinity, slope: 0 }];
  const candidates = [];
  for (let a = 0; a < cuts.length - 1; a++) {
    for (let b = a + 1; b < cuts.length; b++) {
      const piece = between(strength, cuts[a], cuts[b]);
      const most = largest(piece.values);
      if (most < 0.5) continue;
      for (let i = 0; i < piece.values.length; i++) piece.values[i] /= most;
      const whole = paste(piece, box, ink.strength);
      const numCuts = Number(a > 0) + Number(b < cuts.length - 1);
      const { left, right } = boundingBox(piece);
      const width = (right - left) / high;
      if (numCuts && (width < MIN_WIDTH || width > MAX_WIDTH)) continue;
      const cost = COST_OF_CUT * numCuts + costOfWidth(width);
      const part = { ...view, ink: { ...ink, strength: whole } };
      candidates.push(candidateOf(part, position + a, position + b, cost));
    }
  }
  return candidates;
}

/** Returns the ink between two cuts. */
function between({ values, height, width }, a, b) {
  const isRightOf = ({ column, slope }, x, y) => x - slope * (y - height / 2) >= column;
  const piece = values.map((value, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return isRightOf(a, x, y) && !isRightOf(b, x, y) ? value : 0;
  });
  return { values: piece, height, width };
}

/** Returns the cost of a width, as a part of the height. */
function costOfWidth(width) {
  return COST_OF_WIDTH * Math.max(0, width - USUAL_WIDTH);
}
