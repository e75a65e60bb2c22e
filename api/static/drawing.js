// What is drawn on a frame, as SVG in image pixels. Sizes in screen pixels are divided by the zoom.

import { s } from './dom.js';
import { T, number } from './texts.js';

/** @typedef {import('./geometry.js').Polygon} Polygon */
/** @typedef {import('./geometry.js').ImagePoint} ImagePoint */
/** @typedef {import('./geometry.js').Scale} Scale */
/** @typedef {{number: number, at: ImagePoint, text: string, name: string, bad: boolean,
 *   handle: boolean}} Site */

/** @param {Polygon} polygon @returns {string} */
export const polygonPath = (polygon) =>
  polygon.length ? `M${polygon.map(([c, r]) => `${+c.toFixed(2)} ${+r.toFixed(2)}`).join('L')}Z` : '';

/** @param {Polygon[]} polygons @param {boolean} doubtful */
export const muscle = (polygons, doubtful) =>
  s('g.muscle', { 'data-doubtful': doubtful }, [
    s('path.fill', { d: polygons.map(polygonPath).join('') }),
    s('path.halo', { d: polygons.map(polygonPath).join('') }),
    s('path.edge', { d: polygons.map(polygonPath).join('') }),
  ]);

/**
 * Text at a point, the same size on screen at any zoom.
 * @param {ImagePoint} at @param {string} text @param {number} k image pixels in one screen pixel
 * @param {number} [dx] @param {number} [dy] @param {string} [anchor]
 */
export const label = (at, text, k, dx = 0, dy = 0, anchor = 'start') =>
  s(
    'text.label',
    {
      x: at.column + dx * k,
      y: at.row + dy * k,
      'font-size': 13 * k,
      'stroke-width': 3 * k,
      'text-anchor': anchor,
    },
    text,
  );

/**
 * Numbered injection sites; words that would run into a neighbour's stand a line lower.
 * @param {Site[]} all @param {number} k
 */
export function sites(all, k) {
  /** @type {{column: number, row: number, half: number}[]} */
  const taken = [];
  return all.map((one) => {
    const place = { column: one.at.column, row: one.at.row + 27 * k, half: 4.2 * one.text.length * k };
    while (one.text && taken.some((t) => Math.abs(t.row - place.row) < 15 * k && Math.abs(t.column - place.column) < t.half + place.half))
      place.row += 16 * k;
    taken.push(place);
    return site(one, (place.row - one.at.row) / k, k);
  });
}

/**
 * A numbered injection site.
 * @param {Site} site @param {number} down where its words stand, in screen pixels below it
 * @param {number} k
 */
function site({ number: n, at, text, name, bad, handle }, down, k) {
  const radius = 11 * k;
  const mark = s(
    'g.site',
    {
      'data-handle': handle ? 'site' : null,
      'data-index': n,
      'data-bad': bad,
      tabindex: handle ? 0 : null,
      role: handle ? 'button' : 'img',
      'aria-label': name,
    },
    s('circle.target', { cx: at.column, cy: at.row, r: 22 * k }),
    s('circle.halo', { cx: at.column, cy: at.row, r: radius }),
    s('circle.edge', { cx: at.column, cy: at.row, r: radius }),
    s('circle.dot', { cx: at.column, cy: at.row, r: 1.6 * k }),
  );
  return [mark, s('g', { 'aria-hidden': true }, label(at, String(n), k, -14, -10, 'end'), text ? label(at, text, k, 0, down, 'middle') : null)];
}

/** @param {ImagePoint} from @param {ImagePoint} to */
export const needle = (from, to) =>
  s('g.needle', null, [
    s('line.halo', { x1: from.column, y1: from.row, x2: to.column, y2: to.row }),
    s('line.edge', { x1: from.column, y1: from.row, x2: to.column, y2: to.row }),
  ]);

/** @param {{column: number, row: number, positive: boolean}} click @param {number} k */
export function click({ column, row, positive }, k) {
  const [c, r, a] = [column + 0.5, row + 0.5, 5 * k];
  return s(
    'g.click',
    { 'data-positive': positive },
    s('circle', { cx: c, cy: r, r: 8 * k }),
    s('path', { d: `M${c - a} ${r}h${2 * a}${positive ? `M${c} ${r - a}v${2 * a}` : ''}` }),
  );
}

/**
 * Handles on an outline's points.
 * @param {Polygon} polygon @param {number} k
 */
export const nodes = (polygon, k) =>
  s('g.nodes', null, [
    s('path.edge', { d: polygonPath(polygon) }),
    ...polygon.map(([c, r], i) =>
      s(
        'g.node',
        {
          'data-handle': 'node',
          'data-index': i,
          tabindex: 0,
          role: 'button',
          'aria-label': T.picture.node(i + 1, polygon.length, Math.round(c), Math.round(r)),
        },
        s('circle.target', { cx: c, cy: r, r: 16 * k }),
        s('circle.edge', { cx: c, cy: r, r: 5 * k }),
      ),
    ),
  ]);

/** Two points and the line between them.
 * @param {ImagePoint[]} points @param {string} text @param {number} k */
export const ruler = (points, text, k) =>
  s('g.ruler', null, [
    points.length === 2
      ? s('line.edge', {
          x1: points[0].column,
          y1: points[0].row,
          x2: points[1].column,
          y2: points[1].row,
        })
      : null,
    ...points.map((p, i) =>
      s(
        'g.node',
        {
          'data-handle': 'ruler',
          'data-index': i,
          tabindex: 0,
          role: 'button',
          'aria-label': T.picture.rulerPoint(i + 1, Math.round(p.column), Math.round(p.row)),
        },
        s('circle.target', { cx: p.column, cy: p.row, r: 16 * k }),
        s('circle.edge', { cx: p.column, cy: p.row, r: 5 * k }),
      ),
    ),
    points.length === 2 ? label(points[1], text, k, 10, -8) : null,
  ]);

/**
 * Millimetre marks down the left and along the bottom edge, numbered in centimetres.
 * @param {Scale} scale @param {number} columns @param {number} rows @param {number} k
 */
export function marks(scale, columns, rows, k) {
  const { row_mm_per_px: down, column_mm_per_px: across } = scale;
  const step = 10 / down > 26 * k ? 5 : 10;
  /** @type {any[]} */
  const drawn = [];
  let d = '';
  for (let mm = 0; mm <= rows * down; mm += step) {
    const y = mm / down;
    d += `M0 ${y}h${(mm % 10 ? 5 : 11) * k}`;
    if (mm && mm % 10 === 0 && (10 / down > 22 * k || mm % 50 === 0) && y < rows - 20 * k)
      drawn.push(label({ column: 0, row: y }, number(mm / 10, 0), k, 14, 4));
  }
  for (let mm = 0; mm <= columns * across; mm += step)
    d += `M${mm / across} ${rows}v${-(mm % 10 ? 5 : 11) * k}`;
  return s('g.scale', { 'aria-hidden': true }, s('path.halo', { d }), s('path.edge', { d }), drawn);
}

/** Lines 10 mm apart. @param {Scale} scale @param {number} columns @param {number} rows */
export function grid(scale, columns, rows) {
  let d = '';
  for (let y = 10 / scale.row_mm_per_px; y < rows; y += 10 / scale.row_mm_per_px)
    d += `M0 ${y}H${columns}`;
  for (let x = 10 / scale.column_mm_per_px; x < columns; x += 10 / scale.column_mm_per_px)
    d += `M${x} 0V${rows}`;
  return s('path.grid', { d, 'aria-hidden': true });
}

/** The keyboard's crosshair. @param {ImagePoint} at @param {number} k */
export const crosshair = (at, k) =>
  s('g.crosshair', { 'aria-hidden': true }, [
    s('path.halo', { d: cross(at, k) }),
    s('path.edge', { d: cross(at, k) }),
  ]);

/** @param {ImagePoint} at @param {number} k */
const cross = ({ column: c, row: r }, k) =>
  `M${c - 18 * k} ${r}h${12 * k}m${12 * k} 0h${12 * k}M${c} ${r - 18 * k}v${12 * k}m0 ${12 * k}v${12 * k}`;
