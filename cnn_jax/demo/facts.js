// Sentences about the network and its data.

/**
 * Describes the networks of the page in a line.
 *
 * @param {any} data As `content.py` builds it.
 */
export function describeNetworks(data) {
  const shapes = /** @type {number[][]} */ (Object.values(data.shapes));
  const count = shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0);
  const weights = `${count.toLocaleString("en")} weights and biases`;
  const [height, width] = data.image_shape;
  const several = data.models.length > 1;
  const networks = several ? `${data.models.length} networks of ${weights} each` : `${weights}`;
  return `${networks}, trained on ${data.dataset}: ${width}x${height} pixels in, ${data.class_names.length} classes out. All of it runs in this page.`;
}

/**
 * Says what people can do with the empty board.
 *
 * @param {any} data As `content.py` builds it.
 */
export function describeBoard({ conventions }) {
  if (!conventions) {
    return "Drop a picture here";
  }
  return conventions.divide ? "Write a digit, or a number" : "Draw here";
}

/**
 * Says how a drawing becomes the image that the network sees.
 *
 * @param {any} data As `content.py` builds it.
 */
export function describePreparation({ conventions, dataset, image_shape: [height, width] }) {
  const size = `${width}x${height}`;
  if (!conventions) {
    const colours = "The network learned from colours, and a drawing has none.";
    return `A picture is cropped and scaled to ${size} pixels. ${colours}`;
  }
  const thing = conventions.find === "ink" ? "ink" : "thing";
  const middle = conventions.centre_by_mass ? "centre of mass" : "middle";
  return (
    `The program finds the ${thing}, makes it light on black, scales its longer side to ` +
    `${conventions.box_size} pixels, and puts its ${middle} into the middle of ${size} pixels: so ` +
    (conventions.is_assumed
      ? `are the images of MNIST. Those of ${dataset}, that the network learned from, must be so, too.`
      : `are the images of ${dataset} that the network learned from.`)
  );
}

/**
 * Says what the page thinks of a drawing that it could not prepare.
 *
 * @param {string} error Of `prepare`.
 * @param {any} data As `content.py` builds it.
 */
export function describeError(error, data) {
  if (error !== "uneven") {
    return `Not read: it ${error}.`;
  }
  const reason =
    data.conventions.find === "silhouette"
      ? "to separate a thing from its ground needs Python"
      : "the ground of this picture is not of one colour";
  return `Not read: ${reason}. The page that --mode=demo --serve shows can read it.`;
}
