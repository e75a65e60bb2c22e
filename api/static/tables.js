// What the tables hold and lack, and the model card.

import { get } from './api.js';
import { h, put, field, settle } from './dom.js';
import { reference } from './reference.js';
import { T, number } from './texts.js';
import { modelCard } from './understand.js';

/** @param {any} row */
const rangeOf = (row) => {
  const pair = row.units ?? (row.units_min === undefined ? null : [row.units_min, row.units_max]);
  const perKg = row.units_per_kg ?? (row.units_per_kg_min === undefined ? null : [row.units_per_kg_min, row.units_per_kg_max]);
  if (pair?.[0] !== null && pair?.[0] !== undefined) return `${number(pair[0], 2)}–${number(pair[1], 2)} U`;
  if (perKg?.[0] !== null && perKg?.[0] !== undefined) return `${number(perKg[0], 2)}–${number(perKg[1], 2)} U/kg`;
  return '';
};

/** @param {string} name @param {string[]} heads @param {any[][]} rows */
const table = (name, heads, rows) =>
  h('div.wide', { tabindex: 0, role: 'region', 'aria-label': name }, h('table', null, h('thead', null, h('tr', null, heads.map((x) => h('th', { scope: 'col' }, x)))),
    h('tbody', null, rows.map((cells) => h('tr', null, cells.map((c) => h('td', null, c)))))));

/** @param {HTMLElement} root */
export async function referencePage(root) {
  const [known, models] = await Promise.all([reference(), get('/models').catch(() => null)]);
  const t = known.tables;
  const rows = t.dose_rows ?? [];
  const usable = (/** @type {any} */ r) => rangeOf(r) !== '' && r.grade !== 'missing';
  const line = (/** @type {any} */ r) => [r.product, T.indications[r.indication] ?? r.indication.replaceAll('_', ' '), `${r.population}, ${r.jurisdiction}`, known.names[r.muscle] ?? r.muscle, rangeOf(r) || r.note || '—', T.grades[r.grade] ?? r.grade, r.sources.join(', ')];
  const heads = [T.tables.product, T.tables.indication, T.tables.who, T.tables.muscle, T.tables.range, T.tables.grade, T.tables.sources];
  const place = h('div.stack');
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (/** @type {any} */ r) => words.every((/** @type {string} */ w) => line(r).join(' ').toLowerCase().includes(w));
    put(place,
      h('h2', null, T.tables.lacks), h('p.quiet', null, T.tables.lacksHint), table(T.tables.lacks, heads, rows.filter((/** @type {any} */ r) => !usable(r) && fits(r)).map(line)),
      h('h2', null, T.tables.rows), table(T.tables.rows, heads, rows.filter((/** @type {any} */ r) => usable(r) && fits(r)).map(line)),
      t.missing?.length ? h('details', null, h('summary', null, T.tables.missing(t.missing.length)), table(T.tables.lacks, [T.tables.table, T.tables.row, T.tables.lacking],
        t.missing.map((/** @type {any} */ m) => [m.table.replaceAll('_', ' '), m.row.replaceAll('_', ' '), m.what]).filter((/** @type {string[]} */ line) => words.every((/** @type {string} */ w) => line.join(' ').toLowerCase().includes(w))))) : null);
  };
  const search = h('input', { type: 'search', oninput: settle(show, 120) });
  show();
  put(root, h('div.page', null,
    h('h1', { tabindex: -1 }, T.tables.title),
    h('p', null, T.tables.version(t.version ?? '', (t.sha256 ?? '').slice(0, 16)), t.override ? ` · ${T.tables.override(t.override.name)}` : ''),
    h('h2', null, T.tables.models), models?.models?.length ? modelCard(models) : h('p.quiet', null, T.understand.noModel),
    field(T.tables.filter, search), place,
    h('h2', null, T.tables.caps),
    table(T.tables.caps, [T.tables.product, T.tables.who, T.tables.kind, T.tables.limit, T.tables.grade, T.tables.sources],
      (t.caps ?? []).map((/** @type {any} */ c) => [c.product, `${c.population}, ${c.jurisdiction}`, `${c.kind}, ${c.where.replaceAll('_', ' ')}`, c.value === null ? '—' : `${number(c.value, 2)} ${c.unit}${c.window_weeks ? ` / ${c.window_weeks} weeks` : ''}`, T.grades[c.grade] ?? c.grade, c.sources.join(', ')]))));
}
