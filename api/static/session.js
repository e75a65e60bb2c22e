// Several plans for one visit, under the caps that hold for all of them together.

import { get, post } from './api.js';
import { h, put } from './dom.js';
import { comparisonNote } from './beside.js';
import { note, problemNote, stateChip, targetName } from './parts.js';
import { doseText, sourceList, volumeText } from './plan.js';
import { reference } from './reference.js';
import { T, number, when } from './texts.js';

/** @param {HTMLElement} root @param {URLSearchParams} params */
export async function sessionPage(root, params) {
  const ids = (params.get('ids') ?? '').split(',').filter(Boolean);
  const heading = h('div.row.between', null, h('h1', { tabindex: -1 }, T.session.title), h('a.button', { href: '#/' }, T.back));
  if (!ids.length) {
    put(root, h('div.page', null, heading, note('', 'info', h('p', null, T.session.none))));
    return;
  }
  const known = await reference();
  const all = await Promise.all(ids.map((id) => get(`/analyses/${id}`)));
  const sum = h('div.stack', null, T.loading);
  const beside = h('div.stack');
  put(root, h('div.page', null, heading, sum,
    h('div.wide', null, h('table', null,
      h('thead', null, h('tr', null, [T.plan.muscle, T.plan.volume, T.plan.dose, T.list.state, ''].map((text) => h('th', { scope: 'col' }, text)))),
      h('tbody', null, all.map((a) => h('tr', null,
        h('th', { scope: 'row' }, h('a', { href: `#/analyses/${a.id}` }, targetName(known.names, a.request))),
        h('td', null, volumeText(a.plan)), h('td', null, doseText(a.plan)), h('td', null, stateChip(a.state)), h('td.quiet', null, when(a.updated_at))))))),
    beside));
  if (all.length === 2 && all[0].request.muscle === all[1].request.muscle)
    post('/comparisons', { analyses: ids }).then((c) => put(beside, h('h2', null, T.beside.title), comparisonNote(c, known)))
      .catch((error) => put(beside, problemNote(error), h('a.button', { href: `#/compare?ids=${ids.join()}` }, T.session.compare)));
  /** @type {Record<string, number>} */
  const priorities = {};
  const tell = async () => {
    const s = await post('/sessions', { analyses: ids, priorities });
    put(sum,
      h('p', null, h('strong', null, T.session.total(number(s.total_units, 2), s.product))),
      note('', s.allowed ? 'good' : 'stop', h('p', null, s.allowed ? T.session.allowed : T.session.exceeded), h('p', null, s.remedy)),
      s.caps?.length ? h('div.wide', null, h('table', null,
        h('thead', null, h('tr', null, [T.session.cap, T.session.planned, T.session.before, T.session.limit, T.session.left].map((text, i) => h(i ? 'th.number' : 'th', { scope: 'col' }, text)))),
        h('tbody', null, s.caps.map((/** @type {any} */ c) => h('tr', null,
          h('th', { scope: 'row' }, `${T.session.kinds[c.kind] ?? c.kind}, ${c.where === 'any' ? T.session.anywhere : known.names[c.where] ?? c.where.replaceAll('_', ' ')}. `, sourceList(c.sources, known)),
          h('td.number', null, number(c.planned_units, 2)), h('td.number', null, number(c.given_before_units, 2)), h('td.number', null, number(c.limit_units, 2)),
          h(c.exceeded ? 'td.number.changed' : 'td.number', null, number(c.left_units, 2), c.exceeded ? ` ${T.session.over}` : '')))))) : null,
      h('h2', null, T.session.within),
      h('div.wide', null, h('table', null,
        h('thead', null, h('tr', null, [T.plan.muscle, T.session.priority, T.session.planned, T.session.within].map((text, i) => h(i > 1 ? 'th.number' : 'th', { scope: 'col' }, text)))),
        h('tbody', null, s.analyses.map((/** @type {any} */ one) => {
          const name = targetName(known.names, one);
          return h('tr', null, h('th', { scope: 'row' }, name),
            h('td', null, h('input', { type: 'number', min: 1, max: 9, step: 1, value: one.priority, 'aria-label': T.session.priorityOf(name),
              onchange: (/** @type {any} */ event) => { priorities[one.id] = Number(event.target.value) || 1; tell().catch(fail); } })),
            h('td.number', null, number(one.units, 2)), h(one.units_within_caps < one.units ? 'td.number.changed' : 'td.number', null, number(one.units_within_caps, 2)));
        })))),
      s.within_caps.cuts.map((/** @type {any} */ c) => note('', 'caution', h('p', null, c.text), sourceList(c.sources, known))),
      s.within_caps.vials.map((/** @type {any} */ v) => h('p', null, T.session.vials(v))),
      s.within_caps.notes.map((/** @type {string} */ n) => h('p.source', null, n)));
  };
  const fail = (/** @type {unknown} */ error) => put(sum, problemNote(error));
  try {
    await tell();
  } catch (error) {
    fail(error);
  }
}
