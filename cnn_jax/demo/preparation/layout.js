/** Tells which strokes belong to one digit, and which digits to one line: `preprocessing/layout.py`. */

import { fillHoles, findComponents, maskOf } from "./components.js";
import { nearestTrue } from "./distance.js";
import { countTrue } from "./statistics.js";

/**
 * @typedef {import("./components.js").Box} Box
 * @typedef {import("./components.js").Components} Components
 * @typedef {import("./filters.js").Plane} Plane
 */

/**
 * Strokes of one digit.
 * @typedef {object} Group
 * @property {number[]} parts labels of the connected components, from 1
 * @property {Box} box their bounding box
 */

/**
 * Digits on a picture.
 * @typedef {object} Layout
 * @property {Components} components of the ink
 * @property {Group[][]} lines from top to bottom, each with its digits from left to right
 * @property {boolean} isComplete whether all ink belongs to a digit
 * @property {boolean} isDoubtful whether some ink that does not may have been writing
 */

// Sizes are parts of the height of the digits.
// Two strokes belong to one digit if they are at most so far from each other:
const TOUCHING = 0.05; // of one line: they may have been one;
const INSIDE_NEAR = 0.5; // one between the ends of the other, as the right part of an open 4,
const INSIDE = 0.9; // which is so much of its width;
const NEAR = 0.12; // one small, as the bar of a 5, or higher than the other, to its left or right;
const PIECE_NEAR = 0.25; // one above the other, and small, or both halves of a digit:
const MIN_HALVES = 0.5; // width over height of both together.
const MIN_NEAR = 2; // Pixels, of digits that are not much larger.
const SMALL = 0.6; // A small stroke is at most so high.
const MIN_DIGIT = 0.4; // Whatever is lower is no digit: an underline, a dash, a dot, a smudge.
const MAX_PARTS = 150; // What falls into more is the texture of paper.
const MIN_DASH = 3; // Width over height of a dash, which is no measure of the digits' height.
const MIN_UNDERLINE = 0.8; // Width of an underline as a part of that of the digit above.
const MIN_INSIDE = 0.25; // Of a ring's height: what is inside is the drawing, not the ring.
const MAX_RING_FILL = 0.4; // Part of what it surrounds that a ring itself covers.
const MIN_ROUND = 0.8; // Width over height. A narrower ring around something may be a crossed 0.

/**
 * Groups ink into digits and lines.
 * @param {Plane} mask where there is ink, in at least one pixel
 * @returns {Layout}
 */
export function findLayout(mask) {
  const components = findComponents(mask, true);
  const singles = components.boxes.map((box, i) => ({ parts: [i + 1], box }));
  if (singles.length === 1 || singles.length > MAX_PARTS) {
    const isDoubtful = singles.length > 1;
    return { components, lines: [[union(singles)]], isComplete: true, isDoubtful };
  }
  const { rings, hasNarrow } = findRings(components);
  const groups = connected(
    singles.filter(({ parts }) => !rings.has(parts[0])),
    (a, b) => isOneDigit(components, a, b),
  ).map(union);
  const lines = withoutMarks(connected(groups, isOneLine));
  const isReduced = lines.flat().length < groups.length;
  for (const line of lines)
    line.sort((a, b) => middle(a, "left", "right") - middle(b, "left", "right"));
  const heightOf = (line) => {
    const total = line.reduce((sum, group) => sum + middle(group, "top", "bottom"), 0);
    return total / line.length;
  };
  lines.sort((a, b) => heightOf(a) - heightOf(b));
  return {
    components,
    lines,
    isComplete: rings.size === 0 && !isReduced,
    isDoubtful: hasNarrow || isReduced,
  };
}

/** Returns twice the middle of a group. */
function middle({ box }, first, last) {
  return box[first] + box[last];
}

/** @param {Group} group */
export function heightOf({ box }) {
  return box.bottom - box.top;
}

/** @param {Group} group */
export function widthOf({ box }) {
  return box.right - box.left;
}

/** Finds circles and frames around digits: their labels, and whether one may be a crossed 0. */
function findRings(components) {
  const { labels, width } = components;
  const rings = new Set();
  let hasNarrow = false;
  for (const [index, box] of components.boxes.entries()) {
    const ring = maskOf(components, box, [index + 1]);
    const filled = fillHoles(ring).values;
    if (countTrue(ring.values) > MAX_RING_FILL * countTrue(filled)) continue;
    let [first, last] = [Infinity, -Infinity];
    for (let i = 0; i < filled.length; i++) {
      const row = Math.floor(i / ring.width);
      const ink = labels[(box.top + row) * width + box.left + (i % ring.width)];
      if (!ink || !filled[i] || ring.values[i]) continue;
      first = Math.min(first, row);
      last = row;
    }
    if (last - first + 1 < MIN_INSIDE * ring.height) continue;
    rings.add(index + 1);
    hasNarrow ||= ring.width < MIN_ROUND * ring.height;
  }
  return { rings, hasNarrow };
}

/** Whether two components are strokes of one digit, or of digits that nearly touch. */
function isOneDigit(components, a, b) {
  const [small, large] = heightOf(a) <= heightOf(b) ? [a, b] : [b, a];
  if (isUnderline(small, large)) return false;
  const isPiece = heightOf(small) <= SMALL * heightOf(large);
  let near = NEAR;
  let size = heightOf(large);
  if (isOneLine(a, b)) {
    near = overlap(a, b, "left", "right") >= INSIDE ? INSIDE_NEAR : isPiece ? NEAR : TOUCHING;
  } else if (overlap(a, b, "left", "right") >= 0.5) {
    // Two halves of a digit, or two digits, which are high together.
    const both = union([a, b]);
    if (isPiece || widthOf(both) >= MIN_HALVES * heightOf(both)) {
      near = PIECE_NEAR;
      size = heightOf(both);
    }
  }
  const atMost = Math.max(near * size, isOneLine(a, b) ? 0 : MIN_NEAR);
  return distanceOf(components, a, b, atMost) <= atMost;
}

/** Whether a stroke is a level line below another one, and nearly as wide. */
function isUnderline(a, b) {
  const isBelow = a.box.top >= b.box.bottom - 0.1 * heightOf(b);
  return isBelow && isDash(a) && widthOf(a) >= MIN_UNDERLINE * widthOf(b);
}

function isDash(group) {
  return widthOf(group) >= MIN_DASH * heightOf(group);
}

/**
 * Returns the distance of two groups in pixels, or Infinity where it is above a maximum.
 * @param {Components} components
 * @param {Group} a
 * @param {Group} b
 * @param {number} atMost
 * @returns {number}
 */
export function distanceOf(components, a, b, atMost) {
  const down = Math.max(a.box.top, b.box.top) - Math.min(a.box.bottom, b.box.bottom);
  const across = Math.max(a.box.left, b.box.left) - Math.min(a.box.right, b.box.right);
  if (Math.max(down, across) > atMost) return Infinity; // Most pairs: nothing need be computed.
  const { box } = union([a, b]);
  const ofA = maskOf(components, box, a.parts);
  const ofB = maskOf(components, box, b.parts).values;
  const nearest = nearestTrue(ofA);
  const { width } = ofA;
  let least = Infinity;
  for (let i = 0; i < nearest.length; i++) {
    if (!ofB[i]) continue;
    const x = (nearest[i] % width) - (i % width);
    const y = Math.floor(nearest[i] / width) - Math.floor(i / width);
    least = Math.min(least, x * x + y * y);
  }
  return Math.sqrt(least);
}

function isOneLine(a, b) {
  return overlap(a, b, "top", "bottom") >= 0.5;
}

/** Returns the part of the smaller one's rows or columns that both have. */
function overlap(a, b, first, last) {
  const common = Math.min(a.box[last], b.box[last]) - Math.max(a.box[first], b.box[first]);
  return common / Math.min(a.box[last] - a.box[first], b.box[last] - b.box[first]);
}

/** Returns the groups that belong together, directly or by way of others. */
function connected(groups, belongs) {
  const sets = [];
  let rest = groups;
  while (rest.length) {
    const members = [rest[0]];
    rest = rest.slice(1);
    for (const member of members) {
      // It grows while it is walked.
      const found = rest.filter((group) => belongs(member, group));
      rest = rest.filter((group) => !found.includes(group));
      members.push(...found);
    }
    sets.push(members);
  }
  return sets;
}

/**
 * Returns the strokes of several groups as one.
 * @param {Group[]} groups
 * @returns {Group}
 */
export function union(groups) {
  const boxes = groups.map((group) => group.box);
  return {
    parts: groups.flatMap((group) => group.parts).sort((a, b) => a - b),
    box: {
      top: Math.min(...boxes.map((box) => box.top)),
      bottom: Math.max(...boxes.map((box) => box.bottom)),
      left: Math.min(...boxes.map((box) => box.left)),
      right: Math.max(...boxes.map((box) => box.right)),
    },
  };
}

/** Returns the lines without underlines, dashes, dots and smudges. */
function withoutMarks(lines) {
  const groups = lines.flat();
  const digits = groups.filter((group) => !isDash(group));
  const height = Math.max(...(digits.length ? digits : groups).map(heightOf));
  return lines
    .map((line) => line.filter((group) => heightOf(group) >= MIN_DIGIT * height))
    .filter((line) => line.length);
}
