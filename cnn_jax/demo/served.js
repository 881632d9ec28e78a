// Asks Python, which serves the page, to prepare a picture.

import { decodeBytes } from "./network.js";

/**
 * Prepares a picture in any format that Pillow decodes, on any ground.
 *
 * @param {Blob} file
 * @returns {Promise<import("./preparation/prepare.js").Prepared & {answers?: {label: string, probability: number}[]}>}
 *   Also the answer of `--mode=predict` for each line.
 */
export async function prepareByPython(file) {
  let response;
  try {
    response = await fetch("prepare", { method: "POST", body: file });
  } catch {
    return { error: "cannot be prepared: Python does not answer. Start it again with --serve" };
  }
  if (!response.ok) {
    return { error: `cannot be prepared: ${(await response.text()).trim()}` };
  }
  const prepared = await response.json();
  for (const candidate of prepared.lines?.flat() ?? []) {
    candidate.image = decodeBytes(candidate.image);
  }
  return prepared;
}
