// The image as the network sees it, with the receptive field of one value.

import { createElement, placeMarker } from "./elements.js";
import { receptiveField } from "./geometry.js";
import { drawInput, Picture } from "./tiles.js";
import { describeLayer } from "./words.js";

/** The image inside a margin, which stands for the padding. */
export class InputView {
  /**
   * @param {import("../network.js").Model} model
   * @param {import("../network.js").Layer[]} layers The image first.
   */
  constructor(model, layers) {
    const [height, width] = model.imageShape;
    this.margin = marginOf(model, layers);
    this.picture = new Picture(width + 2 * this.margin, height + 2 * this.margin);
    this.marker = createElement("div", { class: "marker" });
    const label = `the image as the network sees it, ${height}x${width} pixels`;
    const attributes = { class: "map map-input", role: "img", "aria-label": label };
    this.map = createElement("div", attributes, this.picture.canvas);
    const legend = createElement("div", { class: "legend-grey" }, "0", createElement("i"), "1");
    const words = describeLayer(model, layers, 0);
    const note = this.margin ? " The grey margin is padding: zeros." : "";
    const caption = createElement("figcaption", {}, legend, words + note);
    this.element = createElement("figure", { class: "input" }, this.map, caption);
  }

  /** @param {import("../network.js").Layer} image */
  draw(image) {
    drawInput(this.picture, image, this.margin);
  }

  /**
   * Marks a receptive field, or none.
   *
   * @param {ReturnType<typeof receptiveField> | null} field
   */
  mark(field) {
    if (!field) {
      this.marker.remove();
      return;
    }
    const { width, canvas } = this.picture;
    placeMarker(this.marker, this.map, {
      left: (field.left + this.margin) / width,
      top: (field.top + this.margin) / canvas.height,
      width: (field.right - field.left) / width,
      height: (field.bottom - field.top) / canvas.height,
    });
  }
}

/**
 * Returns the margin in which the receptive fields of all maps are seen, in pixels.
 *
 * @param {import("../network.js").Model} model
 * @param {import("../network.js").Layer[]} layers The image first.
 */
function marginOf(model, layers) {
  const [height, width] = model.imageShape;
  const index = layers.length - 2; // The fields of the last maps reach furthest.
  const [rows, columns] = layers[index].shape;
  const first = receptiveField(model, index, 0, 0);
  const last = receptiveField(model, index, rows - 1, columns - 1);
  const reach = Math.max(-first.top, last.bottom - height, last.right - width, 0);
  return Math.min(reach, Math.ceil(Math.min(height, width) / 4));
}
