// Points, boxes and millimetres: the twin of the service's imaging/geometry.py and
// imaging/calibration.py. Both are tested against tests/viewer/geometry_vectors.json.
//
// A pixel index is a pair of integers at a pixel's centre; an ImagePoint is continuous with 0,0 at
// the top-left corner of the top-left pixel, so the centre of pixel (c, r) is (c + 0.5, r + 0.5).

/** @typedef {{column: number, row: number}} ImagePoint continuous, 0,0 at the top-left corner */
/** @typedef {{lateral_mm: number, depth_mm: number}} TissuePoint */
/** @typedef {{column0: number, row0: number, column1: number, row1: number}} PixelBox half-open */
/** @typedef {{row_mm_per_px: number, column_mm_per_px: number}} Scale */
/** @typedef {[number, number][]} Polygon points as [column, row] */

export const SMALLEST_MM_PER_PX = 0.005;
export const LARGEST_MM_PER_PX = 2.0;

/** @param {number} column @param {number} row @returns {ImagePoint} the centre of a pixel index */
export const pixelCentre = (column, row) => ({ column: column + 0.5, row: row + 0.5 });

/**
 * The pixel index under a point, kept inside the image.
 * @param {ImagePoint} point @param {number} columns @param {number} rows
 * @returns {{column: number, row: number}}
 */
export function pixelIndex(point, columns, rows) {
  const inside = (/** @type {number} */ v, /** @type {number} */ n) =>
    Math.min(Math.max(Math.floor(v), 0), n - 1);
  return { column: inside(point.column, columns), row: inside(point.row, rows) };
}

/** @param {PixelBox} box @param {ImagePoint} p */
export const boxHolds = (box, p) =>
  box.column0 <= p.column && p.column < box.column1 && box.row0 <= p.row && p.row < box.row1;

/** @param {Polygon} points @returns {number} square pixels inside (shoelace formula) */
export function polygonAreaPx(points) {
  let total = 0;
  points.forEach(([c, r], i) => {
    const [c2, r2] = points[(i + 1) % points.length];
    total += c * r2 - c2 * r;
  });
  return Math.abs(total) / 2;
}

/** @param {Scale} scale @param {number} areaPx */
export const areaMm2 = (scale, areaPx) => areaPx * scale.row_mm_per_px * scale.column_mm_per_px;

/** @param {Scale} scale @param {ImagePoint} p @returns {TissuePoint} */
export const toTissue = (scale, p) => ({
  lateral_mm: p.column * scale.column_mm_per_px,
  depth_mm: p.row * scale.row_mm_per_px,
});

/** @param {Scale} scale @param {TissuePoint} p @returns {ImagePoint} */
export const toImage = (scale, p) => ({
  column: p.lateral_mm / scale.column_mm_per_px,
  row: p.depth_mm / scale.row_mm_per_px,
});

/** @param {Scale} scale @param {ImagePoint} a @param {ImagePoint} b */
export const distanceMm = (scale, a, b) =>
  Math.hypot(
    (a.column - b.column) * scale.column_mm_per_px,
    (a.row - b.row) * scale.row_mm_per_px,
  );

/**
 * The square-pixel scale of two points and their distance; null where the service would refuse it.
 * @param {ImagePoint} a @param {ImagePoint} b @param {number} mm @returns {Scale | null}
 */
export function fromTwoPoints(a, b, mm) {
  const lengthPx = Math.hypot(a.column - b.column, a.row - b.row);
  if (lengthPx < 10 || !(mm > 0)) return null;
  const scale = mm / lengthPx;
  if (!(scale >= SMALLEST_MM_PER_PX && scale <= LARGEST_MM_PER_PX)) return null;
  return { row_mm_per_px: scale, column_mm_per_px: scale };
}

/** @param {Polygon} polygon @param {ImagePoint} p @returns {boolean} even-odd rule */
export function inPolygon(polygon, p) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ci, ri] = polygon[i];
    const [cj, rj] = polygon[j];
    if (ri > p.row !== rj > p.row && p.column < ((cj - ci) * (p.row - ri)) / (rj - ri) + ci)
      inside = !inside;
  }
  return inside;
}

/**
 * The shortest way from a point to a polygon's edge in millimetres.
 * @param {Scale} scale @param {Polygon} polygon @param {ImagePoint} p
 */
export function edgeDistanceMm(scale, polygon, p) {
  const x = scale.column_mm_per_px;
  const y = scale.row_mm_per_px;
  let best = Infinity;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = [polygon[j][0] * x, polygon[j][1] * y];
    const [dx, dy] = [polygon[i][0] * x - ax, polygon[i][1] * y - ay];
    const [px, py] = [p.column * x - ax, p.row * y - ay];
    const along = dx || dy ? Math.min(1, Math.max(0, (px * dx + py * dy) / (dx * dx + dy * dy))) : 0;
    best = Math.min(best, Math.hypot(px - along * dx, py - along * dy));
  }
  return best;
}

/**
 * The shortest way from a point to a pixel of these labels in millimetres; Infinity beyond `withinMm`.
 * @param {Scale} scale @param {{labels: Uint8Array, columns: number}} map @param {number[]} values
 * @param {ImagePoint} p @param {number} withinMm
 */
export function labelDistanceMm(scale, { labels, columns }, values, p, withinMm) {
  const [reachC, reachR] = [withinMm / scale.column_mm_per_px, withinMm / scale.row_mm_per_px];
  const rows = labels.length / columns;
  let best = Infinity;
  for (let r = Math.max(0, Math.floor(p.row - reachR)); r < Math.min(rows, p.row + reachR); r++)
    for (let c = Math.max(0, Math.floor(p.column - reachC)); c < Math.min(columns, p.column + reachC); c++)
      if (values.includes(labels[r * columns + c])) best = Math.min(best, distanceMm(scale, p, pixelCentre(c, r)));
  return best <= withinMm ? best : Infinity;
}

/**
 * A closed polygon with fewer points, none further than `tolerance` pixels from the line it leaves.
 * @param {Polygon} polygon @param {number} tolerance @returns {Polygon}
 */
export function simplify(polygon, tolerance) {
  if (polygon.length < 8) return polygon.slice();
  let far = 0;
  let most = -1;
  polygon.forEach(([c, r], i) => {
    const d = Math.hypot(c - polygon[0][0], r - polygon[0][1]);
    if (d > most) [most, far] = [d, i];
  });
  const there = thin(polygon.slice(0, far + 1), tolerance);
  const back = thin([...polygon.slice(far), polygon[0]], tolerance);
  return [...there.slice(0, -1), ...back.slice(0, -1)];
}

/** Douglas and Peucker's way. @param {Polygon} line @param {number} tolerance @returns {Polygon} */
function thin(line, tolerance) {
  if (line.length < 3) return line;
  const [a, b] = [line[0], line[line.length - 1]];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
  let far = 0;
  let most = 0;
  for (let i = 1; i < line.length - 1; i++) {
    const [c, r] = line[i];
    const d = length
      ? Math.abs((b[0] - a[0]) * (r - a[1]) - (b[1] - a[1]) * (c - a[0])) / length
      : Math.hypot(c - a[0], r - a[1]);
    if (d > most) [most, far] = [d, i];
  }
  if (most <= tolerance) return [a, b];
  return [...thin(line.slice(0, far + 1), tolerance).slice(0, -1), ...thin(line.slice(far), tolerance)];
}

/**
 * The pixels of one label as an SVG path of row runs, edges on pixel corners.
 * @param {Uint8Array | Uint8ClampedArray} labels one value a pixel @param {number} columns
 * @param {number} value
 */
export function labelPath(labels, columns, value) {
  const rows = labels.length / columns;
  let path = '';
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      if (labels[r * columns + c] !== value) continue;
      const start = c;
      while (c < columns && labels[r * columns + c] === value) c++;
      path += `M${start} ${r}h${c - start}v1h${start - c}z`;
    }
  }
  return path;
}

/** Where the image lies in the viewport: screen = image × scale + offset, each way its own scale.
 * @typedef {{x: number, y: number, sx: number, sy: number}} View */

/**
 * The view that shows the whole image; `aspect` is a pixel's height over its width.
 * @param {number} columns @param {number} rows @param {number} width @param {number} height
 * @param {number} aspect @returns {View}
 */
export function fitView(columns, rows, width, height, aspect = 1) {
  const sx = Math.min(width / columns, height / (rows * aspect));
  const sy = sx * aspect;
  return { sx, sy, x: (width - columns * sx) / 2, y: (height - rows * sy) / 2 };
}

/** @param {View} view @param {number} x @param {number} y @returns {ImagePoint} */
export const toImagePoint = (view, x, y) => ({
  column: (x - view.x) / view.sx,
  row: (y - view.y) / view.sy,
});

/** The view zoomed by a factor with the screen point kept in place.
 * @param {View} view @param {number} factor @param {number} x @param {number} y @returns {View} */
export const zoomAt = (view, factor, x, y) => ({
  sx: view.sx * factor,
  sy: view.sy * factor,
  x: x - (x - view.x) * factor,
  y: y - (y - view.y) * factor,
});
