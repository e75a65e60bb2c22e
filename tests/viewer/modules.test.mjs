// The viewer's pure modules, by node's own test runner: node --test modules.test.mjs
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import * as g from '../../api/static/geometry.js';
import * as e from '../../api/static/edits.js';

const vectors = JSON.parse(readFileSync(new URL('geometry_vectors.json', import.meta.url), 'utf8'));
const point = ([column, row]) => ({ column, row });
const near = (got, wanted) => assert.ok(Math.abs(got - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted)), `${got} is not ${wanted}`);

test('pixel centres', () => {
  for (const v of vectors.pixel_centre) assert.deepEqual(g.pixelCentre(v.column, v.row), point(v.point));
});
test('boxes are half-open', () => {
  for (const { box: [column0, row0, column1, row1], point: p, holds } of vectors.box_holds)
    assert.equal(g.boxHolds({ column0, row0, column1, row1 }, point(p)), holds);
});
test('areas of polygons', () => {
  for (const v of vectors.polygon_area_px) near(g.polygonAreaPx(v.points), v.area_px);
});
test('millimetres', () => {
  for (const v of vectors.calibration) {
    near(g.areaMm2(v, v.area_px), v.area_mm2);
    const tissue = g.toTissue(v, point(v.image));
    near(tissue.lateral_mm, v.tissue_mm[0]);
    near(tissue.depth_mm, v.tissue_mm[1]);
    const back = g.toImage(v, tissue);
    near(back.column, v.image[0]);
    near(back.row, v.image[1]);
    near(g.distanceMm(v, point(v.image), point(v.other)), v.distance_mm);
  }
});
test('two points and their distance', () => {
  for (const v of vectors.from_two_points) {
    const scale = g.fromTwoPoints(point(v.a), point(v.b), v.distance_mm);
    if (v.mm_per_px === null) assert.equal(scale, null);
    else near(scale.row_mm_per_px, v.mm_per_px);
  }
});
test('a screen point finds its image point again at any zoom', () => {
  let view = g.fitView(660, 556, 900, 700, 1.25);
  view = g.zoomAt(view, 3.7, 120, 340);
  const p = g.toImagePoint(view, 120, 340);
  near(p.column * view.sx + view.x, 120);
  near(p.row * view.sy + view.y, 340);
  near(view.sy / view.sx, 1.25);
});
test('the pixel under a point stays inside the image', () => {
  assert.deepEqual(g.pixelIndex({ column: -3, row: 99.99 }, 10, 100), { column: 0, row: 99 });
  assert.deepEqual(g.pixelIndex({ column: 10, row: 100 }, 10, 100), { column: 9, row: 99 });
});
test('inside, and how far from the edge', () => {
  const square = [[0, 0], [100, 0], [100, 100], [0, 100]];
  const scale = { row_mm_per_px: 0.2, column_mm_per_px: 0.1 };
  assert.equal(g.inPolygon(square, { column: 50, row: 50 }), true);
  assert.equal(g.inPolygon(square, { column: 150, row: 50 }), false);
  near(g.edgeDistanceMm(scale, square, { column: 30, row: 50 }), 3);
  near(g.edgeDistanceMm(scale, square, { column: 50, row: 10 }), 2);
});
test('how far the nearest pixel of a structure is', () => {
  const labels = new Uint8Array(100 * 80);
  labels[40 * 100 + 60] = 3;
  labels[10 * 100 + 10] = 4;
  const scale = { row_mm_per_px: 0.2, column_mm_per_px: 0.1 };
  const map = { labels, columns: 100 };
  near(g.labelDistanceMm(scale, map, [2, 3], g.pixelCentre(60, 30), 5), 2);
  near(g.labelDistanceMm(scale, map, [2, 3], g.pixelCentre(90, 40), 5), 3);
  assert.equal(g.labelDistanceMm(scale, map, [2, 3], g.pixelCentre(60, 10), 5), Infinity);
  assert.equal(g.labelDistanceMm(scale, map, [2], g.pixelCentre(60, 40), 5), Infinity);
});
test('a thinned outline keeps its area', () => {
  const circle = Array.from({ length: 720 }, (_, i) => [
    200 + 100 * Math.cos((i * Math.PI) / 360), 200 + 80 * Math.sin((i * Math.PI) / 360),
  ]);
  const thin = g.simplify(circle, 1);
  assert.ok(thin.length < 60 && thin.length > 8, `${thin.length} points`);
  assert.ok(Math.abs(g.polygonAreaPx(thin) / g.polygonAreaPx(circle) - 1) < 0.02);
});
test('label runs become closed paths', () => {
  assert.equal(g.labelPath(Uint8Array.of(0, 2, 2, 0, 0, 2), 3, 2), 'M1 0h2v1h-2zM2 1h1v1h-1z');
});
test('a patch holds only what differs, and null for what goes', () => {
  const from = { a: 1, b: { x: 1, y: null }, c: [1], d: null, e: 5 };
  assert.deepEqual(e.difference(from, { a: 2, b: { x: 1 }, c: [1], d: undefined }), { a: 2, e: null });
  assert.deepEqual(
    e.difference({ patient: { id: 'A', weight_kg: 70 } }, { patient: { id: 'A', age_years: 5 } }),
    { patient: { weight_kg: null, age_years: 5 } },
  );
});
test('undo and redo', () => {
  const start = e.editsOf({ clicks: [{ column: 1, row: 2, positive: true }] });
  const history = new e.History(start);
  history.push({ clicks: [] });
  assert.deepEqual(history.undo(), start);
  assert.deepEqual(history.redo().clicks, []);
  assert.deepEqual(history.redo().clicks, []);
  history.undo();
  history.push({ sites: [] });
  assert.equal(history.future.length, 0);
});
