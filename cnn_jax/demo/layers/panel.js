// The numbers that one value is computed from, as tables.

import { createElement } from "./elements.js";
import { formatterFor, pluralize } from "./format.js";
import { channelSums, largestParts } from "./ledger.js";
import { activationAt, convolutionAt, convolutionOf, logitAt, poolAt } from "./unit.js";

/**
 * @typedef {import("../network.js").Model} Model
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("./maps.js").Place & {index: number}} Unit A value: its layer and its place.
 * @typedef {import("./colours.js").ColourScale} ColourScale
 * @typedef {{value: ColourScale, weight: ColourScale}} Scales Of a layer's values and weights.
 * @typedef {(value: number, row: number, column: number) => {background: string, text: string}}
 *   ColoursOf Colours of a number in a table.
 */

const MAX_CHANNELS = 3; // Input channels of a convolution shown with all their numbers.
const MAX_PRODUCTS = 8; // Products of a logit.
const PADDING_COLOURS = { background: "var(--padding)", text: "#000" };

/**
 * Returns the numbers that a value is computed from.
 *
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 * @param {Scales[]} allScales Of each layer.
 * @returns {Node[]}
 */
export function explainUnit(model, layers, unit, allScales) {
  const scales = allScales[unit.index];
  const inputScale = allScales[unit.index - 1].value;
  const { kind } = layers[unit.index];
  if (kind === "conv") return explainConvolution(model, layers, unit, scales, inputScale);
  if (kind === "activation") return explainActivation(model, layers, unit);
  if (kind === "pool") return explainPool(model, layers, unit, inputScale);
  return explainLogit(model, layers, unit);
}

/**
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 * @param {Scales} scales
 * @param {ColourScale} inputScale Of the values of the layer before.
 */
function explainConvolution(model, layers, unit, scales, inputScale) {
  const { index, row, column, channel } = unit;
  const input = layers[index - 1];
  const result = convolutionAt(model, layers, index, row, column, channel);
  const { channels, products, sum, bias, value } = result;
  const sums = channelSums(products, channels);
  const { largest, numRest, rest } = largestParts(sums, MAX_CHANNELS);
  const format = formatterFor([...products, ...sums, sum, bias, value]);
  /** @type {[string, number][]} */
  const rows = channels === 1 ? [] : largest.map((p) => [nameChannel(input, p.index), p.part]);
  if (numRest) rows.push([`the other ${pluralize(numRest, "channel")}`, rest]);
  rows.push([`sum of ${pluralize(products.length, "product")}`, sum]);
  rows.push(["bias", bias], ["value", value]);
  const coloursOf = input.kind === "image" ? greyColours : coloursIn(inputScale);
  const windowColours = coloursInside(input, result, coloursOf);
  const groups = largest.map((p) =>
    productTables(nameChannel(input, p.index), result, p.index, format, windowColours, scales),
  );
  return [ledgerTable(rows, format), ...groups];
}

/**
 * Returns the window, the weights and the products of one input channel.
 *
 * @param {string} name Of the channel.
 * @param {ReturnType<typeof convolutionAt>} result
 * @param {number} channel
 * @param {(number: number) => string} format Of the products.
 * @param {ColoursOf} windowColours
 * @param {Scales} scales
 */
function productTables(name, result, channel, format, windowColours, scales) {
  const { size, channels } = result;
  const [window, kernel, products] = [result.window, result.kernel, result.products].map((all) =>
    all.filter((_, i) => i % channels === channel),
  );
  return createElement(
    "div",
    { class: "unit-group", role: "group", "aria-label": name },
    ...(channels > 1 ? [createElement("p", {}, `${name}:`)] : []),
    numberTable("window", window, size, formatterFor(result.window), windowColours),
    createElement("span", {}, "×"),
    numberTable("filter", kernel, size, formatterFor(result.kernel), coloursIn(scales.weight)),
    createElement("span", {}, "="),
    numberTable("products", products, size, format, coloursIn(scales.value)),
  );
}

/**
 * Returns the colours of a window, whose part in the padding is grey.
 *
 * @param {Layer} input
 * @param {{top: number, left: number}} window
 * @param {ColoursOf} coloursOf Of the values of the input.
 * @returns {ColoursOf}
 */
function coloursInside({ shape: [height, width] }, { top, left }, coloursOf) {
  return (value, row, column) => {
    const [y, x] = [top + row, left + column];
    const isInside = y >= 0 && y < height && x >= 0 && x < width;
    return isInside ? coloursOf(value, row, column) : PADDING_COLOURS;
  };
}

/**
 * @param {Layer} input
 * @param {number} channel
 */
function nameChannel({ name, shape }, channel) {
  if (name !== "image") return `map ${channel + 1} of ${name}`;
  return shape[2] === 3 ? ["red", "green", "blue"][channel] : `channel ${channel + 1}`;
}

/**
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 */
function explainActivation(model, layers, { index, row, column, channel }) {
  const { input, value } = activationAt(layers, index, row, column, channel);
  const format = formatterFor([input, value]);
  const rows = [
    [`${layers[index - 1].name}, same place`, input],
    [describeActivation(model.activation, input), value],
  ];
  return [ledgerTable(rows, format)];
}

/**
 * @param {string} activation
 * @param {number} input
 */
function describeActivation(activation, input) {
  if (activation === "sigmoid") return "sigmoid: 1 / (1 + exp(-value))";
  if (input > 0) return "positive: stays";
  return activation === "relu" ? "not positive: becomes 0" : "not positive: 0.01 x value";
}

/**
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 * @param {ColourScale} inputScale Of the values of the layer before.
 */
function explainPool(model, layers, { index, row, column, channel }, inputScale) {
  const { top, left, window, winner, value } = poolAt(model, layers, index, row, column, channel);
  const format = formatterFor(window);
  const name = layers[index - 1].name;
  const table = numberTable(`window of ${name}`, window, 2, format, coloursIn(inputScale));
  const place = `row ${top + (winner >> 1) + 1}, column ${left + (winner & 1) + 1}`;
  if (convolutionOf(model, layers[index]).pool === "max") {
    table.querySelectorAll("td")[winner].className = "winner";
    return [ledgerTable([[`largest of four: ${place}`, value]], format), table];
  }
  const sum = window.reduce((a, b) => a + b);
  return [
    ledgerTable(
      [
        ["sum of four", sum],
        ["mean: sum / 4", value],
      ],
      formatterFor([sum]),
    ),
    table,
  ];
}

/**
 * @param {Model} model
 * @param {Layer[]} layers
 * @param {Unit} unit
 */
function explainLogit(model, layers, unit) {
  const input = layers[unit.index - 1];
  const { products, kernel, sum, bias, value } = logitAt(model, layers, unit.channel);
  const { largest, numRest, rest } = largestParts(products, MAX_PRODUCTS);
  const format = formatterFor([...largest.map(({ part }) => part), rest, sum, bias, value]);
  const [formatValue, formatWeight] = [input.values, kernel].map(formatterFor);
  const [, width, channels] = input.shape;
  const rows = largest.map(({ index, part }) => {
    const [cell, channel] = [Math.floor(index / channels), index % channels];
    const place = `map ${channel + 1}, row ${Math.floor(cell / width) + 1}, column ${(cell % width) + 1}`;
    return [`${place}: ${formatValue(input.values[index])} x ${formatWeight(kernel[index])}`, part];
  });
  if (numRest) rows.push([`the other ${pluralize(numRest, "product")}`, rest]);
  rows.push(["sum of value x weight", sum], ["bias", bias], ["logit", value]);
  return [
    createElement("p", {}, `Values of ${input.name} times the class's weights:`),
    ledgerTable(rows, format),
  ];
}

/**
 * Returns a table of numbers that add up to its last ones.
 *
 * @param {(string | number)[][]} rows Text and number of each row.
 * @param {(number: number) => string} format
 */
function ledgerTable(rows, format) {
  const elements = rows.map(([text, number]) => {
    const title = createElement("th", { scope: "row" }, String(text));
    return createElement("tr", {}, title, createElement("td", {}, format(Number(number))));
  });
  return createElement("table", { class: "ledger" }, createElement("tbody", {}, ...elements));
}

/**
 * Returns a square table of coloured numbers.
 *
 * @param {string} caption
 * @param {ArrayLike<number>} values Row by row.
 * @param {number} size Number of rows and columns.
 * @param {(number: number) => string} format
 * @param {ColoursOf} coloursOf
 */
function numberTable(caption, values, size, format, coloursOf) {
  const body = createElement("tbody");
  for (let row = 0; row < size; row++) {
    const cells = Array.from({ length: size }, (_, column) => {
      const value = values[row * size + column];
      const cell = createElement("td", {}, format(value));
      const { background, text } = coloursOf(value, row, column);
      cell.style.backgroundColor = background;
      cell.style.color = text;
      return cell;
    });
    body.append(createElement("tr", {}, ...cells));
  }
  return createElement("table", { class: "numbers" }, createElement("caption", {}, caption), body);
}

/** @param {ColourScale} scale */
function coloursIn(scale) {
  return (/** @type {number} */ value) => scale.cssColours(value);
}

/**
 * Returns the colours of a pixel, from black to white.
 *
 * @param {number} value 0..1.
 */
function greyColours(value) {
  const level = Math.round(255 * value);
  return { background: `rgb(${level} ${level} ${level})`, text: value > 0.46 ? "#000" : "#fff" };
}
