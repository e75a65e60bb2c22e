// Small pieces that several pages use.

import { ApiProblem, blob } from './api.js';
import { h, announce, newId } from './dom.js';
import { T } from './texts.js';

/** @typedef {import('./dom.js').Child} Child */

/** @type {Record<string, string>} */
const TONES = {
  needs_target: 'wait', needs_calibration: 'draft', queued: 'wait', running: 'wait', draft: 'draft',
  abstained: 'bad', refused: 'bad', confirmed: 'good', superseded: '', failed: 'bad', cancelled: '',
};

/** @param {string} state */
export const restless = (state) => state === 'queued' || state === 'running';

/** A person's name as DICOM has it, in words. @param {string | null | undefined} name */
const inWords = (name) => name?.replaceAll('^', ' ').trim();

/** Words that name a person, each once. @param {...(string | null | undefined)} words */
export const personName = (...words) => [...new Set(words.map(inWords))].filter(Boolean).join(' · ') || T.list.noPatient;

/** Whom a study is of, as image and request say; where they differ both are shown. @param {any} a */
export const patientOf = ({ image_patient: image, request: { patient: asked } }) =>
  personName(image?.name, asked?.name, image?.id, asked?.id);

/** @param {Record<string, string>} names @param {{muscle?: string | null}} of */
export const muscleName = (names, { muscle }) => (muscle ? names[muscle] ?? muscle : T.list.noMuscle);

/** Muscle and side. @param {Record<string, string>} names @param {{muscle?: string | null, side?: string | null}} of */
export const targetName = (names, of) => [muscleName(names, of), of.side ? T.sides[of.side] : ''].filter(Boolean).join(', ');

/** @param {string} state @param {string} [more] */
export const stateChip = (state, more) =>
  h('span.chip', { 'data-tone': TONES[state] ?? '', 'data-state': state },
    (T.states[state] ?? state) + (more ? ` · ${more}` : ''));

/** @param {string} kind @param {string} tone @param {...Child} children */
export const note = (kind, tone, ...children) =>
  h(`div.note.${tone}`, null, kind ? h('span.kind', null, kind) : null, ...children);

/** What went wrong and the way out, in words. @param {unknown} error */
export function problemNote(error) {
  const problem = error instanceof ApiProblem ? error.problem : null;
  const message = problem
    ? problem.detail || problem.title || T.problem.unknown(problem.status)
    : error instanceof Error ? error.message : String(error);
  const fields = Array.isArray(problem?.errors) ? problem.errors : [];
  const reasons = Array.isArray(problem?.reasons) ? problem.reasons : [];
  return h(
    'div.note.stop',
    { role: 'alert' },
    h('span.kind', null, T.problem.kind),
    h('p', null, message),
    reasons.length
      ? h('ul', null, reasons.map((/** @type {any} */ r) => h('li', null, r.text ?? String(r))))
      : null,
    fields.map((/** @type {any} */ e) =>
      h('p.source', null, `${[e.field ?? e.loc ?? ''].flat().join('.')}: ${e.message ?? e.msg ?? e.detail ?? ''}`)),
    problem?.remedy ? h('p', null, `${T.problem.remedy} ${problem.remedy}`) : null,
  );
}

/**
 * A dialog over the page; resolves when it is closed.
 * @param {string} title @param {Child[]} body
 * @param {(close: (value: any) => void) => Child[]} foot the buttons
 * @returns {Promise<any>}
 */
export function ask(title, body, foot) {
  return new Promise((resolve) => {
    const heading = newId('dialog');
    const before = document.activeElement;
    const close = (/** @type {any} */ value) => {
      resolve(value);
      dialog.close();
    };
    const dialog = h(
      'dialog',
      {
        'aria-labelledby': heading,
        onclose: () => {
          dialog.remove();
          resolve(null);
          if (before instanceof HTMLElement && before.isConnected) before.focus();
        },
      },
      h('div.inner', null, h('h2', { id: heading }, title), body, h('div.foot', null, foot(close))),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let fading;
/** Shows a line at the foot of the page for a while and says it. @param {string} text */
export function toast(text) {
  const place = document.getElementById('toast');
  if (!place) return;
  place.textContent = text;
  announce(text);
  clearTimeout(fading);
  fading = setTimeout(() => (place.textContent = ''), 6000);
}

/**
 * A frame's small picture, fetched when it comes into sight.
 * @param {string} path @param {string} tag the words that stand on it
 */
export function thumbnail(path, tag) {
  const canvas = h('canvas', { width: 224, height: 144, 'aria-hidden': true });
  const element = h('span.thumb', null, canvas, tag ? h('span.tag', null, tag) : null);
  const seen = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    try {
      const picture = await createImageBitmap(await blob(path));
      const share = Math.max(canvas.width / picture.width, canvas.height / picture.height);
      const [w, hgt] = [picture.width * share, picture.height * share];
      const brush = canvas.getContext('2d');
      brush.imageSmoothingQuality = 'high';
      brush.drawImage(picture, (canvas.width - w) / 2, (canvas.height - hgt) / 2, w, hgt);
      picture.close();
      canvas.dataset.drawn = '';
    } catch {
      // No picture yet (the study may not be decodable): the dark square stays.
    }
  });
  seen.observe(element);
  return element;
}

/**
 * Tabs that keep to the keyboard's customs.
 * @param {string} name
 * @param {[string, string, HTMLElement][]} tabs key, text, panel
 * @param {string} chosen @param {(key: string) => void} onchange
 */
export function tabs(name, tabs, chosen, onchange) {
  const list = h('div', { role: 'tablist', 'aria-label': name });
  /** @type {Record<string, any>} */
  const buttons = {};
  const choose = (/** @type {string} */ key, focus = false) => {
    for (const [k, , panel] of tabs) {
      buttons[k].setAttribute('aria-selected', String(k === key));
      buttons[k].tabIndex = k === key ? 0 : -1;
      panel.hidden = k !== key;
    }
    if (focus) buttons[key].focus();
    onchange(key);
  };
  tabs.forEach(([key, text, panel], i) => {
    panel.id ||= newId('panel');
    panel.setAttribute('role', 'tabpanel');
    panel.tabIndex = 0;
    buttons[key] = h(
      'button',
      {
        role: 'tab', id: newId('tab'), 'aria-controls': panel.id, type: 'button',
        onclick: () => choose(key),
        onkeydown: (/** @type {KeyboardEvent} */ event) => {
          const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (step) choose(tabs[(i + step + tabs.length) % tabs.length][0], true);
        },
      },
      text,
    );
    panel.setAttribute('aria-labelledby', buttons[key].id);
    list.append(buttons[key]);
  });
  choose(chosen);
  return { list, choose };
}
