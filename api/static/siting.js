// What a site would break at another place, as far as the picture tells: the service has the last word.

import * as g from './geometry.js';
import { sitesOn } from './plan.js';
import { AVOIDED } from './structures.js';
import { T } from './texts.js';

/**
 * @param {any} a the analysis @param {any} f the plan's frame @param {any} scale its calibration
 * @param {any} structures the nerves and vessels seen in it @param {Record<string, {value: number}>} policies
 * @param {number} number the site's @param {g.ImagePoint} at where it would be
 * @returns {string[]} a sentence each; empty where nothing is wrong
 */
export function violations(a, f, scale, structures, policies, number, at) {
  if (!f || !scale) return [];
  const policy = (/** @type {string} */ name) => policies?.[name]?.value ?? 0;
  const found = [];
  const polygon = f.contours.find((/** @type {any} */ c) => g.inPolygon(c, at));
  if (!polygon) found.push(T.plan.outside);
  else {
    const edge = g.edgeDistanceMm(scale, polygon, at);
    const margin = policy('site_margin_mm');
    if (edge < margin) found.push(T.plan.nearEdge(edge, margin));
  }
  const keep = policy('avoid_margin_mm');
  const near = g.labelDistanceMm(scale, structures, AVOIDED, at, keep);
  if (near < keep) found.push(T.plan.nearStructure(near, keep));
  const bone = Math.min(...(f.possible_bone ?? []).map((/** @type {any} */ b) => (g.inPolygon(b, at) ? 0 : g.edgeDistanceMm(scale, b, at))));
  if (bone < keep) found.push(T.plan.nearBone(bone));
  const spacing = policy('site_spacing_mm');
  for (const other of sitesOn(a, f.key)) {
    const apart = g.distanceMm(scale, other.at, at);
    if (other.number !== number && apart < spacing) found.push(T.plan.nearSite(other.number, apart, spacing));
  }
  return found;
}
