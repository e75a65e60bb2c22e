// The page's frame: head, routes, who is signed in.

import { me, signOut, whereWeWere } from './api.js';
import { h, put } from './dom.js';
import { problemNote } from './parts.js';
import { reference } from './reference.js';
import { referencePage } from './tables.js';
import { compare } from './revisions.js';
import { sessionPage } from './session.js';
import { study } from './study.js';
import { T } from './texts.js';
import { workList } from './worklist.js';

const person = h('span.person');
const view = h('main', { id: 'view', tabindex: -1 });
const links = [['#/', T.nav.studies], ['#/reference', T.nav.reference]].map(([href, text]) => h('a', { href }, text));
document.body.append(
  h('a.skip', { href: '#view', onclick: (/** @type {Event} */ event) => { event.preventDefault(); view.focus(); } }, T.nav.skip),
  h('header.top', null,
    h('a.brand', { href: '#/' }, h('img', { src: 'icon.svg', alt: '', width: 28, height: 28 }), 'sonodose'),
    h('nav', { 'aria-label': T.nav.name }, links),
    h('span.quiet', null, T.nav.use), person),
  view,
  h('div.toast', { id: 'toast' }),
  h('div.hidden', { id: 'announcer', 'aria-live': 'polite' }),
);

async function whoIsHere() {
  const who = await me();
  if (!who.session) return;
  put(person, h('span', null, who.clinician?.name ?? who.name), h('button', { type: 'button', onclick: signOut }, T.signOut));
}

/** @type {() => void} */
let leave = () => {};
let first = true;

async function route() {
  leave();
  leave = () => {};
  const [path, query] = location.hash.replace(/^#/, '').split('?');
  const params = new URLSearchParams(query ?? '');
  const parts = path.split('/').filter(Boolean);
  document.title = 'sonodose';
  links.forEach((link) => {
    const here = link.getAttribute('href') === `#/${parts[0] ?? ''}`;
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  });
  put(view, h('div.page', null, h('p.quiet', null, T.loading)));
  try {
    if (!parts.length) leave = workList(view);
    else if (parts[0] === 'analyses' && parts[2] === 'compare') {
      const [x, y] = (params.get('revisions') ?? '1,1').split(',');
      await compare(view, [[parts[1], x], [parts[1], y]], await reference());
    } else if (parts[0] === 'analyses' && parts[1]) leave = study(view, parts[1], params);
    else if (parts[0] === 'compare') {
      const [x, y] = (params.get('ids') ?? '').split(',');
      await compare(view, [[x, null], [y, null]], await reference());
    } else if (parts[0] === 'session') await sessionPage(view, params);
    else if (parts[0] === 'reference') await referencePage(view);
    else location.hash = '#/';
  } catch (error) {
    put(view, h('div.page', null, problemNote(error)));
  }
  if (!first) view.focus({ preventScroll: true });
  first = false;
}

addEventListener('hashchange', route);
const back = whereWeWere();
if (back && !location.hash) history.replaceState(null, '', back);
route();
whoIsHere().catch(() => {});
