// From a draft to a confirmed plan, and afterwards what was really given.

import { me, post } from './api.js';
import { h, put, field, select } from './dom.js';
import { ask, note, patientOf, problemNote, targetName } from './parts.js';
import { cautionNote, refusalOf, sitesOf, unitsText } from './plan.js';
import { T } from './texts.js';

/** @typedef {import('./reference.js').Reference} Reference */

/**
 * The questions that a plan leaves open: safety and earlier treatments.
 * @param {any} request @param {Reference} known
 */
export function questions(request, known) {
  const asked = known.questions.filter((q) => !q.products?.length || q.products.includes(request.product));
  const answers = asked.map((q) => {
    const given = request.safety?.[q.code];
    const name = `q-${q.code}`;
    const choice = (/** @type {string} */ value, /** @type {string} */ text) =>
      h('label.choice', null, h('input', { type: 'radio', name, value,
        checked: value === (given === true ? 'yes' : given === false ? 'no' : 'unknown') }), text);
    const set = h('fieldset', { 'data-question': q.code }, h('legend', null, q.question),
      h('div.row', null, choice('no', T.confirm.no), choice('yes', T.confirm.yes), choice('unknown', T.confirm.unknown)));
    return { code: q.code, read: () => set.querySelector('input:checked')?.value ?? 'unknown', set };
  });
  const prior = request.prior_treatments;
  const rows = h('div.stack');
  /** @type {{read: () => any}[]} */
  let treatments = [];
  const add = (/** @type {any} */ t = {}) => {
    const product = select([['', '—'], ...known.products.map((p) => /** @type {[string, string]} */ ([p.name ?? p.product, p.name ?? p.product]))], t.product);
    const units = h('input', { type: 'number', min: 0, step: 'any', value: t.units ?? '' });
    const date = h('input', { type: 'date', value: t.date ?? '' });
    const response = h('input', { type: 'text', maxlength: 200, value: t.response ?? '' });
    const row = h('fieldset', null, h('legend', null, T.confirm.treatment),
      h('div.pair', null, field(T.form.product, product), field(T.confirm.units, units), field(T.confirm.date, date), field(T.confirm.response, response)));
    rows.append(row);
    treatments.push({ read: () => (product.value && units.value && date.value
      ? { ...(t.muscles ? { muscles: t.muscles } : {}), product: product.value, units: Number(units.value), date: date.value, ...(response.value ? { response: response.value } : {}) } : null) });
  };
  const kind = (/** @type {string} */ value, /** @type {string} */ text, /** @type {boolean} */ checked) =>
    h('label.choice', null, h('input', { type: 'radio', name: 'prior', value, checked, onchange: () => {
      rows.hidden = value !== 'some';
      more.hidden = value !== 'some';
      if (value === 'some' && !treatments.length) add();
    } }), text);
  const more = h('button', { type: 'button', hidden: !prior?.length, onclick: () => add() }, T.confirm.addTreatment);
  rows.hidden = !prior?.length;
  for (const t of prior ?? []) add(t);
  const none = h('button.small', { type: 'button', onclick: () => {
    for (const a of answers) if (a.read() === 'unknown') a.set.querySelector('input[value=no]').checked = true;
  } }, T.confirm.restNo);
  const priorSet = h('fieldset', { 'data-question': 'prior' }, h('legend', null, T.confirm.prior),
    h('div.row', null, kind('none', T.confirm.priorNone, prior?.length === 0), kind('some', T.confirm.priorSome, (prior?.length ?? 0) > 0), kind('unknown', T.confirm.unknown, prior === undefined || prior === null)),
    rows, more);
  const element = h('div.stack', null, priorSet, answers.length ? none : null, answers.map((a) => a.set));
  const read = () => {
    const chosen = priorSet.querySelector('input[name=prior]:checked')?.value;
    const known = answers.map((a) => [a.code, a.read()]).filter(([, v]) => v !== 'unknown').map(([c, v]) => [c, v === 'yes']);
    return {
      prior_treatments: chosen === 'none' ? [] : chosen === 'some' ? treatments.map((t) => t.read()).filter(Boolean) : null,
      safety: known.length || answers.length === 0 ? Object.fromEntries(known) : null,
    };
  };
  const open = () => answers.filter((a) => a.read() === 'unknown').length + (priorSet.querySelector('input[value=unknown]').checked ? 1 : 0);
  return { element, read, open };
}

/**
 * Questions, cautions, name and role, confirmation.
 * @param {any} a @param {string} etag @param {Reference} known
 * @param {(answers: any) => Promise<{a: any, etag: string}>} answer writes the answers
 * @returns {Promise<boolean>} true if it was confirmed
 */
export async function confirmPlan(a, etag, known, answer) {
  const form = questions(a.request, known);
  const body = h('div.stack');
  const trouble = h('div');
  const foot = h('div.row');
  const done = await ask(T.confirm.title, [body, trouble], (close) => {
    const cancel = () => h('button', { type: 'button', onclick: () => close(false) }, T.cancel);
    const first = () => {
      const next = h('button.primary', { type: 'button' }, T.confirm.next);
      next.onclick = async () => {
        next.disabled = true;
        put(trouble);
        try {
          ({ a, etag } = await answer(form.read()));
          second((await me()).clinician);
        } catch (error) {
          put(trouble, problemNote(error));
        }
        next.disabled = false;
      };
      put(body, h('p.quiet', null, T.confirm.step1), form.element);
      put(foot, cancel(), next);
    };
    const second = (/** @type {{name: string, role: string | null} | null} */ signedIn) => {
      const cautions = a.plan?.cautions ?? [];
      const stops = cautions.filter((/** @type {any} */ c) => c.blocks_confirmation);
      // What the service would refuse for, said before anybody signs.
      const lacks = [refusalOf(a.plan?.dose), a.plan?.sites_refused].filter(Boolean);
      const stopped = stops.length + lacks.length > 0;
      const read = cautions.filter((/** @type {any} */ c) => !c.blocks_confirmation).map((/** @type {any} */ c) => {
        const [element, box] = [cautionNote(c, known), h('input', { type: 'checkbox', onchange: () => ready() })];
        element.append(h('label.choice', null, box, T.confirm.read));
        return { element, box };
      });
      // Whoever is signed in confirms in their own name, with the profession that the provider knows.
      const name = h('input', { type: 'text', required: true, maxlength: 200, autocomplete: 'name', oninput: () => ready(), value: signedIn?.name ?? '', readOnly: Boolean(signedIn) });
      const role = h('input', { type: 'text', required: true, maxlength: 200, oninput: () => ready(), value: signedIn?.role ?? '', readOnly: Boolean(signedIn?.role) });
      const confirm = h('button.primary', { type: 'button', disabled: true }, T.confirm.confirm);
      const open = form.open();
      const left = h('p.quiet', { 'aria-live': 'polite' });
      const ready = () => {
        const unread = read.filter((/** @type {any} */ r) => !r.box.checked).length;
        const nameless = !name.value.trim() || !role.value.trim();
        confirm.disabled = stopped || nameless || unread > 0;
        left.textContent = !stopped && (unread || nameless) ? T.confirm.left(unread, nameless) : '';
      };
      confirm.onclick = async () => {
        put(trouble);
        try {
          await post(`/analyses/${a.id}/confirmation`, { revision: a.revision, clinician: { name: name.value.trim(), role: role.value.trim() }, statement: T.confirm.statement }, { 'If-Match': etag });
          close(true);
        } catch (error) {
          put(trouble, problemNote(error));
        }
      };
      put(body,
        h('p', null, h('strong', null, patientOf(a)), ` · ${T.confirm.revision(a.revision)}`),
        h('p', null, T.confirm.what(targetName(known.names, a.request), unitsText(a.plan), sitesOf(a).length)),
        stopped ? [h('h3', null, T.confirm.stops), stops.map((/** @type {any} */ c) => cautionNote(c, known)),
          lacks.map((/** @type {any} */ l) => note(T.plan.stop, 'stop', h('p', null, l.reason), l.remedy ? h('p', null, l.remedy) : null)), h('p', null, T.confirm.stopsHint)] : null,
        open ? note(T.plan.unknownKind, 'caution', h('p', null, T.confirm.open(open))) : null,
        read.length ? [h('h3', null, T.confirm.cautions), read.map((/** @type {any} */ r) => r.element)] : null,
        h('div.pair', null, field(T.confirm.name, name), field(T.confirm.role, role)),
        h('p.quiet', null, T.confirm.statement));
      put(foot, left, cancel(), h('button', { type: 'button', onclick: first }, T.confirm.backToQuestions), confirm);
      ready();
    };
    first();
    return [foot];
  });
  return done === true;
}

/** What was really given, site by site. @param {any} a */
export async function recordAdministration(a) {
  const sites = sitesOf(a);
  const number = (/** @type {any} */ value) => h('input', { type: 'number', min: 0, step: 'any', value: value ?? '' });
  const rows = sites.map((site) => ({ site, given: h('input', { type: 'checkbox', checked: true, 'aria-label': T.administration.givenAt(site.number) }),
    units: number(site.units), ml: number(site.ml) }));
  rows.forEach((r) => {
    r.units.setAttribute('aria-label', T.administration.unitsAt(r.site.number));
    r.ml.setAttribute('aria-label', T.administration.mlAt(r.site.number));
  });
  const date = h('input', { type: 'date', value: new Date().toLocaleDateString('sv'), required: true });
  const lot = h('input', { type: 'text', maxlength: 200 });
  const expiry = h('input', { type: 'date' });
  const wastage = number('');
  const guidance = select([['ultrasound', T.administration.ultrasound], ['emg', 'EMG'], ['stimulation', T.administration.stimulation], ['none', T.administration.none]], 'ultrasound');
  const by = h('input', { type: 'text', maxlength: 200 });
  const remark = h('textarea', { rows: 2, maxlength: 200 });
  const trouble = h('div');
  return ask(T.administration.title, [
    h('p.quiet', null, T.administration.hint),
    h('table', null, h('thead', null, h('tr', null, [T.administration.given, T.plan.site, T.administration.unitsOf(a.request.product), T.plan.ml].map((x) => h('th', { scope: 'col' }, x)))),
      h('tbody', null, rows.map((r) => h('tr', null, h('td', null, r.given), h('th', { scope: 'row' }, String(r.site.number)), h('td', null, r.units), h('td', null, r.ml))))),
    h('div.pair', null, field(T.administration.date, date), field(T.administration.lot, lot), field(T.administration.expiry, expiry)),
    h('div.pair', null, field(T.administration.wastage, wastage), field(T.administration.guidance, guidance), field(T.administration.by, by)),
    field(T.administration.note, remark), trouble,
  ], (close) => [
    h('button', { type: 'button', onclick: () => close(false) }, T.cancel),
    h('button.primary', { type: 'button', onclick: async () => {
      put(trouble);
      try {
        await post(`/analyses/${a.id}/administration`, {
          product: a.request.product, given_on: date.value,
          sites: rows.filter((r) => r.given.checked && Number(r.units.value) > 0).map((r) => ({ number: r.site.number, units: Number(r.units.value), ...(r.ml.value ? { ml: Number(r.ml.value) } : {}) })),
          ...(lot.value ? { lot: lot.value } : {}), ...(expiry.value ? { expiry: expiry.value } : {}),
          ...(wastage.value ? { wastage_units: Number(wastage.value) } : {}), guidance: guidance.value,
          ...(by.value ? { given_by: by.value } : {}), ...(remark.value ? { note: remark.value } : {}),
        });
        close(true);
      } catch (error) {
        put(trouble, problemNote(error));
      }
    } }, T.administration.save),
  ]);
}

