// Every revision stays: the history, and two of them side by side.

import { blob, get } from './api.js';
import { h, put, select } from './dom.js';
import { same } from './edits.js';
import { muscleName, problemNote, stateChip, targetName } from './parts.js';
import { Picture } from './picture.js';
import { doseText, marksOf, planFrame, sitesOn, siteText, sitesOf, volumeText } from './plan.js';
import { T, when } from './texts.js';
import { structuresOf } from './structures.js';

/** @param {HTMLElement} panel @param {any} a */
export async function revisionsPanel(panel, a) {
  const key = `${a.id}/${a.revision}/${a.state}/${a.administrations?.length}`;
  if (panel.dataset.key === key) return;
  panel.dataset.key = key;
  try {
    const list = await get(`/analyses/${a.id}/revisions`);
    const revisions = list.revisions ?? list;
    const names = revisions.map((/** @type {any} */ r) => /** @type {[string, string]} */ ([String(r.revision), T.revisions.one(r.revision)]));
    const left = select(names, String(Math.max(1, a.revision - 1)), { 'aria-label': T.revisions.left });
    const right = select(names, String(a.revision), { 'aria-label': T.revisions.right });
    put(panel,
      revisions.length > 1 ? h('div.row', null, left, right,
        h('button.primary', { type: 'button', onclick: () => { location.hash = `#/analyses/${a.id}/compare?revisions=${left.value},${right.value}`; } }, T.revisions.compare)) : null,
      h('ol.stack', { reversed: true }, revisions.slice().reverse().map((/** @type {any} */ r) =>
        h('li', null, h('span.row', null, h('strong', null, T.revisions.one(r.revision)), stateChip(r.state)),
          h('span.quiet', null, `${when(r.created_at)} · ${r.created_by ?? ''}`),
          h('p.source', null, T.revisions.changed(changes(revisions, r)))))),
      (a.administrations ?? []).map((/** @type {any} */ given) => administration(given)));
  } catch (error) {
    delete panel.dataset.key;
    put(panel, problemNote(error));
  }
}

/** What a revision changed of the one before. @param {any[]} all @param {any} r */
function changes(all, r) {
  const before = all.find((x) => x.revision === r.revision - 1);
  if (!before) return '';
  return [...new Set([...Object.keys(before.request ?? {}), ...Object.keys(r.request ?? {})])]
    .filter((key) => !same(before.request?.[key], r.request?.[key])).map(T.conflict.part).join(', ');
}

/** @param {any} given */
function administration(given) {
  const g = given.given ?? given;
  return h('div.note.good', null, h('span.kind', null, T.administration.record(g.given_on ?? '')),
    h('p', null, (g.sites ?? []).map((/** @type {any} */ s) => T.administration.line(s.number, s.units, g.product, s.ml)).join('; ')),
    h('p.source', null, [g.lot ? `${T.administration.lot} ${g.lot}` : '', g.expiry ? `${T.administration.expiry} ${g.expiry}` : '', g.guidance ?? '', g.given_by ?? '', g.note ?? ''].filter(Boolean).join(' · ')));
}

/** Two revisions, or two analyses, side by side. @param {HTMLElement} root @param {[string, string | null][]} pair
 * @param {import('./reference.js').Reference} known */
export async function compare(root, pair, known) {
  put(root, h('div.page', null, T.loading));
  try {
    const both = await Promise.all(pair.map(([id, revision]) => get(`/analyses/${id}${revision ? `?revision=${revision}` : ''}`)));
    const oneStudy = both[0].id === both[1].id;
    const rows = /** @type {[string, string, string][]} */ ([
      [T.revisions.state, ...both.map((a) => T.states[a.state])],
      [T.plan.muscle, ...both.map((a) => targetName(known.names, a.request))],
      [T.plan.volume, ...both.map((a) => volumeText(a.plan))],
      [T.plan.dose, ...both.map((a) => doseText(a.plan))],
      ...Array.from({ length: Math.max(...both.map((a) => sitesOf(a).length)) }, (_, i) =>
        [`${T.plan.site} ${i + 1}`, ...both.map((a) => (sitesOf(a)[i] ? siteText(sitesOf(a)[i].raw) : '—'))]),
      [T.revisions.cautions, ...both.map((a) => (a.plan?.cautions ?? []).map((/** @type {any} */ c) => c.text).join('\n'))],
      [T.revisions.by, ...both.map((a) => `${a.revised_by ?? ''}, ${when(a.revised_at ?? a.updated_at)}`)],
    ]);
    const title = (/** @type {any} */ a) => (oneStudy ? T.revisions.one(a.revision) : `${T.sides[a.request.side]}, ${when(a.created_at)}`);
    put(root, h('div.page', null,
      h('div.row.between', null, h('h1', { tabindex: -1 }, oneStudy ? T.revisions.title : T.revisions.twoStudies), h('a.button', { href: `#/analyses/${both[1].id}?tab=revisions` }, T.back)),
      h('div.two', null, await Promise.all(both.map(async (a) => h('section', { 'aria-label': title(a) }, h('h2', null, title(a)), await still(a, known))))),
      h('div.wide', null, h('table', null,
        h('thead', null, h('tr', null, h('th', null, ''), both.map((a) => h('th', { scope: 'col' }, title(a))))),
        h('tbody', null, rows.map(([name, x, y]) => h('tr', null, h('th', { scope: 'row' }, name), h('td', null, x), h(x === y ? 'td' : 'td.changed', null, y))))))));
  } catch (error) {
    put(root, h('div.page', null, problemNote(error), h('a.button', { href: '#/' }, T.back)));
  }
}

/** A picture to look at, with its plan drawn on it. @param {any} a @param {import('./reference.js').Reference} known */
async function still(a, known) {
  const picture = new Picture(null);
  const key = a.plan?.sites?.[0]?.frame_key ?? a.plan?.frames?.[0]?.key ?? '0';
  const f = planFrame(a, Number(key));
  picture.mark(marksOf(a));
  picture.rename(T.picture.describe(Number(key) + 1, 1, f, sitesOn(a, key).length, muscleName(known.names, a.request)));
  blob(`/analyses/${a.id}/frames/${key}.png`).then((b) => createImageBitmap(b)).then((bitmap) => picture.paint(bitmap)).catch(() => {});
  picture.show({
    scale: f?.calibration?.used ?? null, contours: f?.contours ?? [], bone: f?.possible_bone ?? [], doubtful: Boolean(f?.segmentation?.abstained),
    sites: sitesOn(a, key).map((s) => ({ ...s, text: '', name: T.plan.siteName(s.raw, Math.round(s.at.column), Math.round(s.at.row)), handle: false })),
    needles: /** @type {any} */ (sitesOn(a, key).map((s) => s.needle).filter(Boolean)),
  });
  if (f) structuresOf(`/analyses/${a.id}/mask.png?frame=${key}&revision=${a.revision}`).then((structures) => picture.show({ structures })).catch(() => {});
  return picture.element;
}
