// The work list: every study with its state, search, and the door for new ones.

import { get } from './api.js';
import { h, put, field, select, settle } from './dom.js';
import { muscleName, note, personName, problemNote, restless, stateChip, thumbnail } from './parts.js';
import { openUpload } from './upload.js';
import { reference } from './reference.js';
import { T, when } from './texts.js';

const PAGE = 50;

/** @param {HTMLElement} root @returns {() => void} what to do on leaving */
export function workList(root) {
  /** @type {Map<string, {key: string, item: any, node: HTMLElement}>} */
  const shown = new Map();
  /** @type {Set<string>} */
  const chosen = new Set();
  let pages = 1;
  let gone = false;
  let asked = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Record<string, string>} */
  let names = {};

  const search = h('input', { type: 'search', placeholder: T.list.searchHint, oninput: settle(() => { pages = 1; refresh(); }, 200) });
  const state = select(
    [['', T.list.anyState], ...Object.entries(T.states)], '',
    { onchange: () => { pages = 1; refresh(); } },
  );
  const files = h('input.hidden', { type: 'file', multiple: true, id: 'files', tabindex: -1, 'aria-hidden': true,
    onchange: () => { take([...files.files]); files.value = ''; } });
  const list = h('ul.studies', { 'aria-label': T.list.title });
  const empty = h('div', { hidden: true });
  const trouble = h('div');
  const more = h('button', { type: 'button', hidden: true, onclick: () => { pages++; refresh(); } }, T.list.more);
  const session = h('button', { type: 'button', disabled: true,
    onclick: () => (location.hash = `#/session?ids=${[...chosen].join()}`) }, T.list.session(0));
  const drop = h('div.drop', null,
    h('span', null, T.list.drop),
    h('button.primary', { type: 'button', onclick: () => files.click() }, T.list.upload));
  const page = h('div.page', null,
    h('div.row.between', null, h('h1', { tabindex: -1 }, T.list.title), session),
    drop, files,
    h('div.tools', null,
      h('div.grow', null, field(T.list.search, search)),
      field(T.list.state, state)),
    trouble, list, empty, more);
  put(root, page);

  /** @param {File[]} given */
  const take = async (given) => {
    if (!given.length) return;
    const made = await openUpload(given);
    if (made) location.hash = `#/analyses/${made.id}`;
  };
  const over = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    page.classList.toggle('dropping', event.type === 'dragover');
    if (event.type === 'drop') take([...event.dataTransfer.files]);
  };
  for (const kind of ['dragover', 'dragleave', 'drop']) root.addEventListener(kind, /** @type {any} */ (over));

  /** @param {any} item */
  const line = (item) => {
    const label = h('label.choice', { 'aria-label': T.list.choose(muscleName(names, item), T.sides[item.side] ?? '') },
      h('input', { type: 'checkbox', checked: chosen.has(item.id), onchange: (/** @type {any} */ event) => {
        if (event.target.checked) chosen.add(item.id); else chosen.delete(item.id);
        session.disabled = chosen.size < 1;
        session.textContent = T.list.session(chosen.size);
      } }));
    const progress = item.state === 'queued' && item.queue_position ? T.list.position(item.queue_position)
      : item.state === 'running' && item.stage ? T.stages[item.stage] ?? item.stage : '';
    return h('li', null, label,
      h('a.study', { href: `#/analyses/${item.id}` },
        thumbnail(`/analyses/${item.id}/frames/0.png`, item.state === 'draft' ? T.marks.suggestionShort : ''),
        h('span', null, h('span.name', null, muscleName(names, item)), h('br'), T.sides[item.side] ?? T.list.noSide),
        h('span.more', null, personName(item.patient_name || item.patient_id), h('br'), h('span.quiet', null, item.patient_name && item.patient_id ? `${item.patient_id} ` : '', item.product ?? (item.muscle ? T.list.noProduct : ''))),
        h('span.more.quiet', null, when(item.updated_at), ' ', h('br'), T.list.revision(item.revision)),
        h('span', null, stateChip(item.state, progress),
          item.problem ? h('span.why', null, item.problem.detail) : item.state === 'needs_target' ? h('span.why', null, T.list.waitsFor(!item.muscle, Boolean(item.muscle))) : null)));
  };

  const refresh = async () => {
    clearTimeout(timer);
    const serial = ++asked;
    try {
      const query = new URLSearchParams({ limit: String(PAGE) });
      if (state.value) query.set('state', state.value);
      if (search.value.trim()) query.set('search', search.value.trim());
      /** @type {string | null} */
      let next = `/analyses?${query}`;
      const items = [];
      for (let page = 0; page < pages && next; page++) {
        const answer = await get(next);
        items.push(...answer.analyses);
        next = answer.next;
      }
      if (gone || serial !== asked) return;
      put(trouble);
      more.hidden = !next;
      const wanted = new Set(items.map((/** @type {any} */ item) => item.id));
      for (const [id, { node }] of shown) if (!wanted.has(id)) { node.remove(); shown.delete(id); }
      items.forEach((/** @type {any} */ item, /** @type {number} */ i) => {
        const key = JSON.stringify(item);
        const known = shown.get(item.id);
        let node = known?.node;
        if (!known || known.key !== key) {
          node = line(item);
          if (known) {
            const held = known.node.contains(document.activeElement);
            known.node.replaceWith(/** @type {Node} */ (node));
            if (held) node?.querySelector('a')?.focus();
          }
          shown.set(item.id, { key, item, node: /** @type {HTMLElement} */ (node) });
        }
        if (node && list.children[i] !== node) list.insertBefore(node, list.children[i] ?? null);
      });
      empty.hidden = items.length > 0;
      put(empty, note('', 'info', h('p', null, state.value || search.value ? T.list.noneFound : T.list.empty)));
      const busy = items.some((/** @type {any} */ item) => restless(item.state));
      timer = setTimeout(refresh, document.hidden ? 30_000 : busy ? 1500 : 10_000);
    } catch (error) {
      if (gone || serial !== asked) return;
      put(trouble, problemNote(error));
      timer = setTimeout(refresh, 5000);
    }
  };
  reference().then((known) => { names = known.names; }).catch(() => {}).finally(refresh);
  return () => { gone = true; clearTimeout(timer); };
}
