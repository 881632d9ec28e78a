// The training as a film: a slider from the random network to the trained one.

/**
 * @typedef {object} Film
 * @property {number[]} steps Ascending; the last is that of the trained network.
 * @property {Record<string, Float32Array>[]} frames Parameters by name, as `conv_1.kernel`: one for
 *   each step but the last, which is the network of the page itself.
 */

/**
 * Decodes the film of the page's data.
 *
 * @param {any} data Its `film` is what `film.py` builds, or null.
 * @returns {Film | null} Null where the page has no film.
 */
export function decodeFilm(data) {
  if (!data.film) return null;
  const frames = data.film.frames.map((/** @type {Record<string, Quantized>} */ frame) =>
    Object.fromEntries(Object.entries(frame).map(([name, array]) => [name, decodeArray(array)])),
  );
  return { steps: data.film.steps, frames };
}

/**
 * @typedef {object} Quantized
 * @property {number} scale
 * @property {string} levels Int8 in base64; a parameter is level * scale.
 */

/**
 * @param {Quantized} array
 * @returns {Float32Array}
 */
function decodeArray({ scale, levels }) {
  const signed = Int8Array.from(atob(levels), (letter) => letter.charCodeAt(0));
  return Float32Array.from(signed, (level) => level * scale);
}

/**
 * Shows a slider through the film, at its end at first.
 *
 * @param {HTMLElement} container Receives the slider in place of its children.
 * @param {Film} film
 * @param {(params: Record<string, Float32Array> | null, step: number) => void} onFrame Receives the
 *   parameters of a frame, or null for the network of the page, whenever the slider is moved.
 */
export function showFilm(container, { steps, frames }, onFrame) {
  const title = document.createElement("h2");
  title.textContent = "Training as a film";
  const words = document.createElement("p");
  words.className = "words";
  words.textContent =
    "A network starts with random weights, and each training step changes them a little. Move the " +
    "slider: the filters, the layers and the answer are those of the network at that step.";
  const slider = document.createElement("input");
  slider.type = "range";
  slider.max = String(frames.length);
  slider.value = slider.max;
  const label = document.createElement("label");
  label.append("From random to trained", slider);
  const stepText = document.createElement("p");
  stepText.setAttribute("aria-hidden", "true"); // A screen reader reads it as the slider's value.
  const update = () => {
    const text = describeStep(steps[slider.valueAsNumber]);
    stepText.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };
  slider.addEventListener("input", () => {
    update();
    onFrame(frames[slider.valueAsNumber] ?? null, steps[slider.valueAsNumber]);
  });
  update();
  container.replaceChildren(title, words, label, stepText);
}

/** @param {number} step */
function describeStep(step) {
  if (step === 0) return "Before training: random weights";
  return `After ${step.toLocaleString("en")} training ${step === 1 ? "step" : "steps"}`;
}
