// The page: from a drawing to the image that the network sees, its answer and its layers.

import { Bars, createImageButton, drawBoxes, formatPercent, showDigits } from "./answers.js";
import { Board } from "./draw.js";
import { describeBoard, describeError, describeNetworks, describePreparation } from "./facts.js";
import { decodeFilm, showFilm } from "./film.js";
import { cropToShape, decodePicture, drawImage, newCanvas } from "./images.js";
import { showLayers } from "./layers/layers.js";
import { assembleModel, decodeCompressed, decodeModel, forward } from "./network.js";
import { prepare } from "./preparation/prepare.js";
import { readLine } from "./reading.js";
import { prepareByPython } from "./served.js";
import { receiveFiles } from "./upload.js";

/**
 * @typedef {import("./preparation/prepare.js").Prepared & {answers?: {label: string, probability: number}[]}}
 *   Prepared
 */

const data = JSON.parse(/** @type {string} */ (element("data").textContent));
/** @type {import("./network.js").Model[]} */
const models = data.models.map((/** @type {any} */ _, /** @type {number} */ i) =>
  decodeModel(data, i),
);
const isOfDigits = Boolean(data.conventions?.divide);

let answering = models; // All models, or the chosen one.
let selected = 0; // Index of the part of a number whose inside is shown.
let frame = 0; // Of the browser, in which a stroke will be read.

const bars = new Bars(element("bars"), data.class_names);
const board = new Board(sizedCanvas("board", 1), update);

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {string} id */
function canvasOf(id) {
  return /** @type {HTMLCanvasElement} */ (element(id));
}

/**
 * Returns a canvas that has room for a number, or else is square.
 *
 * @param {string} id
 * @param {number} scale Its pixels per pixel of the board.
 */
function sizedCanvas(id, scale) {
  const size = { width: (isOfDigits ? 480 : 320) * scale, height: 320 * scale };
  return Object.assign(canvasOf(id), size);
}

/**
 * Reads the board after a change; at most once a frame while a stroke is being drawn.
 *
 * @param {boolean} isFinished Whether no stroke is being drawn.
 */
function update(isFinished) {
  cancelAnimationFrame(frame);
  // A screen reader waits for the end of the stroke.
  element("reading").setAttribute("aria-busy", String(!isFinished));
  if (isFinished) {
    read();
  } else {
    frame = requestAnimationFrame(read);
  }
}

/** Prepares and reads what is on the board, and shows all of it. */
function read() {
  const { drawing } = board;
  /** @type {HTMLButtonElement} */ (element("undo")).disabled = !board.canUndo;
  /** @type {HTMLButtonElement} */ (element("clear")).disabled = board.isEmpty;
  element("hint").hidden = !board.isEmpty;
  for (const button of document.querySelectorAll(".images button")) {
    const isShown = button === drawing.example?.button;
    button.setAttribute("aria-pressed", String(isShown));
  }
  if (board.isEmpty) {
    showNothing("");
    return;
  }
  const prepared = drawing.prepared ?? prepareDrawing(drawing);
  if (prepared.error === "uneven" && data.is_served) {
    askPython(drawing);
  } else if (prepared.lines) {
    showReading(prepared, drawing.example?.label);
  } else {
    showNothing(describeError(prepared.error ?? "", data));
  }
}

/**
 * @param {import("./draw.js").Drawing} drawing
 * @returns {Prepared}
 */
function prepareDrawing(drawing) {
  const whole = { box: null, start: 0, stop: 1, cost: 0 };
  const asItIs = (/** @type {Uint8Array} */ image) => ({ lines: [[{ ...whole, image }]] });
  if (drawing.example) {
    return asItIs(drawing.example.image);
  }
  if (data.conventions?.find === "silhouette") {
    return { error: "uneven" }; // Only Python separates things from their ground.
  }
  if (!data.conventions) {
    return asItIs(cropToShape(drawing.picture ?? board.canvas, data.image_shape));
  }
  const { data: pixels, width, height } = board.pixels();
  return prepare(pixels, width, height, data.conventions, data.image_shape);
}

/**
 * Lets Python prepare what is on the board, and reads the board again when it has.
 *
 * @param {import("./draw.js").Drawing} drawing
 */
async function askPython(drawing) {
  if (board.stroke) {
    return; // It is asked when the stroke is finished.
  }
  showNothing("Python prepares the picture…");
  drawing.prepared = await prepareByPython(drawing.file ?? (await board.toFile()));
  if (board.drawing === drawing) {
    read();
  }
}

/** @param {string} reason Why there is no answer. */
function showNothing(reason) {
  element("label").textContent = "?";
  element("status").textContent = reason;
  bars.show(null);
  drawBoxes(canvasOf("boxes"), [], 0, board.placement());
  showDigits(element("digits"), [], 0, models[0], selectPart);
  drawImage(canvasOf("seen"), new Uint8Array(1), [1, 1, 1]);
  element("seen").setAttribute("aria-label", "Nothing yet");
  element("layers").hidden = true; // They keep what people have chosen in them.
}

/**
 * @param {Prepared} prepared
 * @param {number | undefined} trueClass Index of the class of a test image.
 */
function showReading(prepared, trueClass) {
  const lines = (prepared.lines ?? []).map((line) => readLine(line, answering));
  element("label").textContent = lines.map((line) => line.label).join("\n");
  element("status").textContent = describeReading(lines, prepared, trueClass);
  const parts = lines.flatMap((line) => line.parts);
  selected = Math.min(selected, parts.length - 1);
  const { candidate, best } = parts[selected];
  bars.show(parts[selected]);
  drawImage(canvasOf("seen"), candidate.image, data.image_shape);
  element("seen").setAttribute("aria-label", `An image that is read as ${data.class_names[best]}`);
  showDigits(element("digits"), parts, selected, models[0], selectPart);
  const boxed = parts.length > 1 || board.drawing.picture ? parts : [];
  const { left, top, scale } = board.placement();
  drawBoxes(canvasOf("boxes"), boxed, selected, { left: 2 * left, top: 2 * top, scale: 2 * scale });
  element("layers").hidden = false;
  const result = forward(answering[0], candidate.image);
  showLayers(element("layers"), answering[0], candidate.image, result);
}

/** @param {number} index Of a part of the number on the board. */
function selectPart(index) {
  selected = index;
  read();
}

/**
 * Returns the probability of each line, and remarks.
 *
 * @param {import("./reading.js").Line[]} lines
 * @param {Prepared} prepared
 * @param {number | undefined} trueClass
 */
function describeReading(lines, { isDoubtful, polarity, answers }, trueClass) {
  const remarks = lines.map(({ label, probability }) =>
    lines.length > 1 ? `${label}: ${formatPercent(probability)}` : formatPercent(probability),
  );
  if (isDoubtful || lines.some(({ probability }) => probability < data.low_probability)) {
    remarks.push(`unsure: perhaps no ${isOfDigits ? "digit" : "class of its training set"}`);
  }
  if (trueClass !== undefined) {
    const name = data.class_names[trueClass];
    remarks.push(name === lines[0].label ? "right" : `wrong: it is ${name}`);
  }
  if (polarity) {
    remarks.push(polarity);
  }
  if (answers) {
    const all = answers.map(({ label, probability }) => `${label}, ${formatPercent(probability)}`);
    remarks.push(`Python has prepared the picture, and answers ${all.join("; ")}`);
  }
  return remarks.join(" · ");
}

/** @param {File} file A picture that was dropped, pasted or chosen. */
async function openFile(file) {
  try {
    board.put({ strokes: [], picture: await decodePicture(file), file });
  } catch {
    if (!data.is_served) {
      showNothing("Not read: your browser does not know this format. Save it as JPEG or PNG.");
      return;
    }
    // Nothing to show, but Python knows more formats.
    board.put({ strokes: [], picture: newCanvas(1, 1), file, prepared: { error: "uneven" } });
  }
}

/** Shows the test images that can be clicked. */
async function showPictures() {
  const note = element("pictures-note");
  note.textContent = data.pictures_note;
  note.hidden = !data.pictures_note;
  const images = await Promise.all(
    data.pictures.map((/** @type {any} */ { image }) => decodeCompressed(image)),
  );
  for (const [i, { label, kind }] of data.pictures.entries()) {
    const image = images[i];
    const name = data.class_names[label];
    const picture = drawImage(newCanvas(1, 1), image, data.image_shape);
    const button = createImageButton(image, data.image_shape, name, `Test image of ${name}`, () =>
      board.put({ strokes: [], picture, example: { image, label, button } }),
    );
    element(kind).hidden = false;
    element(kind).querySelector(".images")?.append(button);
  }
}

/** Returns the models that answer, as people have chosen. */
function chosenModels() {
  const { value } = /** @type {HTMLSelectElement} */ (element("models"));
  return value === "all" ? models : [models[Number(value)]];
}

/** Lets people choose who answers, where there are several models. */
function showModels() {
  const choice = /** @type {HTMLSelectElement} */ (element("models"));
  choice.append(new Option(`all ${models.length}, by their mean probabilities`, "all"));
  for (const [index, { seed }] of data.models.entries()) {
    choice.append(new Option(`the network of seed ${seed}`, String(index)));
  }
  element("choice").hidden = models.length < 2;
  const note = element("layers-note");
  note.textContent = `Below are the layers of one of them, of seed ${data.models[0].seed}.`;
  const choose = () => {
    answering = chosenModels();
    note.hidden = answering.length < 2;
    read();
  };
  choice.addEventListener("change", choose);
  choose();
}

/** Shows the film of the first model, where the training took one. */
function showTraining() {
  const film = decodeFilm(data);
  if (film) {
    element("film").hidden = false;
    showFilm(element("film"), film, (params) => {
      answering = params ? [assembleModel(data, params)] : chosenModels();
      read();
    });
  }
}

/** Builds what depends on the data, and waits for people. */
async function start() {
  element("facts").textContent = describeNetworks(data);
  element("preparation").textContent = describePreparation(data);
  element("hint").textContent = describeBoard(data);
  showTraining();
  sizedCanvas("boxes", 2);
  showModels();
  element("undo").addEventListener("click", () => board.undo());
  element("clear").addEventListener("click", () => board.clear());
  document.addEventListener("keydown", (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
      event.preventDefault();
      board.undo();
    }
  });
  const input = /** @type {HTMLInputElement} */ (element("file"));
  receiveFiles(input, element("paper"), openFile);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    board.useColours();
    read();
  });
  await showPictures();
  // The page begins with an image, so that all of it can be seen at once.
  if (board.isEmpty) {
    /** @type {HTMLElement | null} */ (document.querySelector("#test button"))?.click();
  }
}

start();
