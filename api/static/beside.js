// What stands beside a plan: the last session and the other side, and where the objects went.

import { get, post } from './api.js';
import { h, put } from './dom.js';
import { note, problemNote } from './parts.js';
import { sourceList } from './plan.js';
import { T, when } from './texts.js';

/** @typedef {import('./reference.js').Reference} Reference */

const LOOK_AGAIN_MS = 2000;

/** Two volumes in words, with the smallest change that is more than error.
 * @param {any} c @param {Reference} known */
export const comparisonNote = (c, known) => note(T.beside.kinds[c.kind], c.more_than_error ? 'caution' : 'info',
  h('p', null, c.text),
  h('p.source', null, c.why, ' ', sourceList(c.sources, known)),
  h('a.button', { href: `#/compare?ids=${c.first.analysis},${c.second.analysis}` }, T.session.compare));

/** Fills the place with what there is to compare a plan with. @param {HTMLElement} place @param {any} a
 * @param {Reference} known */
export async function compared(place, a, known) {
  try {
    const { comparisons, refused } = await get(`/analyses/${a.id}/comparisons`);
    if (!comparisons.length && !refused.length) return;
    put(place, h('h2', null, T.beside.title), comparisons.map((/** @type {any} */ c) => comparisonNote(c, known)),
      refused.map((/** @type {any} */ r) => h('p.source', null, `${r.reason} ${r.remedy}`)));
  } catch (error) {
    put(place, problemNote(error));
  }
}

/** @type {Record<string, string>} */
const TONES = { waiting: 'wait', sending: 'wait', delivered: 'good', failed: 'bad' };

/** Fills the place with what was sent where, as long as it is to be seen. @param {HTMLElement} place @param {any} a */
export async function deliveries(place, a) {
  const home = `/analyses/${a.id}/deliveries`;
  const trouble = h('div');
  const list = h('div.stack', { 'aria-live': 'polite' });
  const targets = await get('/destinations').catch(() => []);
  /** @param {any} body */
  const send = async (body) => {
    put(trouble);
    try {
      tell(await post(home, body));
    } catch (error) {
      put(trouble, problemNote(error));
    }
  };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @param {any} answer */
  const tell = (answer) => {
    clearTimeout(timer);
    const sent = answer.deliveries.filter((/** @type {any} */ d) => d.kind === 'objects');
    put(list, sent.length ? sent.map((/** @type {any} */ d) => h('div.delivery', null,
      h('div.row.between', null, h('strong', null, d.target),
        h('span.chip', { 'data-tone': TONES[d.state] }, T.beside.states[d.state])),
      h('p.source', null, T.list.revision(d.revision), ' · ', when(d.finished_at ?? d.created_at),
        d.state === 'waiting' && d.attempts ? ` · ${T.beside.attempts(d.attempts, d.max_attempts, when(d.next_attempt_at))}` : ''),
      d.reason && d.state !== 'delivered' ? h('p', null, d.reason) : null,
      d.objects.length ? h('details', null, h('summary', null, T.beside.objects(d.objects.filter((/** @type {any} */ o) => !o.none).length)),
        h('ul', null, d.objects.map((/** @type {any} */ o) => h('li', null, T.files.names[o.object] ?? o.object, o.none ? `: ${o.none}` : '')))) : null,
      d.state === 'delivered' ? null : h('button', { type: 'button', onclick: () => send({ delivery: d.id }) }, T.beside.again)))
      : h('p.quiet', null, targets.length ? T.beside.nothing : T.beside.nowhere));
    if (sent.some((/** @type {any} */ d) => TONES[d.state] === 'wait')) timer = setTimeout(look, LOOK_AGAIN_MS);
  };
  const look = () => {
    if (place.isConnected) get(home).then(tell).catch((error) => put(trouble, problemNote(error)));
  };
  put(place, h('h2', null, T.beside.sent), list,
    h('div.row', null, targets.map((/** @type {any} */ t) =>
      h('button', { type: 'button', onclick: () => send({ destination: t.name }) }, T.beside.sendTo(t.name)))), trouble);
  look();
}
