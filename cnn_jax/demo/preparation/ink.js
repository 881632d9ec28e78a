/** Separates ink from paper where the depth of each pixel is known: `preprocessing/threshold.py`. */

import { findComponents, isClearOfBorder, longerSide } from "./components.js";
import { dilate, invert, maskAbove, maskWhere, squaredGradient } from "./filters.js";
import { removeRules } from "./rules.js";
import { countTrue, largest, median, percentile, valuesWhere } from "./statistics.js";

/**
 * @typedef {import("./filters.js").Plane} Plane
 */

/**
 * @typedef {object} Ink
 * @property {Plane} strength from 0 (background) to 1 (middle of a stroke)
 * @property {boolean} isDark whether the ink is darker than its background
 * @property {boolean} hasRules whether the paper has printed lines, which are no ink
 * @property {boolean} isDoubtful whether it may be the paper's texture, or its printed lines
 */

const MIN_CONTRAST = 6; // Of 255. Compression alone leaves as much on an even picture.
export const MIN_STRENGTH = Math.fround(0.1); // Fainter is paper.
const WEAK = 0.5; // Of the threshold: the ends of a stroke may be so faint.
const MIN_STROKE = 0.04; // Of the picture's longer side: shorter strokes are specks.
const MAX_RULE_PASSES = 3; // Each finds fainter rules than the one before.

// What follows tells writing from the texture of empty paper.
const MAX_PAPER = Math.fround(0.45); // Strength that at most 5 % of the paper may reach.
const CLEAR_CONTRAST = 25; // Of 255.
const SURELY_INK = 0.6; // Strengths of what is clearly ink, and
const SURELY_PAPER = 0.3; // clearly paper.
const MAX_LOST = 0.25; // Part of the ink that the rules may have hidden.
const MIN_OF_RULES = 1.2; // Of the strength of the rules: fainter strokes may be lost with them.

/**
 * Returns the ink of a picture whose pixels rise some levels above a paper of one colour.
 *
 * The threshold is the mean depth of the edges, half-way into the ink.
 * @param {Plane} whole levels of 255
 * @param {boolean} isDark whether the ink is darker than the paper
 * @returns {Ink | null} null where all pixels have one colour
 */
export function thresholdInk(whole, isDark) {
  if (largest(whole.values) < MIN_CONTRAST) return null;
  const edges = edgeDepth(whole);
  const cleaned = withoutRules(whole, edges);
  const hasRules = cleaned.ruleDepth > 0;
  const isLost = largest(cleaned.depth.values) < MIN_CONTRAST;
  const depth = hasRules && !isLost ? cleaned.depth : whole;
  const threshold = depth === whole ? edges : edgeDepth(depth);
  const isInk = maskAbove(depth, threshold);
  const { strokes, onlySpecks } = removeSpecks(isInk, !hasRules);
  const mask = withWeakInk(strokes, depth, threshold);
  const isPaper = invert(isInk).values;
  const paper = median(valuesWhere(depth.values, isPaper));
  const full = percentile(valuesWhere(depth.values, mask.values), 75);
  const contrast = Math.fround(full - paper);
  const strength = new Float32Array(depth.values.length);
  for (let i = 0; i < strength.length; i++) {
    strength[i] = Math.min(Math.max(Math.fround(depth.values[i] - paper) / contrast, 0), 1);
  }
  const isDoubtful =
    isLost ||
    onlySpecks ||
    contrast < Math.max(CLEAR_CONTRAST, MIN_OF_RULES * cleaned.ruleDepth) ||
    isTextured(strength, dilate(mask, 3).values) ||
    // Strokes along the rules were removed with them.
    countLost(whole.values, depth.values, full) > MAX_LOST * countTrue(mask.values);
  const soft = dilate(mask, 1).values; // Soft edges belong to strokes.
  for (let i = 0; i < strength.length; i++) {
    if (!soft[i] || strength[i] < MIN_STRENGTH) strength[i] = 0;
  }
  return { strength: { ...depth, values: strength }, isDark, hasRules, isDoubtful };
}

function isTextured(strength, around) {
  let [paper, marked] = [0, 0];
  for (let i = 0; i < strength.length; i++) {
    if (around[i]) continue;
    paper++;
    if (strength[i] > MAX_PAPER) marked++;
  }
  return marked > 0.05 * paper;
}

function countLost(before, after, full) {
  const [ink, paper] = [Math.fround(SURELY_INK * full), Math.fround(SURELY_PAPER * full)];
  let lost = 0;
  for (let i = 0; i < before.length; i++) if (before[i] > ink && after[i] < paper) lost++;
  return lost;
}

/** Adds the faint parts of strokes, connected to the others, where they stand out from paper. */
function withWeakInk(mask, depth, threshold) {
  const isFar = invert(dilate(mask, 3)).values;
  const paper = valuesWhere(depth.values, isFar);
  const noise = paper.length ? percentile(paper, 95) : 0;
  const weak = Math.fround(Math.min(Math.max(WEAK * threshold, 3 * noise), threshold));
  const faint = maskAbove(depth, weak);
  const { labels, boxes } = findComponents(faint, true);
  const isConnected = new Uint8Array(boxes.length + 1); // By label.
  for (let i = 0; i < labels.length; i++) if (mask.values[i]) isConnected[labels[i]] = 1;
  return maskWhere({ ...mask, values: labels }, (label) => isConnected[label]);
}

/** Returns the mean depth of edges. Squared gradients are squared again: noise is everywhere. */
function edgeDepth(depth) {
  const gradient = squaredGradient(depth);
  let [sum, total] = [0, 0];
  for (let i = 0; i < gradient.length; i++) {
    const weight = gradient[i] * gradient[i];
    sum += depth.values[i] * weight;
    total += weight;
  }
  return Math.fround(sum / total);
}

/** Returns the depth without the paper's rules, and the depth of the rules, 0 without rules. */
function withoutRules(whole, edges) {
  let [depth, threshold, ruleDepth] = [whole, edges, 0];
  for (let pass = 0; pass < MAX_RULE_PASSES; pass++) {
    const found = removeRules(depth, threshold);
    if (!countTrue(found.rules)) break;
    const removed = depth.values.map((value, i) => value - found.depth.values[i]);
    ruleDepth = Math.max(ruleDepth, median(valuesWhere(removed, found.rules)));
    depth = found.depth;
    if (largest(depth.values) < MIN_CONTRAST) break; // It has no edges, and so no threshold.
    threshold = edgeDepth(depth);
  }
  return { depth, ruleDepth };
}

/** Removes components that are small or may not touch the border, unless no others exist. */
function removeSpecks(mask, mayTouchBorder) {
  const { height, width } = mask;
  const { labels, boxes } = findComponents(mask, true);
  const minSide = Math.max(2, MIN_STROKE * Math.max(height, width));
  const isStroke = boxes.map(
    (box) => (mayTouchBorder || isClearOfBorder(box, height, width)) && longerSide(box) >= minSide,
  );
  const onlySpecks = !isStroke.some(Boolean);
  const areas = new Uint32Array(boxes.length + 1); // By label.
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] && (onlySpecks || isStroke[labels[i] - 1])) areas[labels[i]]++;
  }
  // The smallest part of a digit, the top stroke of a 5, is more than 5 % of the largest.
  const least = 0.05 * largest(areas);
  const isKept = (label) => label > 0 && areas[label] >= least;
  return { strokes: maskWhere({ values: labels, height, width }, isKept), onlySpecks };
}
