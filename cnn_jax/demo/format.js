// Numbers as text, so that numbers that are added up have the same decimals.

const SIGNIFICANT = 3; // Digits of the largest number, at least.
const [MIN_DECIMALS, MAX_DECIMALS] = [2, 9];

/**
 * Returns a function that writes numbers with the same decimals: at least two, and at
 * least three digits of the largest number.
 *
 * @param {Iterable<number>} numbers
 * @returns {(number: number) => string}
 */
export function formatterFor(numbers) {
  let largest = 0;
  for (const number of numbers) largest = Math.max(largest, Math.abs(number));
  const digitsBefore = largest > 0 && largest < Infinity ? Math.floor(Math.log10(largest)) + 1 : 1;
  const decimals = Math.min(Math.max(SIGNIFICANT - digitsBefore, MIN_DECIMALS), MAX_DECIMALS);
  return (number) => {
    const text = number.toFixed(decimals);
    return Number(text) === 0 ? "0" : withMinus(text);
  };
}

/**
 * Replaces the hyphen of a number by a minus sign, which is as wide as a plus sign.
 *
 * @param {number | string} number
 */
export function withMinus(number) {
  return String(number).replace("-", "−");
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
