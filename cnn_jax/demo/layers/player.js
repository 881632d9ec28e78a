// Buttons that play the steps of one image through the network.

import { createElement } from "./elements.js";

/**
 * @typedef {import("./steps.js").Step} Step
 * @typedef {import("./panel.js").Unit} Unit
 */

const FRAME_MS = 70; // Between two values of a sliding window.
const PAUSE_MS = 3000; // Between two steps while playing: time to read the words.

/** Tells whether people prefer that nothing moves by itself. */
export function prefersStillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Shows step after step. Nothing slides where people prefer reduced motion. */
export class Player {
  /**
   * @param {() => Step[]} listSteps
   * @param {(step: Step | null, frame: number) => void} show Receives the step, or null for no
   *   steps at all, and the number of its value to show.
   * @param {(step: Step) => void} scrollTo
   */
  constructor(listSteps, show, scrollTo) {
    this.listSteps = listSteps;
    this.show = show;
    this.scrollTo = scrollTo;
    /** @type {Step[]} */
    this.steps = []; // None before the first one is shown.
    /** @type {number | null} */
    this.position = null;
    this.isPlaying = false;
    this.text = createElement("p", { class: "step-text", "aria-live": "polite" });
    this.backButton = this.createButton("Back", () => this.go(-1));
    this.nextButton = this.createButton("Next", () => this.go(1));
    this.playButton = this.createButton("Play", () => this.togglePlay());
    this.allButton = this.createButton("Show all", () => this.leave());
    const buttons = [this.backButton, this.nextButton, this.playButton, this.allButton];
    const row = createElement("div", { class: "step-buttons" }, ...buttons);
    const attributes = { class: "steps", role: "group", "aria-label": "Step by step" };
    this.element = createElement("div", attributes, row, this.text);
    this.updateButtons();
  }

  /**
   * @param {string} name
   * @param {() => void} press
   */
  createButton(name, press) {
    const button = createElement("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      // A disabled button would lose the focus.
      if (button.getAttribute("aria-disabled") !== "true") press();
    });
    return button;
  }

  /** Shows the last frame of the step again, for another image. */
  refresh() {
    if (this.position === null) return;
    this.steps = this.listSteps();
    clearTimeout(this.timer);
    this.isPlaying = false;
    this.showFrame(Infinity);
  }

  /**
   * Goes some steps forwards or backwards, and stops playing.
   *
   * @param {number} distance
   */
  go(distance) {
    this.isPlaying = false;
    this.start((this.position ?? -1) + distance);
  }

  /** Plays from this step on, or from the start after the last one; or pauses. */
  togglePlay() {
    this.isPlaying = !this.isPlaying;
    if (!this.isPlaying) {
      clearTimeout(this.timer);
      this.updateButtons();
      return;
    }
    const isAtEnd = this.position === this.steps.length - 1;
    this.start(isAtEnd || this.position === null ? 0 : this.position + 1);
  }

  /** Leaves the steps. */
  leave() {
    clearTimeout(this.timer);
    this.position = null;
    this.isPlaying = false;
    this.text.textContent = "";
    this.updateButtons();
    this.show(null, 0);
  }

  /** @param {number} position */
  start(position) {
    this.steps = this.listSteps();
    this.position = Math.min(Math.max(position, 0), this.steps.length - 1);
    const step = this.steps[this.position];
    this.text.textContent = `${this.position + 1} of ${this.steps.length}: ${step.text}`;
    this.showFrame(prefersStillness() ? Infinity : 0);
    this.scrollTo(step);
  }

  /** @param {number} frame Shows the last frame for any larger number. */
  showFrame(frame) {
    clearTimeout(this.timer);
    const position = this.position ?? 0;
    const step = this.steps[position];
    const last = step.units.length - 1;
    if (frame >= last && position === this.steps.length - 1) this.isPlaying = false;
    this.updateButtons();
    this.show(step, Math.min(frame, last));
    if (frame < last) this.timer = setTimeout(() => this.showFrame(frame + 1), FRAME_MS);
    else if (this.isPlaying) this.timer = setTimeout(() => this.start(position + 1), PAUSE_MS);
  }

  updateButtons() {
    this.playButton.textContent = this.isPlaying ? "Pause" : "Play";
    const isOff = this.position === null;
    const isAtEnd = !isOff && this.position === this.steps.length - 1;
    this.backButton.setAttribute("aria-disabled", String(isOff || this.position === 0));
    this.nextButton.setAttribute("aria-disabled", String(isAtEnd));
    this.allButton.setAttribute("aria-disabled", String(isOff));
  }
}
