// Shows what each layer of the network computes for an image.

import { listenToChoices } from "./choosing.js";
import { ColourScale, scaleLimit } from "./colours.js";
import { createElement } from "./elements.js";
import { windowAt } from "./geometry.js";
import { Inspector } from "./inspector.js";
import { channelSums, largestParts } from "./ledger.js";
import { Player, prefersStillness } from "./player.js";
import { LinearSection, MapsSection } from "./section.js";
import { listSteps } from "./steps.js";
import { convolutionAt, layersFromImage } from "./unit.js";

/**
 * @typedef {import("../network.js").Model} Model
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("../network.js").Result} Result
 * @typedef {import("./panel.js").Unit} Unit
 */

/** @type {WeakMap<HTMLElement, LayersView>} */
const layersViews = new WeakMap();

/**
 * Shows the layers for an image. Called again with a model of the same layers, it changes only what
 * differs: the focus, the chosen value and the step remain.
 *
 * @param {HTMLElement} container
 * @param {Model} model
 * @param {Uint8Array} image [height * width * channels], 0..255.
 * @param {Result} result Of `forward` for this model and image.
 */
export function showLayers(container, model, image, result) {
  const layers = layersFromImage(model, image, result);
  let view = layersViews.get(container);
  if (!view?.fits(model, layers)) {
    view?.remove();
    view = new LayersView(container, model, layers, result.probabilities);
    layersViews.set(container, view);
  }
  view.update(model, layers, result.probabilities);
}

/** All layers, the numbers behind the chosen value, and the buttons of the steps. */
class LayersView {
  /**
   * @param {HTMLElement} container
   * @param {Model} model
   * @param {Layer[]} layers The image first.
   * @param {Float64Array} probabilities
   */
  constructor(container, model, layers, probabilities) {
    this.element = createElement("div", { class: "layers" });
    container.append(this.element);
    this.model = model;
    this.layers = layers;
    this.probabilities = probabilities;
    this.signature = signatureOf(model, layers);
    /** @type {Unit | null} */
    this.unit = null;
    this.scales = this.createScales();
    this.maps = layers
      .slice(1, -1)
      .map((_, i) => new MapsSection(model, layers, i + 1, this.scales[i + 1]));
    this.linear = new LinearSection(
      model,
      layers,
      layers.length - 1,
      this.scales[layers.length - 1],
    );
    this.sections = [...this.maps, this.linear];
    this.player = new Player(
      () => listSteps(this.model, this.layers),
      (step, frame) => this.showStep(step, frame),
      (step) => this.scrollToStep(step),
    );
    this.inspector = new Inspector(model, layers, this.scales, this.player.element);
    const elements = this.sections.map((section) => section.element);
    const stack = createElement("div", { class: "stack" }, ...elements);
    const columns = [this.inspector.element, stack];
    const title = createElement("h2", {}, "Layer by layer");
    this.element.append(title, createElement("div", { class: "layers-columns" }, ...columns));
    for (const section of this.sections) this.listenTo(section);
    this.schemeQuery = matchMedia("(prefers-color-scheme: dark)");
    this.onScheme = () => this.changeColours();
    this.schemeQuery.addEventListener("change", this.onScheme);
    // What scrolls into view must not be behind the inspector.
    const observer = new ResizeObserver(([{ target }]) => {
      this.element.style.setProperty("--inspector-height", `${target.clientHeight}px`);
    });
    observer.observe(this.inspector.element);
    this.drawModel();
  }

  /**
   * Creates the colour scales of each layer. The maps of a convolution, its activation and its
   * pooling share theirs, but a sigmoid changes the range of the values.
   *
   * @returns {import("./panel.js").Scales[]}
   */
  createScales() {
    let scales = { value: new ColourScale(this.element), weight: new ColourScale(this.element) };
    return this.layers.map(({ kind }) => {
      if (kind === "conv" || kind === "linear" || this.model.activation === "sigmoid") {
        scales = { value: new ColourScale(this.element), weight: new ColourScale(this.element) };
      }
      return scales;
    });
  }

  /** @param {MapsSection | LinearSection} section */
  listenTo({ index, view }) {
    listenToChoices(
      view,
      () => (this.unit?.index === index ? this.unit : null),
      () => firstPlace(this.layers[index]),
      (place, byKeyboard) => {
        this.choose(place && { index, ...place });
        if (byKeyboard) this.inspector.speak(this.model, this.layers, this.unit);
      },
    );
  }

  /**
   * Tells whether these layers are of the kinds and sizes that are shown.
   *
   * @param {Model} model
   * @param {Layer[]} layers
   */
  fits(model, layers) {
    return this.element.isConnected && signatureOf(model, layers) === this.signature;
  }

  /**
   * @param {Model} model
   * @param {Layer[]} layers
   * @param {Float64Array} probabilities
   */
  update(model, layers, probabilities) {
    const isSameModel = model === this.model;
    this.model = model;
    this.layers = layers;
    this.probabilities = probabilities;
    const limits = layers.map(({ values }) => scaleLimit(values));
    // Of layers that share a scale, the first one has the widest range.
    for (let i = layers.length - 1; i > 0; i--) this.scales[i].value.limit = limits[i];
    if (!isSameModel) this.drawModel();
    this.drawLayers();
    this.player.refresh();
  }

  /** Draws the weights, which stay from one image to the next. */
  drawModel() {
    for (const section of this.sections) section.drawModel(this.model);
  }

  /** Draws the values. */
  drawLayers() {
    this.inspector.input.draw(this.layers[0]);
    for (const section of this.maps) section.draw(this.layers);
    this.linear.draw(this.layers, this.probabilities);
    for (const section of this.sections) for (const legend of section.legends) legend.update();
    this.choose(this.unit);
  }

  changeColours() {
    for (const { value, weight } of this.scales) {
      value.readColours();
      weight.readColours();
    }
    this.drawModel();
    this.drawLayers();
    this.player.refresh();
  }

  /**
   * Chooses a value, or none, and shows the numbers behind it.
   *
   * @param {Unit | null} unit
   */
  choose(unit) {
    this.unit = unit;
    for (const { index, view } of this.sections) view.mark(unit?.index === index ? unit : null);
    const isLogit = unit?.index === this.linear.index;
    this.linear.drawWeights(isLogit ? unit.channel : predictedClass(this.probabilities));
    this.markWindow(isLogit ? null : unit);
    this.inspector.show(this.model, this.layers, unit);
  }

  /**
   * Marks the window behind a value in the maps before: in that map that adds most to the value.
   *
   * @param {Unit | null} unit
   */
  markWindow(unit) {
    for (const { view } of this.maps) view.markWindow(null);
    if (!unit || unit.index === 1) return;
    const { index, row, column } = unit;
    let { channel } = unit;
    if (this.layers[index].kind === "conv") {
      const result = convolutionAt(this.model, this.layers, index, row, column, channel);
      channel = largestParts(channelSums(result.products, result.channels), 1).largest[0].index;
    }
    const { top, left, size } = windowAt(this.model, index, row, column);
    this.maps[index - 2].view.markWindow({ row: top, column: left, channel }, size);
  }

  /**
   * Shows the layers up to a step, or all of them.
   *
   * @param {import("./steps.js").Step | null} step
   * @param {number} frame Number of the value of the step.
   */
  showStep(step, frame) {
    const unit = step?.units[frame] ?? null;
    for (const section of this.sections) {
      const isLater = step !== null && section.index > step.index;
      const isCurrent = section.index === step?.index;
      section.element.classList.toggle("layer-later", isLater);
      section.element.classList.toggle("layer-current", isCurrent);
      section.element.inert = isLater;
    }
    for (const { view, index } of this.maps) {
      if (index !== step?.index || step.channel === null || !unit) view.draw(this.layers[index]);
      else view.drawPart(step.channel, numShown(unit, view.layer.shape[1]));
    }
    this.choose(unit);
  }

  /**
   * Scrolls until the layer of a step is seen below the inspector, or the map that is shown.
   *
   * @param {import("./steps.js").Step} step
   */
  scrollToStep({ index, units: [unit] }) {
    const section = this.sections.find((each) => each.index === index);
    const target = section && unit ? section.view.elementOf(unit) : this.element;
    const behavior = prefersStillness() ? "auto" : "smooth";
    target.scrollIntoView({ block: "nearest", behavior });
  }

  remove() {
    this.schemeQuery.removeEventListener("change", this.onScheme);
    this.player.leave();
    this.element.remove();
  }
}

/**
 * Returns the number of values of a growing map: up to this one in its first row, later whole rows.
 *
 * @param {Unit} unit
 * @param {number} width Of the map.
 */
function numShown({ row, column }, width) {
  return row === 0 ? column + 1 : (row + 1) * width;
}

/**
 * Returns the most probable class; the first where the network has diverged to NaN.
 *
 * @param {Float64Array} probabilities
 */
function predictedClass(probabilities) {
  return Math.max(probabilities.indexOf(Math.max(...probabilities)), 0);
}

/**
 * Returns the value in the middle of the first map; for logits, the first class.
 *
 * @param {Layer} layer
 */
function firstPlace({ shape }) {
  const [height, width] = shape.length === 3 ? shape : [1, 1];
  return { row: height >> 1, column: width >> 1, channel: 0 };
}

/**
 * @param {Model} model
 * @param {Layer[]} layers
 */
function signatureOf(model, layers) {
  const sizes = model.convolutions.map(({ size }) => size);
  return JSON.stringify([layers.map(({ name, shape }) => [name, shape]), sizes, model.classNames]);
}
