// The legend of a colour scale.

import { createElement } from "./elements.js";
import { withMinus } from "./format.js";
import { Picture } from "./tiles.js";

const LEGEND_WIDTH = 101; // Pixels of the bar.

/** A bar of all colours, with the numbers at its ends and in its middle. */
export class Legend {
  /**
   * @param {string} quantity That the colours stand for.
   * @param {import("./colours.js").ColourScale} scale
   */
  constructor(quantity, scale) {
    this.scale = scale;
    this.picture = new Picture(LEGEND_WIDTH, 1);
    this.low = createElement("span");
    this.high = createElement("span");
    const numbers = createElement("div", { class: "legend-numbers" }, this.low, "0", this.high);
    const bar = createElement("div", { class: "legend-bar" }, this.picture.canvas, numbers);
    this.element = createElement("div", { class: "legend" }, quantity, bar);
  }

  /** Shows the limit and the colours of the scale. */
  update() {
    const { limit } = this.scale;
    const text = limit < 1e6 ? String(limit) : limit.toExponential();
    this.low.textContent = withMinus(`-${text}`);
    this.high.textContent = text;
    this.picture.pixels.forEach((_, x, pixels) => {
      pixels[x] = this.scale.pixelOf(limit * ((2 * x) / (LEGEND_WIDTH - 1) - 1));
    });
    this.picture.show();
  }
}
