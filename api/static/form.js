// The clinical inputs: one form for upload, plan and what-if. Empty stays absent, which is unknown.

import { h, field, select, put } from './dom.js';
import { evidenceOf } from './reference.js';
import { T } from './texts.js';

/** @typedef {import('./reference.js').Reference} Reference */

const MAS = ['0', '1', '1+', '2', '3', '4'];
const REGIONS = ['upper_limb', 'lower_limb', 'neck'];

/** The muscles and groups by limb, each with the products that have a row for it.
 * @param {Reference} known @param {string | undefined} value @param {import('./dom.js').Props} [props] */
export function muscleList(known, value, props) {
  const list = h('select', props, h('option', { value: '' }, T.form.chooseMuscle),
    [...new Set([...REGIONS, ...known.muscles.map((m) => m.limb)])].map((limb) =>
      h('optgroup', { label: T.limbs[limb] ?? limb },
        known.muscles.filter((m) => m.limb === limb)
          .sort((a, b) => (known.names[a.name] < known.names[b.name] ? -1 : 1))
          .map((m) => h('option', { value: m.name }, `${known.names[m.name]} — ${evidenceOf(known, m.name) || T.form.noRow}`)))));
  list.value = value ?? '';
  return list;
}

/**
 * @param {Reference} known
 * @param {any} request what is asked now
 * @param {() => void} onchange
 * @param {string[]} [needed] what of the target must be named
 */
export function inputsForm(known, request, onchange, needed = ['muscle', 'side']) {
  const given = request ?? {};
  const patient = given.patient ?? {};
  const changed = () => onchange();
  const text = (/** @type {any} */ value, /** @type {any} */ more = {}) =>
    h('input', { type: 'text', value: value ?? '', maxlength: 200, oninput: changed, autocomplete: 'off', ...more });
  const figure = (/** @type {any} */ value, /** @type {any} */ more = {}) =>
    h('input', { type: 'number', value: value ?? '', inputmode: 'decimal', step: 'any', min: 0, placeholder: T.form.unknown, oninput: changed, ...more });
  /** A number with a slider beside it. @param {any} input @param {string} name */
  const sliding = (input, name) => {
    const slider = h('input', { type: 'range', min: input.min, max: input.max, step: input.dataset.step ?? 1,
      'aria-label': T.form.slider(name), oninput: () => { input.value = slider.value; changed(); } });
    const follow = () => { slider.value = input.value || input.min; };
    input.addEventListener('input', follow);
    follow();
    return h('div', null, field(name, input), slider);
  };

  const muscle = muscleList(known, given.muscle, { required: true, onchange: changed });
  const side = select([['', T.form.chooseSide], ['left', T.sides.left], ['right', T.sides.right]], given.side, { required: true, onchange: changed });
  const view = select([['', T.form.viewAuto], ['short_axis', T.views.short_axis], ['long_axis', T.views.long_axis]], given.view, { onchange: changed });
  const product = select([['', T.form.noProduct], ...known.products.map((p) => /** @type {[string, string]} */ ([p.name ?? p.product, p.name ?? p.product]))], given.product,
    { onchange: () => { indications(); changed(); } });
  const indication = h('select', { onchange: changed });
  const indications = () => {
    const of = (/** @type {any} */ p) => (p.indications ?? []).map((/** @type {any} */ i) => (typeof i === 'string' ? i : i.indication));
    const names = [...new Set(known.products.filter((p) => !product.value || (p.name ?? p.product) === product.value).flatMap(of))];
    const before = indication.value || given.indication || '';
    if (before && !names.includes(before)) names.push(before);
    put(indication, h('option', { value: '' }, T.form.noIndication),
      names.map((n) => h('option', { value: n }, T.indications[n] ?? n.replaceAll('_', ' '))));
    indication.value = before;
  };
  indications();
  const jurisdiction = text(given.jurisdiction ?? 'US', { size: 4, maxlength: 8 });
  const offLabel = h('input', { type: 'checkbox', checked: given.off_label ?? false, onchange: changed });
  const id = text(patient.id);
  const name = text(patient.name);
  const born = h('input', { type: 'date', value: patient.birth_date ?? '', onchange: changed });
  const age = figure(patient.age_years, { max: 130 });
  const weight = figure(patient.weight_kg, { min: 2, max: 180 });
  weight.dataset.step = '0.5';
  const height = figure(patient.height_m === undefined || patient.height_m === null ? '' : +(patient.height_m * 100).toFixed(1), { max: 280 });
  const severity = select([['', T.form.severityUnknown], ...MAS.map((v) => /** @type {[string, string]} */ ([v, `MAS ${v}`]))], given.severity?.value, { onchange: () => { severitySlider.value = String(MAS.indexOf(severity.value)); changed(); } });
  const severitySlider = h('input', { type: 'range', min: 0, max: MAS.length - 1, step: 1, value: String(Math.max(0, MAS.indexOf(given.severity?.value))),
    'aria-label': T.form.slider(T.form.severity), oninput: () => { severity.value = MAS[Number(severitySlider.value)]; changed(); } });
  const units = figure(given.dilution?.units, { max: 1000 });
  const ml = figure(given.dilution?.ml, { min: 0.5, max: 10 });
  ml.dataset.step = '0.5';
  const limb = figure(given.limb_length_mm, { max: 1500 });
  const length = figure(given.muscle_length_mm, { max: 1000 });
  const factor = figure(given.shape_factor?.value, { max: 1 });
  const factorSource = text(given.shape_factor?.source);
  const spacing = figure(given.sweep?.spacing_mm, { max: 200 });
  const measures = [...new Set([...(known.tables.equations ?? []).map((/** @type {any} */ e) => e.measurement), ...Object.keys(given.measurements_mm ?? {})])]
    .filter(Boolean).map((key) => ({ key, input: figure(given.measurements_mm?.[key], { max: 1000 }) }));

  const element = h('div.stack', null,
    h('fieldset', null, h('legend', null, T.form.target),
      field(T.form.muscle, muscle), h('div.pair', null, field(T.form.side, side), field(T.form.view, view))),
    h('fieldset', null, h('legend', null, T.form.treatment),
      field(T.form.product, product), field(T.form.indication, indication),
      h('div.pair', null, h('div', null, field(T.form.severity, severity), severitySlider), sliding(weight, T.form.weight)),
      h('div.pair', null, field(T.form.dilutionUnits, units), sliding(ml, T.form.dilutionMl)),
      h('div.pair', null, field(T.form.age, age), field(T.form.height, height)),
      h('div.pair', null, field(T.form.jurisdiction, jurisdiction), h('label.choice', null, offLabel, T.form.offLabel))),
    h('fieldset', null, h('legend', null, T.form.size),
      h('div.pair', null, field(T.form.limbLength, limb), field(T.form.muscleLength, length)),
      h('details', null, h('summary', null, T.form.moreSize),
        h('div.stack', null,
          h('div.pair', null, field(T.form.shapeFactor, factor), field(T.form.shapeSource, factorSource)),
          field(T.form.spacing, spacing),
          measures.map(({ key, input }) => field(T.form.measurement(key.replaceAll('_', ' ')), input))))),
    h('fieldset', null, h('legend', null, T.form.patient),
      h('div.pair', null, field(T.form.patientId, id), field(T.form.patientName, name)), field(T.form.birthDate, born)));

  /** @param {any} input */
  const number = (input) => (input.value === '' ? null : Number(input.value));
  /** @param {Record<string, any>} part null if all is absent */
  const part = (part) => {
    const filled = Object.fromEntries(Object.entries(part).filter(([, v]) => v !== null && v !== ''));
    return Object.keys(filled).length ? filled : null;
  };

  /** The request's clinical parts as they stand in the form. */
  const read = () => ({
    muscle: muscle.value || null, side: side.value || null, view: view.value || null,
    product: product.value || null, indication: indication.value || null,
    jurisdiction: jurisdiction.value.trim() || 'US', off_label: offLabel.checked,
    patient: part({ ...(patient.issuer ? { issuer: patient.issuer } : {}), id: id.value.trim(), name: name.value.trim(), birth_date: born.value,
      age_years: number(age), weight_kg: number(weight), height_m: height.value === '' ? null : +(Number(height.value) / 100).toFixed(4) }),
    severity: severity.value ? { scale: 'MAS', value: severity.value } : null,
    dilution: number(units) && number(ml) ? { units: number(units), ml: number(ml) } : null,
    limb_length_mm: number(limb), muscle_length_mm: number(length),
    shape_factor: number(factor) && factorSource.value.trim() ? { value: number(factor), source: factorSource.value.trim() } : null,
    sweep: number(spacing) ? { ...given.sweep, spacing_mm: number(spacing) } : null,
    measurements_mm: part(Object.fromEntries(measures.map(({ key, input }) => [key, number(input)]))),
  });

  const complete = () => (muscle.value !== '' || !needed.includes('muscle')) && (side.value !== '' || !needed.includes('side'));
  return { element, read, complete, first: muscle };
}

/** A request without what is null. @param {Record<string, any>} request */
export const bare = (request) =>
  Object.fromEntries(Object.entries(request).filter(([, v]) => v !== null && v !== undefined && v !== ''));

/** The clinical parts of a request, in the shape that `read` gives. @param {any} request */
export function clinicalOf(request) {
  const r = request ?? {};
  return {
    muscle: r.muscle ?? null, side: r.side ?? null, view: r.view ?? null, product: r.product ?? null,
    indication: r.indication ?? null, jurisdiction: r.jurisdiction ?? 'US', off_label: r.off_label ?? false,
    patient: r.patient && Object.values(r.patient).some((v) => v !== null) ? r.patient : null,
    severity: r.severity ?? null, dilution: r.dilution ?? null,
    limb_length_mm: r.limb_length_mm ?? null, muscle_length_mm: r.muscle_length_mm ?? null,
    shape_factor: r.shape_factor ?? null, sweep: r.sweep ?? null,
    measurements_mm: r.measurements_mm && Object.keys(r.measurements_mm).length ? r.measurements_mm : null,
  };
}
