// Shows an answer: bars for all classes, the digits of a number, and their boxes.

import { context2d, drawImage, newCanvas } from "./images.js";
import { probabilityOf } from "./reading.js";

/**
 * @typedef {import("./reading.js").Part} Part
 */

/**
 * Formats a probability as `--mode=predict` does.
 *
 * @param {number} probability 0..1.
 */
export function formatPercent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}

/** A bar for each class. */
export class Bars {
  /**
   * @param {HTMLElement} list Receives an item for each class.
   * @param {string[]} classNames
   */
  constructor(list, classNames) {
    this.rows = classNames.map((name) => {
      const [item, label, track, bar, percent] = ["li", "span", "span", "span", "span"].map((tag) =>
        document.createElement(tag),
      );
      label.className = "name";
      label.textContent = label.title = name;
      track.className = "track";
      bar.className = "bar";
      percent.className = "percent";
      track.append(bar);
      item.append(label, track, percent);
      list.append(item);
      return { item, bar, percent };
    });
  }

  /** @param {Part | null} part Null: nothing is drawn. */
  show(part) {
    this.rows.forEach(({ item, bar, percent }, k) => {
      const probability = part?.probabilities[k] ?? 0;
      item.classList.toggle("best", k === part?.best);
      bar.style.width = `${100 * probability}%`;
      percent.textContent = part ? formatPercent(probability) : "";
    });
  }
}

/**
 * Creates a button with an image.
 *
 * @param {Uint8Array} image
 * @param {number[]} shape [height, width, channels].
 * @param {string} caption Text below the image.
 * @param {string} description For screen readers.
 * @param {() => void} onClick
 * @returns {HTMLButtonElement}
 */
export function createImageButton(image, shape, caption, description, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "example";
  button.title = description;
  button.setAttribute("aria-label", description);
  const text = document.createElement("span");
  text.textContent = caption;
  button.append(drawImage(newCanvas(1, 1), image, shape), text);
  button.addEventListener("click", onClick);
  return button;
}

/**
 * Draws a box around each part of a drawing.
 *
 * @param {HTMLCanvasElement} canvas Lies over the board.
 * @param {Part[]} parts
 * @param {number} selected Index of the part whose box is solid.
 * @param {{left: number, top: number, scale: number}} placement Of the drawing, in pixels of
 *   `canvas`.
 */
export function drawBoxes(canvas, parts, selected, { left, top, scale }) {
  const context = context2d(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--accent");
  context.lineWidth = 4;
  parts.forEach(({ candidate }, i) => {
    if (candidate.box) {
      const [x0, y0, x1, y1] = candidate.box.map((place) => scale * place);
      context.setLineDash(i === selected ? [] : [8, 8]);
      context.strokeRect(left + x0, top + y0, x1 - x0, y1 - y0);
    }
  });
}

/**
 * Shows a button for each digit of a number; none for a single one.
 *
 * @param {HTMLElement} list
 * @param {Part[]} parts
 * @param {number} selected
 * @param {import("./network.js").Model} model
 * @param {(index: number) => void} onSelect
 */
export function showDigits(list, parts, selected, model, onSelect) {
  const focused = [...list.children].findIndex((item) => item.contains(document.activeElement));
  list.hidden = parts.length < 2;
  list.replaceChildren(
    ...(list.hidden ? [] : parts).map((part, i) => {
      const [name, percent] = [model.classNames[part.best], formatPercent(probabilityOf(part))];
      const button = createImageButton(
        part.candidate.image,
        model.imageShape,
        `${name}: ${percent}`,
        `Digit ${i + 1}: ${name}, ${percent}`,
        () => onSelect(i),
      );
      button.setAttribute("aria-pressed", String(i === selected));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  /** @type {HTMLElement | null | undefined} */ (
    list.children[focused]?.firstElementChild
  )?.focus();
}
