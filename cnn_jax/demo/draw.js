// The board: strokes of a soft brush, or a picture on it.

import { context2d, newCanvas } from "./images.js";

const RADIUS = 1 / 24; // Of the brush, as a part of the board's height.
const SOFT = 0.35; // Part of the radius over which the brush fades.
const STEP = 0.2; // Distance of the brush's dots, as a part of its radius.

/**
 * @typedef {{x: number, y: number, width: number}} Point A dot of the brush: place, in pixels of the
 *   board, and width as a multiple of the usual one.
 */

/**
 * @typedef {object} Drawing What is on the board.
 * @property {Point[][]} strokes
 * @property {HTMLCanvasElement | null} picture Lies under the strokes.
 * @property {Blob} [file] The file of the picture.
 * @property {{image: Uint8Array, label: number, button: HTMLElement}} [example] The test image that
 *   the picture shows, its class, and the button that chose it.
 * @property {import("./preparation/prepare.js").Prepared} [prepared] What Python has made of the file.
 */

/** @type {Drawing} */
const EMPTY = { strokes: [], picture: null };

/** A canvas to write on, which remembers all of its drawings. */
export class Board {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(isFinished: boolean) => void} onChange Called after each change; while a stroke is
   *   being drawn with false.
   */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.context = context2d(canvas);
    this.onChange = onChange;
    /** @type {Drawing[]} */
    this.history = [EMPTY];
    /** @type {Point[] | null} The stroke that is being drawn. */
    this.stroke = null;
    this.useColours();
    canvas.addEventListener("pointerdown", (event) => this.startStroke(event));
    canvas.addEventListener("pointermove", (event) => this.continueStroke(event));
    canvas.addEventListener("pointerup", (event) => this.endStroke(event));
    canvas.addEventListener("pointercancel", (event) => this.endStroke(event));
  }

  /** What is on the board. */
  get drawing() {
    return this.history[this.history.length - 1];
  }

  get isEmpty() {
    return !this.drawing.picture && !this.drawing.strokes.length;
  }

  get canUndo() {
    return this.history.length > 1;
  }

  /** Takes ink and paper from the style, which follows the light or dark scheme, and redraws. */
  useColours() {
    const style = getComputedStyle(this.canvas);
    this.paper = style.getPropertyValue("--paper").trim();
    this.ink = style.getPropertyValue("--ink").trim();
    this.dot = drawDot(this.ink, this.paper, RADIUS * this.canvas.height);
    this.redraw();
  }

  /** Takes the last stroke or picture away, or brings back what was cleared. */
  undo() {
    if (this.canUndo) {
      this.history.pop();
      this.redraw();
      this.onChange(true);
    }
  }

  clear() {
    if (!this.isEmpty) {
      this.put(EMPTY);
    }
  }

  /**
   * Returns the pixels to prepare: those of a picture itself, or of the board.
   *
   * @returns {ImageData}
   */
  pixels() {
    const canvas = this.drawing.picture ?? this.canvas;
    return context2d(canvas).getImageData(0, 0, canvas.width, canvas.height);
  }

  /**
   * Returns the board as a picture file.
   *
   * @returns {Promise<Blob>}
   */
  toFile() {
    return new Promise((resolve) => {
      this.canvas.toBlob((file) => resolve(/** @type {Blob} */ (file)));
    });
  }

  /**
   * Returns where the board shows the pixels that `pixels` returns.
   *
   * @returns {{left: number, top: number, scale: number}} In pixels of the board.
   */
  placement() {
    const { picture } = this.drawing;
    return picture ? fit(picture, this.canvas) : { left: 0, top: 0, scale: 1 };
  }

  /** @param {Drawing} drawing Takes the place of what is on the board. */
  put(drawing) {
    this.history.push(drawing);
    this.redraw();
    this.onChange(true);
  }

  /** @param {PointerEvent} event */
  startStroke(event) {
    if (event.button !== 0 || !event.isPrimary) {
      return;
    }
    this.canvas.setPointerCapture(event.pointerId);
    const stroke = [this.pointOf(event)];
    const earlier = this.drawing.picture ? [] : this.drawing.strokes;
    this.history.push({ strokes: [...earlier, stroke], picture: null });
    this.redraw();
    this.stroke = stroke;
    this.onChange(false);
  }

  /** @param {PointerEvent} event */
  continueStroke(event) {
    if (!this.stroke || !event.isPrimary) {
      return;
    }
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) {
      const point = this.pointOf(each);
      this.drawLine(this.stroke[this.stroke.length - 1], point);
      this.stroke.push(point);
    }
    this.onChange(false);
  }

  /** @param {PointerEvent} event */
  endStroke(event) {
    if (this.stroke && event.isPrimary) {
      this.stroke = null;
      this.onChange(true);
    }
  }

  /**
   * @param {PointerEvent} event
   * @returns {Point}
   */
  pointOf(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - left) / width) * this.canvas.width,
      y: ((event.clientY - top) / height) * this.canvas.height,
      width: event.pointerType === "pen" ? 0.6 + 0.8 * event.pressure : 1,
    };
  }

  redraw() {
    const { canvas, context, drawing } = this;
    context.globalCompositeOperation = "source-over";
    context.fillStyle = this.paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (drawing.picture) {
      const { left, top, scale } = fit(drawing.picture, canvas);
      const { width, height } = drawing.picture;
      context.imageSmoothingEnabled = scale < 2; // Of a tiny picture every pixel is seen.
      context.drawImage(drawing.picture, left, top, scale * width, scale * height);
      context.imageSmoothingEnabled = true;
    }
    for (const stroke of drawing.strokes) {
      stroke.forEach((point, i) => {
        this.drawLine(stroke[Math.max(i - 1, 0)], point);
      });
    }
  }

  /**
   * Draws dots from one point to the next. Where they overlap, the strongest ink counts, so that a
   * soft edge stays soft.
   *
   * @param {Point} from
   * @param {Point} to
   */
  drawLine(from, to) {
    this.context.globalCompositeOperation = this.ink < this.paper ? "darken" : "lighten";
    const step = STEP * RADIUS * this.canvas.height;
    const count = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / step));
    for (let i = 1; i <= count; i++) {
      const [x, y, width] = [
        [from.x, to.x],
        [from.y, to.y],
        [from.width, to.width],
      ].map(([a, b]) => a + ((b - a) * i) / count);
      const side = width * this.dot.width;
      this.context.drawImage(this.dot, x - side / 2, y - side / 2, side, side);
    }
  }
}

/**
 * Draws the dot of a brush: ink that fades into the paper around it.
 *
 * @param {string} ink
 * @param {string} paper
 * @param {number} radius
 * @returns {HTMLCanvasElement}
 */
function drawDot(ink, paper, radius) {
  const side = 2 * Math.ceil(radius);
  const dot = newCanvas(side, side);
  const context = context2d(dot);
  const fade = context.createRadialGradient(side / 2, side / 2, 0, side / 2, side / 2, radius);
  fade.addColorStop(1 - SOFT, ink);
  fade.addColorStop(1, paper);
  context.fillStyle = fade;
  context.fillRect(0, 0, side, side);
  return dot;
}

/**
 * Returns where a picture lies if it is as large as fits into the middle of a canvas.
 *
 * @param {{width: number, height: number}} picture
 * @param {{width: number, height: number}} canvas
 * @returns {{left: number, top: number, scale: number}}
 */
function fit(picture, canvas) {
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const left = (canvas.width - scale * picture.width) / 2;
  return { left, top: (canvas.height - scale * picture.height) / 2, scale };
}
