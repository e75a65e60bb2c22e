// The files of a study: what is made of it, and what was sent.

import { get, save } from './api.js';
import { ask, problemNote } from './parts.js';
import { h, put } from './dom.js';
import { T } from './texts.js';

/** Shows the files to take away. @param {any} a the analysis @param {string} frame the key of the frame in
 * sight, '' where it is not in the plan */
export async function downloads(a, frame) {
  const trouble = h('div');
  const list = h('div.stack', null, T.loading);
  const moving = (a.plan?.frames ?? []).length > 1;
  const plain = a.files.some((/** @type {any} */ f) => f.media === 'plain');
  const worthwhile = (/** @type {any} */ o) => (o.name !== 'overlay.webp' || moving) && (o.name !== 'image.dcm' || plain);
  const ofFrame = (/** @type {any} */ o) => o.name.startsWith('overlay') || o.name.startsWith('mask');
  const take = (/** @type {any} */ o) => save(ofFrame(o) ? `${o.href}?frame=${frame}` : o.href, `${a.id.slice(0, 12)}-${o.name}`)
    .catch((error) => put(trouble, problemNote(error)));
  get(`/analyses/${a.id}/objects`).then(({ objects, files }) => put(list,
    [...objects.filter(worthwhile), ...files].map((/** @type {any} */ o) =>
      h('button', { type: 'button', onclick: () => take(o) }, T.files.names[o.name] ?? o.name)))).catch((error) => put(list, problemNote(error)));
  await ask(T.files.title, [h('p.quiet', null, T.files.hint), list, trouble], (close) => [h('button', { type: 'button', onclick: () => close(null) }, T.close)]);
}
