// The logits as bars.

import { createElement } from "./elements.js";
import { formatterFor } from "./format.js";

/**
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("./maps.js").Place} Place
 */

const BAR_KEYS = new Map([
  ["ArrowUp", -1],
  ["ArrowLeft", -1],
  ["ArrowDown", 1],
  ["ArrowRight", 1],
  ["Home", -Infinity],
  ["End", Infinity],
]);

/** The logit of each class as a bar from zero to the left or right, and its probability. */
export class BarsView {
  /**
   * @param {string[]} classNames
   * @param {string} label Name of the bars for screen readers.
   */
  constructor(classNames, label) {
    this.rows = classNames.map((name, index) => {
      const fill = createElement("div", { class: "bar-fill" });
      const logit = createElement("span", { class: "bar-number" });
      const probability = createElement("span", { class: "bar-number" });
      const track = createElement("div", { class: "bar-track" }, fill);
      const title = createElement("span", { class: "bar-name", title: name }, name);
      const attributes = {
        class: "bar",
        role: "option",
        id: `logit-${index}`,
        "data-index": index,
      };
      const element = createElement("div", attributes, title, track, logit, probability);
      return { element, fill, logit, probability };
    });
    const elements = this.rows.map((row) => row.element);
    const attributes = { class: "bars", role: "listbox", tabindex: 0, "aria-label": label };
    this.element = createElement("div", attributes, ...elements);
  }

  /**
   * @param {Layer} layer
   * @param {Float64Array} probabilities 0..1.
   */
  draw(layer, probabilities) {
    const { values } = layer;
    const low = Math.min(0, ...values);
    const range = Math.max(0, ...values) - low || 1;
    const format = formatterFor(values);
    const predicted = probabilities.indexOf(Math.max(...probabilities));
    this.rows.forEach(({ element, fill, logit, probability }, k) => {
      fill.style.left = `${(100 * (Math.min(0, values[k]) - low)) / range}%`;
      fill.style.width = `${(100 * Math.abs(values[k])) / range}%`;
      logit.textContent = format(values[k]);
      probability.textContent = `${(100 * probabilities[k]).toFixed(1)} %`;
      element.classList.toggle("bar-predicted", k === predicted);
      element.classList.toggle("bar-negative", values[k] < 0);
    });
  }

  /**
   * Marks a class, or none.
   *
   * @param {Place | null} place
   */
  mark(place) {
    this.rows.forEach(({ element }, k) => {
      element.setAttribute("aria-selected", String(k === place?.channel));
    });
    if (place) this.element.setAttribute("aria-activedescendant", `logit-${place.channel}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /**
   * Returns the class that a key leads to, or null for any other key.
   *
   * @param {Place} place
   * @param {string} key
   * @returns {Place | null}
   */
  move(place, key) {
    const step = BAR_KEYS.get(key);
    if (step === undefined) return null;
    const channel = Math.min(Math.max(place.channel + step, 0), this.rows.length - 1);
    return { ...place, channel };
  }

  /**
   * Returns the bar of a class.
   *
   * @param {Place} place
   */
  elementOf(place) {
    return this.rows[place.channel].element;
  }

  /**
   * Returns the class under the pointer, or null.
   *
   * @param {PointerEvent} event
   * @returns {Place | null}
   */
  placeAt(event) {
    const bar = /** @type {Element} */ (event.target).closest(".bar");
    if (!(bar instanceof HTMLElement)) return null;
    return { row: 0, column: 0, channel: Number(bar.dataset.index) };
  }
}
