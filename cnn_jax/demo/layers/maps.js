// The maps of a layer, side by side. One of their values can be chosen with pointer or keyboard.

import { createElement, placeMarker } from "./elements.js";
import { createFilterPicture, drawFilter, drawMap, Picture } from "./tiles.js";

/**
 * @typedef {import("../network.js").Layer} Layer
 * @typedef {import("./colours.js").ColourScale} ColourScale
 * @typedef {{row: number, column: number, channel: number}} Place A value of a layer. A logit has
 *   row and column 0, and its class as channel.
 */

const MANY_MAPS = 32; // More maps than these are shown small, in a region that scrolls.

/** Moves by (row, column, channel) of the keys. */
const MAP_KEYS = new Map([
  ["ArrowUp", [-1, 0, 0]],
  ["ArrowDown", [1, 0, 0]],
  ["ArrowLeft", [0, -1, 0]],
  ["ArrowRight", [0, 1, 0]],
  ["PageUp", [0, 0, -1]],
  ["PageDown", [0, 0, 1]],
]);

/**
 * Returns the place that a key leads to, or null for any other key.
 *
 * Arrows move within a map, and from its left or right side to the neighbouring map. Page Up and
 * Page Down go to the same place of the neighbouring map; Home and End to the first and last map.
 *
 * @param {number[]} shape [height, width, channels].
 * @param {Place} place
 * @param {string} key Name of the key, as in `KeyboardEvent.key`.
 * @returns {Place | null}
 */
export function movePlace([height, width, channels], { row, column, channel }, key) {
  if (key === "Home") return { row, column, channel: 0 };
  if (key === "End") return { row, column, channel: channels - 1 };
  const move = MAP_KEYS.get(key);
  if (!move) return null;
  const across = channel * width + column + move[1] + move[2] * width;
  if (across < 0 || across >= channels * width) return { row, column, channel };
  return {
    row: Math.min(Math.max(row + move[0], 0), height - 1),
    column: across % width,
    channel: Math.floor(across / width),
  };
}

/** The maps of a convolution, with its filters, of an activation or of a pooling. */
export class MapsView {
  /**
   * @param {Layer} layer
   * @param {ColourScale} scale Of the values.
   * @param {string} label Name of the maps for screen readers.
   */
  constructor(layer, scale, label) {
    const [height, width, channels] = layer.shape;
    this.layer = layer;
    this.scale = scale;
    this.marker = createElement("div", { class: "marker" });
    this.windowMarker = createElement("div", { class: "marker" });
    this.element = createElement("div", { class: "maps", tabindex: 0, "aria-label": label });
    this.element.classList.toggle("maps-many", channels > MANY_MAPS);
    this.pictures = Array.from({ length: channels }, () => new Picture(width, height));
    this.maps = this.pictures.map(({ canvas }, channel) =>
      createElement("div", { class: "map", "data-channel": channel }, canvas),
    );
    this.cells = this.maps.map((map, channel) =>
      createElement("div", { class: "map-cell" }, String(channel + 1), map),
    );
    this.element.append(...this.cells);
  }

  /**
   * Adds the filters, each above its map.
   *
   * @param {number} size Height and width of a filter.
   * @param {number} channels Number of input channels.
   */
  addFilters(size, channels) {
    this.filterPictures = this.cells.map((cell) => {
      const picture = createFilterPicture(size, channels);
      picture.canvas.className = channels === 1 ? "filter filter-single" : "filter";
      cell.firstChild?.after(picture.canvas);
      return picture;
    });
  }

  /**
   * @param {import("../network.js").Convolution} convolution
   * @param {ColourScale} scale Of the weights.
   */
  drawFilters(convolution, scale) {
    this.filterPictures?.forEach((picture, filter) => {
      drawFilter(picture, convolution, filter, scale);
    });
  }

  /** @param {Layer} layer */
  draw(layer) {
    this.layer = layer;
    this.pictures.forEach((picture, channel) => {
      drawMap(picture, layer, channel, this.scale);
    });
  }

  /**
   * Draws only the first values of a single map, row by row.
   *
   * @param {number} channel
   * @param {number} numValues
   */
  drawPart(channel, numValues) {
    this.pictures.forEach((picture, each) => {
      drawMap(picture, this.layer, each, this.scale, each === channel ? numValues : 0);
    });
  }

  /**
   * Marks a value, or none.
   *
   * @param {Place | null} place
   */
  mark(place) {
    if (place) this.placeMarker(this.marker, place, 1);
    else this.marker.remove();
  }

  /**
   * Marks the window that a value of the next layer is computed from, or none.
   *
   * @param {Place | null} place First value of the window.
   * @param {number} [size] Height and width of the window.
   */
  markWindow(place, size = 1) {
    if (place) this.placeMarker(this.windowMarker, place, size);
    else this.windowMarker.remove();
  }

  /**
   * @param {HTMLElement} marker
   * @param {Place} place
   * @param {number} size
   */
  placeMarker(marker, { row, column, channel }, size) {
    const [height, width] = this.layer.shape;
    placeMarker(marker, this.maps[channel], {
      left: column / width,
      top: row / height,
      width: size / width,
      height: size / height,
    });
  }

  /**
   * Returns the place that a key leads to, or null for any other key.
   *
   * @param {Place} place
   * @param {string} key
   */
  move(place, key) {
    return movePlace(this.layer.shape, place, key);
  }

  /**
   * Returns the map, with its number and filter, of a value.
   *
   * @param {Place} place
   */
  elementOf(place) {
    return this.cells[place.channel];
  }

  /**
   * Returns the value under the pointer, or null.
   *
   * @param {PointerEvent} event
   * @returns {Place | null}
   */
  placeAt(event) {
    const map = /** @type {Element} */ (event.target).closest(".map");
    if (!(map instanceof HTMLElement)) return null;
    const [height, width] = this.layer.shape;
    const box = map.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    const column = Math.floor(((event.clientX - box.left) / box.width) * width);
    return {
      row: Math.min(Math.max(row, 0), height - 1),
      column: Math.min(Math.max(column, 0), width - 1),
      channel: Number(map.dataset.channel),
    };
  }
}
