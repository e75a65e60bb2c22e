// What the service knows: muscles, products, indications, questions, sources; asked for once.

import { get } from './api.js';

/**
 * @typedef {object} Reference
 * @property {any[]} muscles muscles and groups
 * @property {any[]} products
 * @property {Record<string, string>} names plain names of muscles and groups
 * @property {Record<string, any>} sources
 * @property {any[]} questions safety questions
 * @property {any} tables
 */

/** @type {Promise<Reference> | null} */
let known = null;

/** @returns {Promise<Reference>} */
export function reference() {
  known ??= load().catch((error) => {
    known = null;
    throw error;
  });
  return known;
}

/** @param {any} answer @param {string} key @returns {any[]} */
const listOf = (answer, key) =>
  Array.isArray(answer) ? answer : answer?.[key] ?? answer?.items ?? [];

async function load() {
  const [muscles, products, tables] = await Promise.all([
    get('/muscles'), get('/products'), get('/tables').catch(() => ({})),
  ]);
  const all = [...listOf(muscles, 'muscles'), ...(muscles.groups ?? [])];
  return {
    muscles: all,
    products: listOf(products, 'products'),
    names: Object.fromEntries(all.map((m) => [m.name, m.english ?? m.name])),
    sources: Object.fromEntries(listOf(tables, 'sources').map((s) => [s.id, s])),
    questions: listOf(tables, 'cautions').filter((c) => c.kind === 'safety'),
    tables,
  };
}

/** The products that have a row with a range for a muscle. @param {Reference} known @param {string} muscle */
export const evidenceOf = (known, muscle) =>
  [...new Set((known.tables.dose_rows ?? []).filter((/** @type {any} */ r) => r.muscle === muscle && r.grade !== 'missing').map((/** @type {any} */ r) => r.product))].join(', ');
