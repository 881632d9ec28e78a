// The part of the page that shows one layer: its words, legends, filters and maps or bars.

import { BarsView } from "./bars.js";
import { scaleLimit } from "./colours.js";
import { createElement } from "./elements.js";
import { pluralize } from "./format.js";
import { Legend } from "./legend.js";
import { MapsView } from "./maps.js";
import { convolutionOf } from "./unit.js";
import { describeLayer } from "./words.js";

/**
 * @typedef {import("../network.js").Model} Model
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("./panel.js").Scales} Scales
 */

/** A layer between the image and the logits. */
export class MapsSection {
  /**
   * @param {Model} model
   * @param {Layer[]} layers The image first.
   * @param {number} index Of the layer.
   * @param {Scales} scales
   */
  constructor(model, layers, index, scales) {
    const { name, kind, shape } = layers[index];
    const [height, width, channels] = shape;
    const size = `${pluralize(channels, "map")} of ${height}x${width}`;
    this.index = index;
    this.scales = scales;
    this.view = new MapsView(layers[index], scales.value, `${name}: ${size}`);
    this.view.element.setAttribute("role", "application");
    this.view.element.setAttribute("aria-roledescription", "maps");
    this.view.element.setAttribute("aria-describedby", "layers-hint");
    this.legends = [new Legend("value", scales.value)];
    let title = size;
    if (kind === "conv") {
      const kernel = convolutionOf(model, layers[index]).size;
      const inputs = layers[index - 1].shape[2];
      const filters = `${pluralize(channels, "filter")} of ${kernel}x${kernel}x${inputs}`;
      title = `${filters}, above their maps of ${height}x${width}`;
      this.view.addFilters(kernel, inputs);
      this.legends.unshift(new Legend("weight", scales.weight));
    }
    const words = describeLayer(model, layers, index);
    this.element = createSection(name, title, words, this.legends, this.view.element);
  }

  /**
   * Draws the filters, which change only with the model.
   *
   * @param {Model} model
   */
  drawModel(model) {
    if (!this.view.filterPictures) return;
    const convolution = convolutionOf(model, this.view.layer);
    this.scales.weight.limit = scaleLimit(convolution.kernel);
    this.view.drawFilters(convolution, this.scales.weight);
  }

  /** @param {Layer[]} layers */
  draw(layers) {
    this.view.draw(layers[this.index]);
  }
}

/** The fully connected layer. */
export class LinearSection {
  /**
   * @param {Model} model
   * @param {Layer[]} layers The image first.
   * @param {number} index Of the layer.
   * @param {Scales} scales
   */
  constructor(model, layers, index, scales) {
    const input = layers[index - 1];
    this.model = model;
    this.input = input;
    this.index = index;
    this.label = -1; // Of the class whose weights are shown.
    this.scale = scales.weight;
    this.view = new BarsView(model.classNames, "logits and probabilities of the classes");
    this.view.element.setAttribute("aria-describedby", "layers-hint");
    this.weights = new MapsView(input, scales.weight, "");
    this.weights.element.setAttribute("role", "img");
    const scrolls = this.weights.element.matches(".maps-many");
    if (!scrolls) this.weights.element.removeAttribute("tabindex"); // Nothing to do with keys.
    this.weightsTitle = createElement("p", { class: "weights-title" });
    this.legends = [new Legend("weight", scales.weight)];
    const title = `${input.values.length} values x ${model.classNames.length} classes`;
    const words = describeLayer(model, layers, index);
    const { name } = layers[index];
    const parts = [this.weightsTitle, this.weights.element, this.view.element];
    this.element = createSection(name, title, words, this.legends, ...parts);
  }

  /**
   * Takes the weights of a model; `drawWeights` draws them.
   *
   * @param {Model} model
   */
  drawModel(model) {
    this.model = model;
    this.label = -1;
    this.scale.limit = scaleLimit(model.linear.kernel);
  }

  /**
   * Draws the weights of one class.
   *
   * @param {number} label Index of the class.
   */
  drawWeights(label) {
    if (label === this.label) return;
    this.label = label;
    const { classNames, linear } = this.model;
    const values = linear.kernel.filter((_, i) => i % classNames.length === label);
    const { name, shape, kind } = this.input;
    const text = `Weights of class ${classNames[label]}, one image for each map of ${name}`;
    this.weightsTitle.textContent = `${text}: red speaks for the class, blue against it.`;
    this.weights.element.setAttribute("aria-label", text);
    this.weights.draw({ name, kind, shape, values });
  }

  /**
   * @param {Layer[]} layers
   * @param {Float64Array} probabilities
   */
  draw(layers, probabilities) {
    this.view.draw(layers[this.index], probabilities);
  }
}

/**
 * @param {string} name
 * @param {string} title
 * @param {string} words
 * @param {Legend[]} legends
 * @param {...Node} parts
 */
function createSection(name, title, words, legends, ...parts) {
  const heading = createElement(
    "h3",
    {},
    name,
    createElement("span", { class: "layer-size" }, title),
  );
  const bars = createElement("div", { class: "legends" }, ...legends.map((each) => each.element));
  const text = createElement("p", { class: "layer-words" }, words);
  return createElement(
    "section",
    { class: "layer", "aria-label": name },
    heading,
    text,
    bars,
    ...parts,
  );
}
