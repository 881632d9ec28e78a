// Choosing one value of a layer with mouse, pen, finger or keyboard.

/**
 * @typedef {import("./maps.js").Place} Place
 * @typedef {import("./maps.js").MapsView | import("./bars.js").BarsView} View
 */

/**
 * Calls back with each value that is pointed at, or that a key leads to.
 *
 * @param {View} view
 * @param {() => Place | null} currentPlace The chosen value, if it is one of this view.
 * @param {() => Place} firstPlace The value to start from with the keyboard.
 * @param {(place: Place | null, byKeyboard: boolean) => void} choose
 */
export function listenToChoices(view, currentPlace, firstPlace, choose) {
  const point = (/** @type {PointerEvent} */ event) => {
    const place = view.placeAt(event);
    const current = currentPlace();
    if (place && !(current && isSamePlace(place, current))) choose(place, false);
  };
  view.element.addEventListener("pointermove", point);
  view.element.addEventListener("pointerdown", point);
  view.element.addEventListener("focus", () => {
    if (view.element.matches(":focus-visible") && !currentPlace()) choose(firstPlace(), true);
  });
  view.element.addEventListener("keydown", (event) => {
    const place = view.move(currentPlace() ?? firstPlace(), event.key);
    if (!place && event.key !== "Escape") return;
    event.preventDefault();
    choose(place, true);
    if (place) view.elementOf(place).scrollIntoView({ block: "nearest" });
  });
}

/**
 * @param {Place} a
 * @param {Place} b
 */
function isSamePlace(a, b) {
  return a.row === b.row && a.column === b.column && a.channel === b.channel;
}
