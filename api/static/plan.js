// The plan in words, figures and one bar: pure readers of the plan document and what shows them.

import { field, h, s, newId, select } from './dom.js';
import { muscleList } from './form.js';
import { note, patientOf, restless, stateChip, targetName } from './parts.js';
import { T, number } from './texts.js';

/** @typedef {import('./reference.js').Reference} Reference */

// Reading -----------------------------------------------------------------------------------

/** @param {any} plan @returns {{ml: number, low: number | null, high: number | null, method: string, error: string} | null} */
function volumeOf(plan) {
  const v = plan?.volume;
  if (!v?.known) return null;
  const [low, high] = v.interval_ml ?? [null, null];
  return { ml: v.volume_ml, low, high, method: v.method ?? '', error: v.published_error ?? '' };
}

/** @param {any} plan */
function doseOf(plan) {
  const d = plan?.dose;
  if (!d?.planned) return null;
  const [low, high] = d.interval_units;
  return { ...d, low, high, from: d.label_min_units, to: d.label_max_units };
}

/** Why a part of the plan is missing. @param {any} part */
export const refusalOf = (part) => (part?.reason ? part : null);

/** @param {any} plan */
export function volumeText(plan) {
  const v = volumeOf(plan);
  if (!v) return T.plan.unknown;
  return `${number(v.ml, 1)} mL${v.low === null ? '' : ` (${number(v.low, 0)}–${number(v.high ?? 0, 0)})`}`;
}

/** @param {any} plan */
export function doseText(plan) {
  const d = doseOf(plan);
  return d ? `${number(d.units, 2)} ${d.product} ${T.plan.unitsWord} (${number(d.low, 1)}–${number(d.high, 1)})` : T.plan.noDose;
}

/** @param {any} plan */
export const unitsText = (plan) => {
  const d = doseOf(plan);
  return d ? `${number(d.units, 2)} ${d.product} ${T.plan.unitsWord}` : T.plan.noDose;
};

/** @param {any} a @returns {any[]} */
const rawSites = (a) => a.plan?.sites ?? [];

/** @param {any} a */
export const sitesOf = (a) =>
  rawSites(a).map((/** @type {any} */ raw) => ({
    raw,
    number: raw.number,
    frameKey: String(raw.frame_key),
    at: { column: raw.column, row: raw.row },
    units: raw.units ?? null,
    ml: raw.ml ?? null,
    bad: (raw.violations ?? []).length > 0,
    needle: raw.needle ? [{ column: raw.needle.entry_column, row: raw.needle.entry_row }, { column: raw.column, row: raw.row }] : null,
  }));

/** @param {any} analysis @param {number} n the frame's running number */
export const planFrame = (analysis, n) =>
  analysis.plan?.frames?.find((/** @type {any} */ f) => f.key === String(n)) ?? null;

/** The words that stand on every picture of an analysis. @param {any} analysis @returns {string[]} */
export function marksOf(analysis) {
  const marks = analysis.plan?.marks ?? [];
  if (analysis.state !== 'confirmed') return marks;
  const by = analysis.confirmation?.clinician?.name ?? analysis.confirmation?.by ?? '';
  return [T.marks.confirmed(by), ...marks.filter((/** @type {string} */ m) => !m.startsWith('SUGGESTION'))];
}

/** The sites on a frame; null: all. @param {any} a @param {string | null} key */
export const sitesOn = (a, key) => sitesOf(a).filter((/** @type {any} */ site) => key === null || site.frameKey === key);

/** @param {any} raw a site of the plan */
export const siteText = (raw) =>
  [raw.units === null ? '' : T.plan.u(raw.units), raw.depth_mm === null ? '' : T.mm(Math.round(raw.depth_mm))].filter(Boolean).join(' · ');

// Showing -----------------------------------------------------------------------------------

/** Source ids as words that open their citation. @param {string[]} ids @param {Reference} known */
export function sourceList(ids, known) {
  return h('span.source', null, `${T.plan.source} `, ids.map((id, i) => {
    const source = known.sources[id];
    const place = newId('source');
    const more = h('span', { id: place, hidden: true }, source ? ` — ${source.citation}${source.url ? ` ${source.url}` : ''} ` : T.plan.unknownSource);
    const button = h('button.link', { type: 'button', 'aria-expanded': 'false', 'aria-controls': place, onclick: () => {
      more.hidden = !more.hidden;
      button.setAttribute('aria-expanded', String(!more.hidden));
    } }, id);
    return [i ? ', ' : '', button, more];
  }));
}

/** @param {any} caution @param {Reference} known */
export function cautionNote(caution, known) {
  const ids = (caution.source ?? '').split(';').filter((/** @type {string} */ id) => known.sources[id]);
  return note(caution.blocks_confirmation ? T.plan.stop : T.plan.caution, caution.blocks_confirmation ? 'stop' : 'caution',
    h('p', null, caution.text), ids.length ? sourceList(ids, known) : null);
}

/**
 * The three figures that matter, always in sight; a what-if's beside them.
 * @param {any} a @param {Reference} known @param {any} whatIf
 */
export function headline(a, known, whatIf) {
  const plan = a.plan;
  const v = volumeOf(plan);
  const d = doseOf(plan);
  const w = whatIf ? doseOf(whatIf) : null;
  const sites = rawSites(a);
  const area = plan?.frames?.find((/** @type {any} */ f) => f.section?.area_mm2)?.section;
  const second = v || !area ? [T.plan.volume, v ? `${number(v.ml, 1)} mL` : T.plan.unknown, v && v.low !== null ? `${number(v.low, 0)}–${number(v.high ?? 0, 0)} mL` : '']
    : a.plan?.target?.view === 'long_axis' ? [T.plan.thickness, `${number(area.thickness_mm, 1)} mm`, T.plan.volumeUnknown] : [T.plan.area, `${number(area.area_mm2 / 100, 2)} cm²`, T.plan.volumeUnknown];
  return [
    h('div.title', null,
      h('div', null, h('h1', { tabindex: -1 }, targetName(known.names, a.request)),
        h('p.quiet', null, patientOf(a))),
      h('div.row', null, stateChip(a.state), h('span.quiet', null, T.list.revision(a.revision)))),
    plan ? h('dl.figures', null,
      h('div', null, h('dt', null, second[0]), h('dd', { id: 'figure-volume' }, second[1], second[2] ? h('span.span', null, second[2]) : null)),
      h('div', null, h('dt', null, T.plan.dose), h('dd', { id: 'figure-dose' }, d ? `${number(d.units, 2)} U` : T.plan.noDoseShort,
        h('span.span', null, d ? [h('span', null, d.product), ' ', h('span', null, `${number(d.low, 1)}–${number(d.high, 1)} U`)] : '', whatIf ? h('span.span.if', { id: 'what-if' }, w ? T.plan.ifText(number(w.units, 2), w.product) : T.plan.ifNone(refusalOf(whatIf.dose)?.reason ?? '')) : null))),
      h('div', null, h('dt', null, T.plan.sites), h('dd', { id: 'figure-sites' }, String(sites.length || '—'),
        h('span.span', null, d?.total_ml ? `${number(d.total_ml, 2)} mL` : '')))) : null,
    whatIf && w ? doseBar(d ?? w, d ? w : null) : null,
  ];
}

/** @param {number} value @param {number} most */
const x = (value, most) => 8 + (284 * value) / most;

/**
 * The dose as a mark inside the label's range, with each clamp where it bit.
 * @param {any} d @param {any} [w] a what-if's dose
 */
function doseBar(d, w) {
  const most = Math.max(d.to ?? 0, d.high ?? 0, d.units, w?.units ?? 0, ...d.adjustments.map((/** @type {any} */ c) => Math.max(c.before_units, c.after_units)), 1) * 1.08;
  const clamps = d.adjustments.filter((/** @type {any} */ c) => c.after_units < c.before_units);
  const caps = (d.caps ?? []).filter((/** @type {any} */ c) => c.left_units <= most);
  const name = T.plan.barName(number(d.units, 2), d.product, number(d.from ?? 0, 1), number(d.to ?? 0, 1));
  return h('div.dosebar', null, s('svg', { viewBox: '0 0 300 62', role: 'img', 'aria-label': name },
    s('rect.range', { x: x(d.from ?? 0, most), y: 22, width: Math.max(2, x(d.to ?? 0, most) - x(d.from ?? 0, most)), height: 16, rx: 3 }),
    s('rect.band', { x: x(d.low, most), y: 24, width: Math.max(1, x(d.high, most) - x(d.low, most)), height: 12 }),
    s('line.axis', { x1: 8, x2: 292, y1: 42, y2: 42 }),
    clamps.map((/** @type {any} */ c) => s('line.clamp', { x1: x(c.after_units, most), x2: x(c.after_units, most), y1: 14, y2: 46 })),
    s('path.dose', { d: `M${x(d.units, most)} 40l-6 -10v-14h12v14z` }),
    caps.map((/** @type {any} */ c) => s('path.cap', { d: `M${x(c.left_units, most)} 16v30` }, s('title', null, c.text))),
    w ? s('path.what', { d: `M${x(w.units, most)} 44l-6 10h12z` }) : null,
    s('text', { x: x(d.units, most), y: 11, 'text-anchor': x(d.units, most) > 250 ? 'end' : x(d.units, most) < 40 ? 'start' : 'middle' }, `${number(d.units, 2)} U`),
    s('text.quiet', { x: x(d.from ?? 0, most), y: 56, 'text-anchor': 'middle' }, number(d.from ?? 0, 1)),
    s('text.quiet', { x: x(d.to ?? 0, most), y: 56, 'text-anchor': 'middle' }, number(d.to ?? 0, 1))));
}

/**
 * Refusals and abstentions, plainly, with the way out.
 * @param {any} a @param {Reference} known
 * @param {{use: (tool: any) => void, tabs: any, send: (change: any, empty?: boolean) => void, takeRuler: (ruler: any, mm: number) => void}} page
 */
export function wayOut(a, known, page) {
  if (restless(a.state)) return h('p.quiet', null, T.plan.soon);
  const tool = (/** @type {string} */ name) => h('button', { type: 'button', onclick: () => { page.use(name); document.querySelector('.viewport')?.scrollIntoView({ block: 'nearest' }); /** @type {any} */ (document.querySelector('.viewport')).focus(); } }, T.tool(`do_${name}`));
  const again = () => h('button', { type: 'button', onclick: () => page.send({}, true) }, T.plan.again);
  const inputs = () => h('button', { type: 'button', onclick: () => page.tabs.choose('inputs', true) }, T.tabs.inputs);
  if (a.state === 'abstained') {
    const said = a.plan?.abstention;
    return note(T.states.abstained, 'stop', h('p', null, said?.text ?? T.plan.abstained), h('p', null, T.plan.abstainedOut), h('div.row', null, tool('add'), tool('outline')));
  }
  if (a.state === 'needs_calibration') {
    const frames = a.plan?.frames ?? [];
    const problem = frames.find((/** @type {any} */ f) => f.calibration?.problem)?.calibration.problem;
    const ruler = frames.find((/** @type {any} */ f) => f.calibration?.ruler)?.calibration.ruler;
    return [
      note(T.states.needs_calibration, 'stop', h('p', null, T.plan.noCalibration), problem ? h('p', null, problem) : null, h('p', null, T.plan.noCalibrationOut), h('div.row', null, tool('ruler'))),
      ruler ? rulerOffer(ruler, (mm) => page.takeRuler(ruler, mm)) : null,
    ];
  }
  if (a.state === 'needs_target') return targetAsked(a, known, page, tool('add'));
  if (a.state === 'failed' || a.state === 'refused') {
    const p = a.problem ?? {};
    return note(T.states[a.state], 'stop', h('p', null, p.detail ?? T.plan.failed), p.remedy ? h('p', null, `${T.problem.remedy} ${p.remedy}`) : null, h('div.row', null, inputs(), again()));
  }
  if (a.state === 'cancelled') return note(T.states.cancelled, 'info', h('p', null, T.plan.cancelled), h('div.row', null, again()));
  if (a.stale?.length) return note('', 'caution', h('p', null, T.plan.stale), h('div.row', null, again()));
  return null;
}

/**
 * A pushed study that waits: what is missing of its target, chosen here.
 * @param {any} a @param {Reference} known @param {{send: (change: any) => void}} page @param {any} point
 */
function targetAsked(a, known, page, point) {
  const { muscle, side } = a.request;
  const pointed = Boolean(a.request.clicks?.length || a.request.outlines?.length);
  const chosen = muscleList(known, muscle);
  const sides = select([['', T.form.chooseSide], ['left', T.sides.left], ['right', T.sides.right]], side);
  const ask = (/** @type {string} */ name) => a.missing.includes(name);
  const start = h('button.primary', { type: 'button', disabled: true, onclick: () => page.send({
    ...(chosen.value ? { muscle: chosen.value } : {}), ...(sides.value ? { side: sides.value } : {}) }) }, T.plan.start);
  const ready = () => { start.disabled = (ask('muscle') && !chosen.value) || (ask('side') && !sides.value); };
  for (const choice of [chosen, sides]) choice.addEventListener('change', ready);
  ready();
  return note(T.states.needs_target, 'info',
    h('p', null, T.plan.needsTarget, ' ', T.list.waitsFor(ask('muscle'), ask('side')), '.'),
    field(T.form.muscle, chosen), ask('side') || side ? field(T.form.side, sides) : h('p', null, T.plan.sideOfImage(T.sides[a.image_side] ?? '')),
    h('p.quiet', null, pointed ? T.plan.hasClick : T.plan.needsClick), h('div.row', null, pointed ? null : point, start));
}

/** A ruler that was found in the picture: a person says what its ticks mean, or leaves it.
 * @param {any} ruler @param {(mm: number) => void} take */
function rulerOffer(ruler, take) {
  const [a, b] = ruler.points;
  const lengthPx = Math.hypot(a.column - b.column, a.row - b.row);
  const length = (/** @type {number} */ step) => step * (ruler.ticks - 1);
  const step = select([['', T.plan.chooseStep], ...['10', '5', '2', '1'].map((mm) => /** @type {[string, string]} */ ([mm, T.mm(Number(mm))]))], '');
  const said = h('p', { 'aria-live': 'polite' });
  const yes = h('button.primary', { type: 'button', disabled: true, onclick: () => take(length(Number(step.value))) }, T.plan.useRuler);
  step.addEventListener('change', () => {
    yes.disabled = !step.value;
    said.textContent = step.value ? T.plan.rulerMeans((10 * lengthPx) / length(Number(step.value)), length(Number(step.value))) : '';
  });
  return note(T.plan.rulerFound, 'info', h('p', null, T.plan.rulerText(ruler.ticks)), field(T.plan.rulerStep, step), said, h('div.row', null, yes));
}

/**
 * @param {any} a @param {Reference} known @param {any} f the plan's part on the frame shown
 * @param {{explain: () => void, answer: () => void, inputs: () => void}} go
 */
export function planPanel(a, known, f, go) {
  const plan = a.plan;
  if (!plan) return [];
  const open = plan.unanswered ?? [];
  const measured = volumeOf(plan) !== null;
  // An abstention is said once, at the head.
  const cautions = (plan.cautions ?? []).filter((/** @type {any} */ c) => !c.blocks_confirmation && !(plan.abstention && c.text.includes(plan.abstention.text)));
  return [
    (plan.cautions ?? []).filter((/** @type {any} */ c) => c.blocks_confirmation).map((/** @type {any} */ c) => cautionNote(c, known)),
    open.length && a.state === 'draft' ? note(T.plan.unknownKind, 'caution', h('p', null, T.plan.unanswered(open.length)),
      h('details', null, h('summary', null, T.plan.openQuestions), h('ul', null, open.map((/** @type {any} */ q) => h('li', null, q.text)))), h('div.row', null, h('button', { type: 'button', onclick: go.answer }, T.plan.answer))) : null,
    a.confirmation ? note(T.states.confirmed, 'good', h('p', null, T.plan.confirmedBy(a.confirmation))) : null,
    plan.abstention ? null : a.state === 'needs_target' ? h('div', { id: 'section' }, sectionFacts(f)) : h('div.stack', null,
      h('h2', null, T.plan.volume), volumePart(plan, go.inputs), h('div', { id: 'section' }, sectionFacts(f)),
      h('h2', null, T.plan.dose), dosePart(plan, known, go.inputs),
      h('h2', null, T.plan.sites), sitesPart(a)),
    a.confirmation ? h('div.stack', { id: 'deliveries' }) : null,
    measured ? h('div.stack', { id: 'compared' }) : null,
    cautions.length ? [h('h2', null, T.plan.cautions), cautions.map((/** @type {any} */ c) => cautionNote(c, known))] : null,
    plan.abstention ? null : h('button', { type: 'button', onclick: go.explain }, T.plan.explain),
    h('p.source', null, plan.intended_use ?? ''),
  ];
}

/** What was measured on one frame. @param {any} f */
export function sectionFacts(f) {
  const section = f?.section;
  const mm = (/** @type {string} */ name, /** @type {any} */ value, /** @type {string} */ unit, digits = 1) =>
    value === null || value === undefined ? [] : [h('dt', null, name), h('dd', null, `${number(value, digits)} ${unit}`)];
  return section ? h('dl.facts', null,
    mm(T.plan.area, section.area_mm2 === null ? null : section.area_mm2 / 100, 'cm²', 2),
    mm(T.plan.thickness, section.thickness_mm, 'mm'), mm(T.plan.width, section.width_mm, 'mm'), mm(T.plan.depth, section.depth_mm, 'mm'),
    section.area_mm2 === null ? mm(T.plan.area, section.area_px, 'px²', 0) : []) : null;
}

/** @param {() => void} inputs */
const toInputs = (inputs) => h('div.row', null, h('button', { type: 'button', onclick: inputs }, T.plan.fillIn));

/** @param {any} plan @param {() => void} inputs */
function volumePart(plan, inputs) {
  const v = volumeOf(plan);
  const why = refusalOf(plan.volume);
  return h('div.stack', null,
    v ? h('p', null, h('strong', null, volumeText(plan)), ` · ${T.methods[v.method] ?? v.method.replaceAll('_', ' ')}`, v.error ? h('span.source', null, h('br'), v.error) : null)
      : note(T.plan.volumeUnknown, 'caution', h('p', null, why?.reason ?? T.plan.unknown), why?.remedy ? h('p', null, why.remedy) : null, toInputs(inputs)),
    v && plan.volume.refused_methods?.length ? h('details', null, h('summary', null, T.plan.otherMethods), plan.volume.refused_methods.map((/** @type {any} */ r) => h('p.source', null, `${T.methods[r.method] ?? r.method}: ${r.reason}`))) : null);
}

/** @param {any} plan @param {Reference} known @param {() => void} inputs */
function dosePart(plan, known, inputs) {
  const d = doseOf(plan);
  if (!d) {
    const why = refusalOf(plan.dose);
    return note(T.plan.noDose, 'stop', h('p', null, why?.reason ?? T.plan.unknown),
      why?.missing_field ? h('p.source', null, `${T.plan.missing} ${T.conflict.part(why.missing_field)}`) : null,
      why?.remedy ? h('p', null, `${T.problem.remedy} ${why.remedy}`) : null,
      why?.available_from ? h('p', null, T.plan.availableFrom(why.available_from)) : null, toInputs(inputs));
  }
  return h('div.stack', null,
    h('p', null, h('strong', null, doseText(plan))),
    doseBar(d),
    h('p.source', null, T.plan.labelRange(number(d.from ?? 0, 1), number(d.to ?? 0, 1)), d.grade ? ` · ${T.grades[d.grade] ?? d.grade}` : ''),
    sourceList(d.sources, known),
    d.below_label_min ? note('', 'caution', h('p', null, T.plan.belowMin)) : null,
    d.group ? note('', 'info', h('p', null, T.plan.group(known.names[d.group] ?? d.group))) : null,
    d.adjustments.length ? h('ol.stack', { 'aria-label': T.plan.adjustments }, d.adjustments.map((/** @type {any} */ c) =>
      h('li', null, h('strong', null, `${number(c.before_units, 2)} → ${number(c.after_units, 2)} U`), ` ${c.text || c.reason.replaceAll('_', ' ')} `, c.sources?.length ? sourceList(c.sources, known) : null))) : null);
}

/** @param {string[] | undefined} words */
const sourced = (words) => (words ?? []).map((w) => h('p.source', null, w));

/** @param {any} a */
function sitesPart(a) {
  const sites = sitesOf(a);
  const refused = a.plan.sites_refused;
  if (!sites.length) return note('', 'caution', h('p', null, refused?.reason ?? T.plan.noSites), refused?.remedy ? h('p', null, refused.remedy) : null);
  const cell = (/** @type {any} */ value, digits = 1) => h('td.number', null, value === null || value === undefined ? '—' : number(value, digits));
  return h('div.stack', null, h('div.wide', null, h('table', { id: 'sites' },
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, T.plan.site), [T.plan.unitsShort, T.plan.ml, T.plan.depthMm, T.plan.marginMm, T.plan.angle].map((name) => h('th.number', { scope: 'col' }, name)))),
    h('tbody', null, sites.map((site) => [
      h('tr', null, h('th', { scope: 'row' }, String(site.number), site.raw.by_hand ? ` ${T.plan.byHand}` : ''),
        cell(site.units, 2), cell(site.ml, 2), cell(site.raw.depth_mm), cell(site.raw.margin_mm), h('td.number', null, site.raw.needle ? `${number(site.raw.needle.angle_deg, 0)}°` : '—')),
      site.bad ? h('tr', null, h('td', { colspan: 6 }, note(T.plan.violation, 'stop', site.raw.violations.map((/** @type {string} */ v) => h('p', null, v))))) : null,
    ])))),
  sourced(a.plan.site_notes),
  a.plan.endplates?.length ? h('details', null, h('summary', null, T.plan.endplates), sourced(a.plan.endplates)) : null);
}
