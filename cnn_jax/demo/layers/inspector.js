// The image with the receptive field of the chosen value, and the numbers behind that value.

import { createElement } from "./elements.js";
import { formatterFor } from "./format.js";
import { receptiveField } from "./geometry.js";
import { InputView } from "./input.js";
import { explainUnit } from "./panel.js";

/**
 * @typedef {import("../network.js").Model} Model
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("./panel.js").Unit} Unit
 */

const LAYERS_HINT =
  "Point at a value of a map, or touch it, to see the numbers behind it. With the keyboard: arrow " +
  "keys; Page Up and Page Down for another map; Escape for none.";

/** Stays in view while the layers scroll. */
export class Inspector {
  /**
   * @param {Model} model
   * @param {Layer[]} layers The image first.
   * @param {import("./panel.js").Scales[]} scales Of each layer.
   * @param {HTMLElement} buttons Stand above the image.
   */
  constructor(model, layers, scales, buttons) {
    this.scales = scales;
    this.input = new InputView(model, layers);
    this.numbers = createElement("div", { class: "unit-numbers" });
    this.spoken = createElement("div", { class: "spoken", "aria-live": "polite" });
    const attributes = {
      role: "region",
      tabindex: 0,
      "aria-label": "The numbers behind one value",
    };
    const hint = createElement("p", { class: "layers-hint", id: "layers-hint" }, LAYERS_HINT);
    const panel = createElement("div", { class: "unit", ...attributes }, this.numbers);
    const parts = [buttons, this.input.element, hint, panel, this.spoken];
    this.element = createElement("div", { class: "inspector" }, ...parts);
  }

  /**
   * Shows the numbers behind a value and its receptive field, or none.
   *
   * @param {Model} model
   * @param {Layer[]} layers
   * @param {Unit | null} unit
   */
  show(model, layers, unit) {
    this.element.classList.toggle("inspector-empty", !unit);
    this.input.mark(unit && receptiveField(model, unit.index, unit.row, unit.column));
    if (!unit) {
      this.numbers.replaceChildren();
      return;
    }
    const title = createElement("h3", {}, describeValue(model, layers, unit));
    const field = createElement("p", {}, describeField(model, unit));
    const tables = explainUnit(model, layers, unit, this.scales);
    this.numbers.replaceChildren(title, field, ...tables);
  }

  /**
   * Tells screen readers which value is chosen.
   *
   * @param {Model} model
   * @param {Layer[]} layers
   * @param {Unit | null} unit
   */
  speak(model, layers, unit) {
    this.spoken.textContent = unit
      ? `${describeValue(model, layers, unit)}. ${describeField(model, unit)}`
      : "no value";
  }
}

/**
 * Names a value. Maps, rows and columns count from 1.
 *
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 */
function describeValue(model, layers, { index, row, column, channel }) {
  const { name, kind, shape, values } = layers[index];
  const isLogit = kind === "linear";
  const value = values[isLogit ? channel : (row * shape[1] + column) * shape[2] + channel];
  const place = isLogit
    ? `logit of ${model.classNames[channel]}`
    : `map ${channel + 1}, row ${row + 1}, column ${column + 1}`;
  return `${name}, ${place}: ${formatterFor([value])(value)}`;
}

/**
 * @param {Model} model
 * @param {Unit} unit
 */
function describeField(model, { index, row, column }) {
  const { top, left, bottom, right } = receptiveField(model, index, row, column);
  const [height, width] = model.imageShape;
  const isPadded = top < 0 || left < 0 || bottom > height || right > width;
  const size = `${bottom - top}x${right - left}`;
  return `It sees ${size} pixels of the image${isPadded ? ", some in the padding of zeros" : ""}.`;
}
