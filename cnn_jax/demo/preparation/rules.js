/** Removes the printed lines of paper: `preprocessing/rules.py`. */

import { cut, findComponents, maskOf } from "./components.js";
import { dilateRows, maskAbove, openRows, transpose } from "./filters.js";
import { countTrue, median, roundHalfEven } from "./statistics.js";

/**
 * @typedef {import("./components.js").Box} Box
 * @typedef {import("./filters.js").Plane} Plane
 */

const MARGIN = 0.08; // Of the width or height: so near to the border a line must begin and end.
const MAX_RULE_WIDTH = 0.025; // Of the picture's longer side. A thicker line is a stroke.
const PIECE = 0.25; // Part of the width or height over which a line must be straight.
const MAX_TILT = 0.1; // Rise of a line by its run: 6 degrees.

/**
 * Removes thin lines that cross the whole picture, but not the strokes that cross them.
 * @param {Plane} depth levels by which pixels rise above the paper
 * @param {number} threshold the depth from which a pixel may be ink
 * @returns {{depth: Plane, rules: Uint8Array}} the depth without the lines, and where they are
 */
export function removeRules(depth, threshold) {
  const { height, width } = depth;
  const rules = new Uint8Array(height * width);
  const mask = maskAbove(depth, threshold / 2);
  const { boxes } = findComponents(mask, true);
  let rest = depth;
  for (const turn of [(plane) => plane, transpose]) {
    const turned = turn === transpose ? boxes.map(transposeBox) : boxes;
    const [across, length] = turn === transpose ? [width, height] : [height, width];
    // Nothing is long and level on most pictures.
    if (!turned.some((box) => reachesBorder(box, across, length))) continue;
    const along = turn(rest);
    const { found, widest } = findLevelRules(along, threshold / 2);
    if (!countTrue(found)) continue;
    const crossing = openRows(along, widest + 2);
    const cleaned = along.values.map((v, i) => (found[i] ? Math.min(crossing[i], v) : v));
    rest = turn({ ...along, values: cleaned });
    const where = turn({ ...along, values: found }).values;
    for (let i = 0; i < rules.length; i++) rules[i] |= where[i];
  }
  return { depth: rest, rules };
}

function transposeBox({ top, bottom, left, right }) {
  return { top: left, bottom: right, left: top, right: bottom };
}

/** Whether a level line in this box begins and ends at the border of the picture. */
function reachesBorder({ top, bottom, left, right }, height, width) {
  // A tilted line may leave the picture through its top or bottom.
  const atEdge = top <= (MARGIN * height) / 4 || bottom >= height - (MARGIN * height) / 4;
  const isLeft = left <= MARGIN * width;
  const isRight = right >= (1 - MARGIN) * width;
  return (isLeft && isRight) || (atEdge && (isLeft || isRight));
}

/** Finds lines that are level but for a small tilt, and the width of the widest in pixels. */
function findLevelRules(depth, threshold) {
  const { height, width } = depth;
  const ink = maskAbove(depth, threshold);
  const straight = { values: findStraight(ink), height, width };
  const components = findComponents(straight, true);
  const found = new Uint8Array(height * width);
  let widest = 0;
  for (const [index, box] of components.boxes.entries()) {
    if (!reachesBorder(box, height, width)) continue;
    const line = maskOf(components, box, [index + 1]);
    const drawn = cut(ink, box).values;
    const lineWidth = widthOfLines({ ...line, values: line.values.map((v, i) => v & drawn[i]) });
    if (lineWidth > MAX_RULE_WIDTH * Math.max(height, width)) continue;
    widest = Math.max(widest, lineWidth);
    for (let i = 0; i < line.values.length; i++) {
      const row = box.top + Math.floor(i / line.width);
      found[row * width + box.left + (i % line.width)] |= line.values[i];
    }
  }
  return { found, widest };
}

/** Keeps pieces of the ink, and the pixel above and below, that are long and nearly level. */
function findStraight(ink) {
  const { height, width } = ink;
  const size = Math.min(Math.max(3, roundHalfEven(PIECE * width)), width);
  const thick = dilateRows(ink, 1).values; // A line may bend by a pixel within a piece of it.
  const straight = new Uint8Array(thick.length);
  const steepest = roundHalfEven(MAX_TILT * size);
  for (let rise = -steepest; rise <= steepest; rise++) {
    const shift = Int32Array.from({ length: width }, (_, x) =>
      roundHalfEven((rise / size) * (x - width / 2)),
    );
    const shifted = (row, x, sign) => {
      const y = Math.min(Math.max(row + sign * shift[x], 0), height - 1);
      return y * width + x;
    };
    const level = thick.map((_, i) => thick[shifted(Math.floor(i / width), i % width, 1)]);
    for (let y = 0; y < height; y++) openLevel(level.subarray(y * width, (y + 1) * width), size);
    for (let i = 0; i < level.length; i++) {
      straight[i] |= level[shifted(Math.floor(i / width), i % width, -1)];
    }
  }
  return straight;
}

/** Keeps, in place, the runs of a row of at least `size` pixels. */
function openLevel(row, size) {
  let start = 0;
  for (let x = 0; x <= row.length; x++) {
    if (x < row.length && row[x]) continue;
    if (x - start < size) row.fill(0, start, x);
    start = x + 1;
  }
}

/** Returns the width in pixels of level lines, some of which strokes may join or follow. */
function widthOfLines({ values, height, width }) {
  // The median over columns: where strokes cross the lines they are wider.
  const widths = Float32Array.from({ length: width }, (_, x) => {
    let [pixels, lines] = [0, 0];
    for (let y = 0; y < height; y++) {
      pixels += values[y * width + x];
      if (values[y * width + x] && !(y > 0 && values[(y - 1) * width + x])) lines++;
    }
    return pixels / Math.max(lines, 1);
  });
  return Math.trunc(median(widths));
}
