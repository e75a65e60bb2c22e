// What lies beside the muscle: nerves, vessels and aponeuroses of a frame's label map.

import { blob } from './api.js';
import { labelPath } from './geometry.js';

/** The label map's values, as the service writes them. */
const VALUES = { nerve: 2, vessel: 3, aponeurosis: 4 };
/** What a needle keeps away from. */
export const AVOIDED = [VALUES.nerve, VALUES.vessel];

/** @typedef {{labels: Uint8Array, columns: number, paths: Record<string, string>}} Structures a frame's
 * labels, one a pixel, and each structure as an SVG path */

/** @type {Structures} */
export const NONE = { labels: new Uint8Array(0), columns: 1, paths: {} };

/** The structures of a label map. @param {string} path @returns {Promise<Structures>} */
export async function structuresOf(path) {
  const map = await createImageBitmap(await blob(path), { colorSpaceConversion: 'none' });
  const canvas = new OffscreenCanvas(map.width, map.height);
  const brush = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
  brush.drawImage(map, 0, 0);
  const pixels = brush.getImageData(0, 0, map.width, map.height).data;
  const labels = new Uint8Array(map.width * map.height);
  for (let i = 0; i < labels.length; i++) labels[i] = pixels[4 * i];
  const paths = Object.entries(VALUES).map(([name, value]) => [name, labelPath(labels, map.width, value)]);
  return { labels, columns: map.width, paths: Object.fromEntries(paths) };
}
