// Creates elements of the page.

/**
 * Creates an element.
 *
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function createElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Puts a marker around a part of its parent.
 *
 * @param {HTMLElement} marker
 * @param {HTMLElement} parent
 * @param {{left: number, top: number, width: number, height: number}} part In widths and heights of
 *   the parent.
 */
export function placeMarker(marker, parent, part) {
  if (marker.parentNode !== parent) parent.append(marker);
  for (const [side, share] of Object.entries(part)) {
    marker.style.setProperty(side, `${100 * share}%`);
  }
}
