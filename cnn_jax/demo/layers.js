// Draws the layers of the network.

/**
 * Shows the layers of one image: their names and shapes.
 *
 * @param {HTMLElement} container Receives the layers in place of earlier ones.
 * @param {import("./network.js").Model} model
 * @param {Uint8Array} image [height * width * channels], 0..255.
 * @param {import("./network.js").Result} result Of `forward` for this model and image.
 */
export function showLayers(container, model, image, result) {
  const list = document.createElement("ol");
  for (const { name, shape } of result.layers) {
    const item = document.createElement("li");
    item.textContent = `${name}: ${shape.join("x")}`;
    list.append(item);
  }
  container.replaceChildren(list);
}
