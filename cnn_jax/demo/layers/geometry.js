// Where the windows of a layer are, and which pixels of the image its values see.
//
// Index 0 is the image, as in `layers_of` in model.py.

/** @typedef {import("../network.js").Model} Model */

const POOL_SIZE = 2; // Pooling windows are 2x2 and do not overlap.

/**
 * Returns the window of the layer before that a value is computed from.
 *
 * @param {Model} model
 * @param {number} index Of the layer: neither the image nor the linear layer.
 * @param {number} row
 * @param {number} column
 * @returns {{top: number, left: number, size: number}} Row and column where the window begins,
 *   negative in the padding; height and width.
 */
export function windowAt(model, index, row, column) {
  const { size, stride, padding } = windowsOf(model)[index - 1];
  return { top: row * stride - padding[0], left: column * stride - padding[0], size };
}

/**
 * Returns the pixels that a value sees. Those outside the image are zeros of the padding.
 *
 * Formulas: nn/layer_table.py. A logit sees all pixels of the image that the last maps see.
 *
 * @param {Model} model
 * @param {number} layerIndex
 * @param {number} row
 * @param {number} column
 * @returns {{top: number, left: number, bottom: number, right: number}} Rows top to bottom - 1,
 *   columns left to right - 1.
 */
export function receptiveField(model, layerIndex, row, column) {
  const windows = windowsOf(model);
  const { field, start, jump, sides } = mapGeometry(model, windows.slice(0, layerIndex));
  if (layerIndex <= windows.length) {
    const [top, left] = [start + row * jump, start + column * jump];
    return { top, left, bottom: top + field, right: left + field };
  }
  const first = Math.max(start, 0);
  const [bottom, right] = sides.map((side, axis) =>
    Math.min(start + field + (side - 1) * jump, model.imageShape[axis]),
  );
  return { top: first, left: first, bottom, right };
}

/**
 * Returns the windows of the layers between the image and the linear one.
 *
 * @param {Model} model
 */
function windowsOf(model) {
  return model.convolutions.flatMap(({ size, strides, pool }) => [
    { size, stride: strides, padding: model.pads },
    { size: 1, stride: 1, padding: [0, 0] },
    ...(pool === "none" ? [] : [{ size: POOL_SIZE, stride: POOL_SIZE, padding: [0, 0] }]),
  ]);
}

/**
 * Returns height and width of the maps behind layers with these windows, the side of a value's
 * receptive field, where that of the first value starts, and the distance to the next one.
 *
 * @param {Model} model
 * @param {ReturnType<typeof windowsOf>} windows
 */
function mapGeometry(model, windows) {
  let [sides, field, start, jump] = [model.imageShape.slice(0, 2), 1, 0, 1];
  for (const { size, stride, padding } of windows) {
    const [before, after] = padding;
    sides = sides.map((side) => Math.floor((side - size + before + after) / stride) + 1);
    field += (size - 1) * jump;
    start -= before * jump;
    jump *= stride;
  }
  return { sides, field, start, jump };
}
