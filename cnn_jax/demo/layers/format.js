// Numbers as text, so that numbers that are added up have the same decimals.

const SIGNIFICANT = 3; // Digits of the largest number, at least.
const MIN_DECIMALS = 2;
const MAX_DIGITS = 7; // Before or behind the point. Longer numbers get an exponent.

/**
 * Returns a function that writes numbers with the same decimals: at least two, and at least three
 * digits of the largest number.
 *
 * @param {Iterable<number>} numbers
 * @returns {(number: number) => string}
 */
export function formatterFor(numbers) {
  let largest = 0;
  for (const number of numbers) largest = Math.max(largest, Math.abs(number));
  const digitsBefore = largest > 0 && largest < Infinity ? Math.floor(Math.log10(largest)) + 1 : 1;
  const decimals = Math.max(SIGNIFICANT - digitsBefore, MIN_DECIMALS);
  const isLong = Math.max(digitsBefore, decimals) > MAX_DIGITS;
  return (number) => {
    const text = isLong ? number.toExponential(SIGNIFICANT - 1) : number.toFixed(decimals);
    return Number(text) === 0 ? "0" : withMinus(text);
  };
}

/**
 * Replaces the hyphens of a number by minus signs, which are as wide as a plus sign.
 *
 * @param {number | string} number
 */
export function withMinus(number) {
  return String(number).replaceAll("-", "−");
}

/**
 * Returns `1 filter` or `8 filters`.
 *
 * @param {number} count
 * @param {string} noun
 */
export function pluralize(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
