// Where every number comes from: the derivation, the scale, the model, the tables and their gaps.

import { get } from './api.js';
import { h, put } from './dom.js';
import { note, problemNote } from './parts.js';
import { sourceList } from './plan.js';
import { T, number } from './texts.js';

/** @param {any} step @param {import('./reference.js').Reference} known @param {boolean} open
 * @returns {HTMLElement} */
function branch(step, known, open) {
  const value = step.value === null ? ''
    : typeof step.value === 'number' ? `${number(step.value, 3)} ${step.unit === '1' ? '' : step.unit}` : `${step.value} ${step.unit ?? ''}`;
  const facts = h('div', null,
    step.text ? h('p', null, step.text) : null,
    step.equation ? h('p.source', null, step.equation) : null,
    step.sources?.length ? sourceList(step.sources, known) : null);
  return h('details', { open }, h('summary', null, step.name.replaceAll('_', ' '), value ? ': ' : '', h('strong', null, value)),
    facts, (step.inputs ?? []).map((/** @type {any} */ inner) => branch(inner, known, false)));
}

/** @param {HTMLElement} panel @param {any} a @param {import('./reference.js').Reference} known */
export async function understandPanel(panel, a, known) {
  const key = `${a.id}/${a.revision}/${a.state}`;
  if (panel.dataset.key === key) return;
  panel.dataset.key = key;
  const tree = h('div.tree.stack', null, T.loading);
  const f = a.plan?.frames?.[0];
  const model = h('div');
  put(panel,
    h('h2', null, T.understand.tree), tree,
    h('h2', null, T.understand.scale), scaleFacts(a),
    h('h2', null, T.understand.model), model,
    h('h2', null, T.understand.provenance),
    h('dl.facts', null,
      fact(T.understand.modelVersion, a.plan?.provenance?.model ?? f?.segmentation?.weights_version),
      fact(T.understand.tables, a.plan?.provenance?.tables?.version),
      fact('SHA-256', a.plan?.provenance?.tables?.sha256?.slice(0, 16)),
      fact(T.understand.override, a.plan?.tables?.override?.name)),
    h('p', null, h('a', { href: '#/reference' }, T.understand.gaps)));
  if (a.plan && !a.plan.abstention) {
    try {
      const answer = await get(`/analyses/${a.id}/explanation?revision=${a.revision}`);
      put(tree, branch(answer.explanation.tree, known, true),
        h('details', null, h('summary', null, T.understand.sentences), h('ol', null, answer.explanation.sentences.map((/** @type {string} */ t) => h('li', null, t)))));
    } catch (error) {
      put(tree, problemNote(error));
    }
  } else put(tree, note('', 'info', h('p', null, a.plan?.abstention?.text ?? T.understand.nothing)));
  try {
    const cards = await get('/models');
    if (!cards.models.length) throw new Error(T.understand.noModel);
    put(model, modelCard(cards));
  } catch {
    put(model, h('p.quiet', null, T.understand.noModel));
  }
}

/** @param {string} name @param {any} value */
const fact = (name, value) =>
  value === null || value === undefined || value === '' ? [] : [h('dt', null, name), h('dd', null, String(value))];

/** @param {any} a */
function scaleFacts(a) {
  const frames = a.plan?.frames ?? [];
  const seen = new Set();
  return frames.map((/** @type {any} */ f) => {
    const c = f.calibration ?? {};
    const key = JSON.stringify(c);
    if (seen.has(key)) return null;
    seen.add(key);
    return h('dl.facts', null,
      c.used ? [fact(T.understand.from, T.provenance[c.used.provenance] ?? c.used.provenance),
        fact(T.understand.mmPerPx, `${number(c.used.row_mm_per_px, 4)} × ${number(c.used.column_mm_per_px, 4)} mm`),
        fact(T.understand.note, c.used.note)] : fact(T.understand.from, T.plan.noScale),
      c.problem ? fact(T.understand.problem, c.problem) : [],
      c.set_aside ? fact(T.understand.setAside, `${T.provenance[c.set_aside.provenance] ?? c.set_aside.provenance}: ${number(c.set_aside.row_mm_per_px, 4)} × ${number(c.set_aside.column_mm_per_px, 4)} mm`) : []);
  });
}

/** Any document as nested lists. @param {any} value @returns {any} */
function asList(value) {
  if (value === null || value === undefined) return '—';
  if (Array.isArray(value)) {
    return value.every((v) => typeof v !== 'object') ? value.join(', ')
      : h('ul', null, value.map((v) => h('li', null, asList(v))));
  }
  if (typeof value === 'object')
    return h('dl.facts', null, Object.entries(value).map(([k, v]) => [h('dt', null, k.replaceAll('_', ' ')), h('dd', null, asList(v))]));
  return typeof value === 'number' && !Number.isInteger(value) ? number(value, 4) : String(value);
}

const PROSE = ['name', 'version', 'created', 'intended_use', 'not_for', 'metrics', 'data', 'training', 'promises'];

/** A network's card: what it is for and not for, how well it does, what it was trained on. @param {any} answer */
export function modelCard(answer) {
  return answer.models.map((/** @type {any} */ { card }) => h('div.stack', null,
    h('p', null, h('strong', null, card.name), ` ${card.version} · ${card.created}`),
    h('dl.facts', null, fact(T.card.use, card.intended_use), fact(T.card.notFor, card.not_for)),
    metrics(card.metrics ?? {}),
    h('details', null, h('summary', null, T.card.data), asList(card.data), h('p.source', null, card.training?.note ?? '')),
    card.promises ? h('details', null, h('summary', null, T.card.promises), asList(card.promises)) : null,
    h('details', null, h('summary', null, T.card.rest),
      asList(Object.fromEntries(Object.entries(card).filter(([key]) => !PROSE.includes(key)))))));
}

/** The card's figures, each with its interval and the pictures behind it. @param {Record<string, any>} all */
function metrics(all) {
  const row = (/** @type {[string, any]} */ [name, m]) => h('tr', null, h('th', { scope: 'row' }, name.replaceAll('_', ' ')),
    h('td.number', null, number(m.value, 3)), h('td.number', null, `${number(m.low, 3)}–${number(m.high, 3)}`),
    h('td.number', null, `${m.images} / ${m.groups}`));
  const rows = Object.entries(all);
  if (!rows.length) return h('p.quiet', null, T.card.noFigures);
  return h('details', null, h('summary', null, T.card.figures(rows.length)),
    h('div.wide', { tabindex: 0, role: 'region', 'aria-label': T.card.figures(rows.length) }, h('table', null,
      h('thead', null, h('tr', null, h('th', { scope: 'col' }, T.card.what), [T.card.value, T.card.interval, T.card.pictures].map((x) => h('th.number', { scope: 'col' }, x)))),
      h('tbody', null, rows.map(row)))));
}
