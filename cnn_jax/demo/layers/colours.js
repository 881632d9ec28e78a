// The diverging colour scale: red is positive, blue is negative, zero is neutral.
//
// Blue and red look different to nearly everybody, also to people who confuse red and green. The
// colours are CSS variables, because a dark page needs a dark zero.

const COLOUR_STEPS = 256; // Colours on each side of zero.
// CSS variables and their places between -limit and limit. Near zero the colours change faster, since
// most values are small.
const COLOUR_STOPS = [
  ["--negative-2", -1],
  ["--negative-1", -0.4],
  ["--zero", 0],
  ["--positive-1", 0.4],
  ["--positive-2", 1],
];
const PERCENTILE = 0.995; // A few huge values would leave the others no colour.
const BINS = 1000; // Of the histogram that the percentile is read from.
const ROUND = [1, 1.5, 2, 3, 4, 5, 6, 8, 10]; // Times a power of ten: the ends of colour scales.

/** Colours of the values from -limit to limit. Values beyond have the last colours. */
export class ColourScale {
  /** @param {Element} element Has the CSS variables, each `#rrggbb`. */
  constructor(element) {
    this.element = element;
    this.limit = 1;
    this.bytes = new Uint8ClampedArray(4 * (2 * COLOUR_STEPS + 1)).fill(255);
    this.pixels = new Uint32Array(this.bytes.buffer);
    this.readColours();
  }

  /** Reads the colours, again when the colour scheme of the page has changed. */
  readColours() {
    const style = getComputedStyle(this.element);
    const stops = COLOUR_STOPS.map(([name, place]) => ({
      place: Number(place),
      colour: parseColour(style.getPropertyValue(String(name)).trim()),
    }));
    for (let i = 0; i <= 2 * COLOUR_STEPS; i++) {
      const place = i / COLOUR_STEPS - 1;
      const next = Math.max(
        1,
        stops.findIndex((stop) => stop.place >= place),
      );
      const [from, to] = [stops[next - 1], stops[next]];
      const share = (place - from.place) / (to.place - from.place);
      from.colour.forEach((byte, c) => {
        this.bytes[4 * i + c] = byte + (to.colour[c] - byte) * share;
      });
    }
  }

  /** @param {number} value */
  indexOf(value) {
    const index = COLOUR_STEPS + Math.round((value / this.limit) * COLOUR_STEPS);
    return Math.min(Math.max(index, 0), 2 * COLOUR_STEPS);
  }

  /**
   * Returns the colour of a value as a pixel of a canvas.
   *
   * @param {number} value
   */
  pixelOf(value) {
    return this.pixels[this.indexOf(value)];
  }

  /**
   * Returns the colour of a value and that of text on it: black or white, whichever differs more.
   *
   * @param {number} value
   */
  cssColours(value) {
    const start = 4 * this.indexOf(value);
    const [red, green, blue] = this.bytes.slice(start, start + 3);
    const luminance = 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2;
    // At 18 % of the luminance of white, black and white have the same contrast.
    const text = luminance > 0.18 * 255 ** 2.2 ? "#000" : "#fff";
    return { background: `rgb(${red} ${green} ${blue})`, text };
  }
}

/**
 * Returns the red, green and blue of `#rrggbb`, 0..255.
 *
 * @param {string} text
 */
function parseColour(text) {
  return [1, 3, 5].map((start) => Number.parseInt(text.slice(start, start + 2), 16));
}

/**
 * Returns the end of a colour scale: a round number that is at least a percentile of the magnitudes.
 *
 * Because it is round, it seldom changes from one stroke to the next.
 *
 * @param {Float32Array} values
 */
export function scaleLimit(values) {
  const largest = percentileOfMagnitudes(values);
  if (!(largest > 0 && largest < Infinity)) return 1;
  const power = 10 ** Math.floor(Math.log10(largest));
  const factor = ROUND.find((each) => each * power >= largest) ?? 10;
  return Number((factor * power).toPrecision(2));
}

/**
 * Returns the percentile, rounded up to the end of its bin.
 *
 * @param {Float32Array} values
 */
function percentileOfMagnitudes(values) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const counts = new Uint32Array(BINS);
  for (const value of values) {
    counts[Math.min(Math.floor((Math.abs(value) / largest) * BINS), BINS - 1)]++;
  }
  let [bin, numBelow] = [0, counts[0]];
  while (numBelow < PERCENTILE * values.length && bin < BINS - 1) numBelow += counts[++bin];
  return (largest * (bin + 1)) / BINS;
}
