// One study: the picture, the plan beside it, and everything that a clinician does to them.

import { ApiProblem, blob, follow, me, patch, post, save, tagged } from './api.js';
import { compared, deliveries } from './beside.js';
import { Cine } from './cine.js';
import { confirmPlan, recordAdministration } from './confirm.js';
import { h, newId, put, settle } from './dom.js';
import { downloads } from './downloads.js';
import { difference, editsOf, History, same } from './edits.js';
import { clinicalOf, inputsForm } from './form.js';
import { FrameStore } from './frames.js';
import * as g from './geometry.js';
import { revisionsPanel } from './revisions.js';
import { ask, muscleName, note, problemNote, restless, tabs, toast } from './parts.js';
import { LAYERS, Picture } from './picture.js';
import { headline, marksOf, planFrame, planPanel, sectionFacts, siteText, sitesOn, wayOut } from './plan.js';
import { reference } from './reference.js';
import { violations } from './siting.js';
import { NONE, structuresOf } from './structures.js';
import { T } from './texts.js';
import { understandPanel } from './understand.js';

const STAGES = ['decode', 'calibrate', 'segment', 'measure', 'plan', 'render'];
const WAIT = 'wait=5';

/** The frames of all files in their running order. @param {any} analysis
 * @returns {{file: string, frame: number}[]} */
export const framesOf = (analysis) =>
  (analysis.files ?? []).flatMap((/** @type {any} */ file) =>
    Array.from({ length: file.frame_count },
      (_, frame) => ({ file: file.name, frame })));

/**
 * @param {HTMLElement} root @param {string} id @param {URLSearchParams} params
 * @returns {() => void} what to do on leaving
 */
export function study(root, id, params) {
  const page = new StudyPage(root, id, params);
  page.open();
  return () => page.leave();
}

class StudyPage {
  // Made in `build` and while the page lives.
  /** @type {any[]} */ toolButtons = [];
  /** @type {any} */ tabs;
  /** @type {any} */ panels;
  /** @type {any} */ form;
  /** @type {string | null} */ stage = null;
  /** @type {import('./picture.js').Tool} */ tool = 'look';
  clip = new Cine((n) => this.go(n), () => this.chooseFrame());
  lost = false;
  /** @type {Promise<void>} the first frame's coming */ shown = Promise.resolve();
  ahead = false;
  reopened = false;
  drawing = false;
  nodesFrame = 0;
  asked = 0;

  /** @param {HTMLElement} root @param {string} id @param {URLSearchParams} params */
  constructor(root, id, params) {
    this.root = root;
    this.id = id;
    /** @type {any} */
    this.a = null;
    this.etag = '';
    this.frame = Number(params.get('frame') ?? -1);
    this.tab = params.get('tab') ?? 'plan';
    this.history = new History(editsOf({}));
    /** @type {{file: string, frame: number}[]} */
    this.frames = [];
    /** @type {FrameStore | null} */
    this.store = null;
    /** @type {g.ImagePoint[]} */
    this.rulerPoints = [];
    /** @type {g.Polygon | null} */
    this.nodes = null;
    /** @type {Map<string, any>} */
    this.structures = new Map();
    this.left = false;
    this.syncing = false;
    /** @type {any} what-if answer while the form differs */
    this.whatIf = null;
    /** @type {(() => void) | null} */
    this.unfollow = null;
    /** @type {any} */
    this.reference = null;
    /** @type {any} */
    this.me = null;
    /** @type {g.ImagePoint | null} */
    this.dragged = null;
    this.draggedNumber = 0;
    this.picture = new Picture({
      click: (at, positive) => this.clicked(at, positive),
      point: (at) => this.pointed(at),
      drag: (kind, index, at, done) => this.drag(kind, index, at, done),
      drop: (kind, index) => this.drop(kind, index),
      cine: (steps) => this.clip.step(steps),
      key: (key) => this.key(key),
    });
    this.build();
  }

  build() {
    const tool = (/** @type {import('./picture.js').Tool} */ name, /** @type {string} */ key) =>
      h('button', { type: 'button', 'aria-pressed': 'false', 'data-tool': name, title: T.tools.title(T.tool(name), key),
        onclick: () => this.use(name) }, T.tool(name));
    this.toolButtons = [tool('look', 'L'), tool('add', 'A'), tool('remove', 'R'), tool('outline', 'O'), tool('ruler', 'M')];
    this.undoButton = h('button', { type: 'button', 'aria-label': T.tools.undo, title: T.tools.title(T.tools.undo, 'Ctrl Z'), onclick: () => this.undo() }, '↶');
    this.redoButton = h('button', { type: 'button', 'aria-label': T.tools.redo, title: T.tools.title(T.tools.redo, 'Ctrl Y'), onclick: () => this.redo() }, '↷');
    const zoom = (/** @type {string} */ sign, /** @type {string} */ name, /** @type {() => void} */ act) =>
      h('button', { type: 'button', 'aria-label': name, title: name, onclick: act }, sign);
    const contrast = h('input', { type: 'range', min: 40, max: 300, value: 100, oninput: () => show() });
    const gain = h('input', { type: 'range', min: 40, max: 300, value: 100, oninput: () => show() });
    const show = () => this.picture.window(Number(contrast.value), Number(gain.value));
    const layerMenu = h('div.group', null, LAYERS.map((layer) =>
      h('label.choice', null, h('input', { type: 'checkbox', checked: this.picture.layers.has(layer), 'data-layer': layer,
        onchange: (/** @type {any} */ event) => {
          if (event.target.checked) this.picture.layers.add(layer); else this.picture.layers.delete(layer);
          this.picture.redraw();
        } }), T.layers[layer])));
    const view = h('details', null, h('summary', null, T.tools.view),
      h('div.row', null, layerMenu,
        h('label.slider', null, T.tools.window, contrast), h('label.slider', null, T.tools.gain, gain),
        h('button', { type: 'button', onclick: () => { contrast.value = gain.value = '100'; show(); } }, T.tools.reset)));
    this.bar = h('div.bar', { role: 'toolbar', 'aria-label': T.tools.name },
      h('div.group', null, this.toolButtons), h('div.group', null, this.undoButton, this.redoButton),
      h('div.group', null, zoom('+', T.tools.zoomIn, () => this.picture.zoom(1.25)), zoom('−', T.tools.zoomOut, () => this.picture.zoom(0.8)), zoom(T.tools.whole, T.tools.fit, () => this.picture.fit())),
      view);
    this.modeBar = h('div.bar.mode');
    this.busy = h('div.busy', { hidden: true });
    this.picture.element.append(this.busy);

    const cineAndMode = h('div', null, this.modeBar, this.clip.element);

    this.headline = h('div.headline', { 'aria-live': 'polite' });
    this.panels = { plan: h('div'), inputs: h('div'), understand: h('div'), revisions: h('div') };
    this.tabs = tabs(T.tabs.name, [
      ['plan', T.tabs.plan, this.panels.plan], ['inputs', T.tabs.inputs, this.panels.inputs],
      ['understand', T.tabs.understand, this.panels.understand], ['revisions', T.tabs.revisions, this.panels.revisions],
    ], this.tab in this.panels ? this.tab : 'plan', (key) => { this.tab = key; this.opened(key); this.address(); });
    this.actions = h('div.actions');
    this.trouble = h('div', { role: 'status' });
    put(this.root, h('div.study-page', null,
      h('section.look', { 'aria-label': T.picture.section, onkeydown: (/** @type {KeyboardEvent} */ event) => this.shortcut(event) }, this.bar, this.picture.element, cineAndMode),
      h('section.pane', { 'aria-label': T.planSection },
        h('div', null, this.headline, this.trouble), this.tabs.list,
        h('div.stack', { id: 'panels' }, ...Object.values(this.panels)), this.actions)));
  }

  async open() {
    try {
      const [found, known, who] = await Promise.all([tagged(`/analyses/${this.id}`), reference(), me()]);
      if (this.left) return;
      this.me = who;
      this.reference = known;
      this.frames = framesOf(found.body);
      this.store = new FrameStore((n) => `/analyses/${this.id}/frames/${n}.png`, this.frames.length, blob);
      this.take(found, true);
      document.addEventListener('visibilitychange', this.glance);
    } catch (error) {
      if (!this.left) put(this.root, h('div.page', null, problemNote(error), h('a.button', { href: '#/' }, T.back)));
    }
  }

  /** Looks whether somebody changed the study, when the eyes come back to it. */
  glance = () => {
    if (!document.hidden && this.a && !this.syncing && !restless(this.a.state)) this.reload().catch(() => {});
  };

  leave() {
    this.left = true;
    document.removeEventListener('visibilitychange', this.glance);
    this.unfollow?.();
    this.clip.stop();
    this.store?.close();
  }

  /** Takes over what the service says. @param {{etag: string, body: any}} found @param {boolean} [first] */
  take(found, first = false) {
    const before = this.a;
    this.a = found.body;
    this.etag = found.etag;
    if (first) this.history = new History(editsOf(this.a.request));
    else if (before.revision !== this.a.revision) {
      if (!this.syncing) this.history.rebase(editsOf(this.a.request));
      if (!same(clinicalOf(before.request), clinicalOf(this.a.request)) && !Object.keys(this.formChange()).length) this.makeForm();
    }
    // Confirmed, recorded or changed again: what the form says of itself changes with it.
    const closed = (/** @type {any} */ x) => (x.state === 'confirmed' ? 1 + x.administrations.length : 0);
    if (!first && closed(before) !== closed(this.a)) this.makeForm();
    if (first || this.frame < 0 || this.frame >= this.frames.length) {
      const inPlan = this.a.plan?.frames?.map((/** @type {any} */ f) => Number(f.key)) ?? [];
      const best = sitesOn(this.a, null)[0]?.frameKey ?? inPlan[Math.floor(inPlan.length / 2)] ?? 0;
      if (this.frame < 0 || this.frame >= this.frames.length) this.frame = Number(best);
    }
    const clip = this.frames.length > 1;
    this.clip.load(this.frames.length);
    this.picture.scrolls = clip;
    if (clip) {
      this.clip.mark((this.a.plan?.frames ?? []).map((/** @type {any} */ f) =>
        ({ at: Number(f.key), kind: sitesOn(this.a, f.key).length ? 'sited' : f.contours.length ? 'used' : 'dropped' })));
    }
    if (first) {
      this.makeForm();
      this.shown = this.go(this.frame);
      this.use('look');
    }
    // Where a click is what the study waits for, the next one counts.
    if ((first || restless(before.state)) && this.tool === 'look' && ['abstained', 'needs_target'].includes(this.a.state)) this.use('add');
    if (!this.editable && !['look', 'ruler'].includes(this.tool)) this.use('look');
    this.draw();
    this.tell();
    if (restless(this.a.state)) this.watch();
    else {
      this.unfollow?.();
      this.unfollow = null;
      this.busy.hidden = true;
      if (clip && !this.ahead) {
        // The first picture has the service to itself; the rest comes behind it.
        this.ahead = true;
        this.shown.then(() => this.store?.fetchAhead(this.frame));
      }
    }
  }

  /** To the next analysed frame. @param {number} way 1 or -1 */
  analysed(way) {
    const keys = (this.a.plan?.frames ?? []).map((/** @type {any} */ f) => Number(f.key));
    const next = keys.filter((/** @type {number} */ key) => way * (key - this.frame) > 0).sort((/** @type {number} */ x, /** @type {number} */ y) => way * (x - y))[0];
    if (next !== undefined) this.clip.step(next - this.frame);
  }

  async reload() {
    const found = await tagged(`/analyses/${this.id}`);
    if (!this.left) this.take(found);
    return this.a;
  }

  // Progress -------------------------------------------------------------------------------

  watch() {
    this.progress({});
    if (this.unfollow) return;
    this.unfollow = follow(this.id, {
      event: (news) => {
        if (this.left) return;
        this.progress(news);
        const state = news.state ?? '';
        if (state && !restless(state)) {
          this.unfollow?.();
          this.unfollow = null;
          this.reload().catch((error) => this.fail(error));
        }
      },
      lost: (lost) => {
        if (this.left) return;
        this.lost = lost;
        this.progress({});
      },
    });
  }

  /** @param {any} news */
  progress(news) {
    const state = news.state ?? this.a.state;
    const stage = news.stage ?? (state === 'running' ? this.stage : null);
    this.stage = stage;
    const at = STAGES.indexOf(stage);
    this.busy.hidden = false;
    put(this.busy,
      this.lost ? note(T.progress.lost, 'caution', h('p', null, T.progress.lostMore)) : null,
      h('p', null, state === 'queued' ? T.progress.queued(news.queue_position ?? this.a.progress?.queue_position, news.estimated_s) : T.progress.running(T.stages[stage] ?? '')),
      h('ol.stages', null, STAGES.slice(0, 5).map((s, i) => h('li', { 'data-done': i < at, 'aria-current': i === at ? 'step' : null }, T.stages[s]))),
      h('button', { type: 'button', onclick: () => this.cancel() }, T.progress.cancel));
  }

  async cancel() {
    try {
      await post(`/analyses/${this.id}/cancellation`, {});
      await this.reload();
    } catch (error) {
      this.fail(error);
    }
  }

  // Showing --------------------------------------------------------------------------------

  /** @param {unknown} error */
  fail(error) {
    put(this.trouble, problemNote(error), h('button', { type: 'button', onclick: () => put(this.trouble) }, T.dismiss));
  }

  get editable() {
    return this.a && (this.a.state !== 'confirmed' || (this.reopened && !this.a.administrations.length));
  }

  get scale() {
    return planFrame(this.a, this.frame)?.calibration?.used ?? this.a.plan?.frames?.[0]?.calibration?.used ?? null;
  }

  /** @param {number} n */
  async go(n) {
    if (!this.frames.length) return;
    this.frame = Math.min(Math.max(n, 0), this.frames.length - 1);
    this.clip.show(this.frame);
    const wanted = this.frame;
    const late = setTimeout(() => { this.picture.readout.textContent = T.loading; }, 300);
    if (this.nodes && this.nodesFrame !== wanted) this.nodes = null;
    try {
      const bitmap = await this.store?.get(wanted);
      if (this.left || !bitmap || wanted !== this.frame) return;
      this.picture.paint(bitmap);
      this.draw();
    } catch (error) {
      if (!this.left && !restless(this.a.state)) this.fail(error);
    } finally {
      clearTimeout(late);
      if (this.picture.readout.textContent === T.loading) this.picture.readout.textContent = '';
    }
    this.address();
  }

  address = settle(() => {
    if (this.left) return;
    const query = new URLSearchParams();
    if (this.frames.length > 1) query.set('frame', String(this.frame));
    if (this.tab !== 'plan') query.set('tab', this.tab);
    const text = query.toString();
    history.replaceState(null, '', `#/analyses/${this.id}${text ? `?${text}` : ''}`);
  }, 200);

  draw() {
    const { a } = this;
    const f = planFrame(a, this.frame);
    const here = this.frames[this.frame];
    const edits = this.history.present;
    const on = (/** @type {any} */ part) => (part.file ?? here?.file) === here?.file && (part.frame ?? here?.frame) === here?.frame;
    const sites = sitesOn(a, String(this.frame));
    const scale = this.scale;
    const known = f ? this.structures.get(`${a.revision}/${f.key}`) : null;
    const doubtful = Boolean(f?.segmentation?.abstained) || (f?.segmentation?.confidence ?? 1) < 0.5;
    const [p, q] = this.rulerPoints;
    this.picture.show({
      scale,
      contours: f?.contours ?? [],
      doubtful,
      bone: f?.possible_bone ?? [],
      structures: known ?? NONE,
      sites: sites.map((site) => {
        const moved = this.draggedNumber === site.number ? this.dragged : null;
        const at = moved ?? site.at;
        return { ...site, at, text: siteText(site.raw), name: T.plan.siteName(site.raw, Math.round(at.column), Math.round(at.row)),
          bad: moved ? this.violations(site.number, moved).length > 0 : site.bad, handle: this.editable };
      }),
      needles: sites.filter((site) => site.number !== this.draggedNumber && site.needle).map((site) => /** @type {any} */ (site.needle)),
      clicks: edits.clicks.filter(on),
      nodes: this.nodes,
      ruler: this.rulerPoints,
      rulerText: p && q ? (scale ? T.mm(g.distanceMm(scale, p, q)) : T.px(Math.hypot(p.column - q.column, p.row - q.row))) : '',
    });
    this.picture.mark(marksOf(a));
    this.picture.banner.querySelector('span')?.classList.toggle('sure', a.state === 'confirmed');
    this.picture.caption.textContent = a.plan ? T.picture.caption(f, scale) : '';
    this.picture.rename(T.picture.describe(this.frame + 1, this.frames.length, f, sites.length, muscleName(this.reference?.names ?? {}, a.request)));
    if (f && !known) this.fetchStructures(f);
    const place = this.panels.plan.querySelector('#section');
    if (f && place && place.dataset.key !== f.key) {
      place.dataset.key = f.key;
      put(place, sectionFacts(f));
    }
    this.undoButton.disabled = !this.history.past.length || !this.editable;
    this.redoButton.disabled = !this.history.future.length || !this.editable;
    const used = edits.frames?.length === 1 && edits.frames.some(on);
    this.clip.only.checked = Boolean(used);
    for (const button of this.toolButtons) button.disabled = !this.editable && !['look', 'ruler'].includes(button.dataset.tool);
  }

  /** @param {any} f */
  async fetchStructures(f) {
    const key = `${this.a.revision}/${f.key}`;
    this.structures.set(key, NONE);
    if (f.segmentation === null || f.segmentation?.objects?.length === 0) return;
    try {
      this.structures.set(key, await structuresOf(`/analyses/${this.id}/mask.png?frame=${f.key}&revision=${this.a.revision}`));
      if (!this.left) this.draw();
    } catch {
      // The layers stay empty: the plan's own cautions speak of the structures.
    }
  }

  tell() {
    const { a } = this;
    put(this.headline, headline(a, this.reference, this.whatIf));
    document.title = `${muscleName(this.reference.names, a.request)} · sonodose`;
    put(this.panels.plan, wayOut(a, this.reference, this), planPanel(a, this.reference, planFrame(a, this.frame), {
      explain: () => this.tabs.choose('understand', true), answer: () => this.confirm(), inputs: () => this.tabs.choose('inputs', true) }));
    for (const [place, fill] of /** @type {const} */ ([['#compared', compared], ['#deliveries', deliveries]])) {
      const found = this.panels.plan.querySelector(place);
      if (found) fill(found, a, this.reference);
    }
    this.opened(this.tab);
    const busy = restless(a.state);
    const go = (/** @type {string} */ path, /** @type {string} */ name) => () => save(path, name).catch((error) => this.fail(error));
    put(this.actions,
      a.state !== 'draft' ? null : this.me.scopes.includes('confirm') ? h('button.primary', { type: 'button', id: 'confirm', onclick: () => this.confirm() }, T.actions.confirm)
        : h('p.quiet', null, T.actions.cannotConfirm(this.me.name)),
      a.state === 'confirmed' ? h('button.primary', { type: 'button', id: 'administration', onclick: () => this.administer() }, T.actions.administer) : null,
      !busy && a.links['plan.pdf'] ? h('button', { type: 'button', onclick: go(a.links['plan.pdf'], `plan-${this.id.slice(0, 12)}.pdf`) }, T.actions.print) : null,
      h('button', { type: 'button', onclick: () => downloads(a, planFrame(a, this.frame) ? String(this.frame) : '') }, T.actions.files));
  }

  /** Fills a tab when it comes to sight. @param {string} key */
  opened(key) {
    if (!this.a || !this.reference) return;
    if (key === 'understand') understandPanel(this.panels.understand, this.a, this.reference);
    if (key === 'revisions') revisionsPanel(this.panels.revisions, this.a);
  }

  // Editing --------------------------------------------------------------------------------

  /** @param {import('./picture.js').Tool} tool */
  use(tool) {
    if (!this.editable && tool !== 'look' && tool !== 'ruler') return;
    this.tool = tool;
    this.picture.use(tool);
    for (const button of this.toolButtons) button.setAttribute('aria-pressed', String(button.dataset.tool === tool));
    if (tool === 'outline') this.beginOutline();
    else this.nodes = null;
    this.mode();
    if (this.a) this.draw();
  }

  mode() {
    // Always there, so that the picture stands still when the tool changes.
    const look = this.frames.length > 1 ? T.tools.clipHint : T.tools.lookHint;
    const hints = /** @type {Record<string, string>} */ ({ look, add: T.tools.addHint, remove: T.tools.removeHint, outline: T.tools.outlineHint, ruler: T.tools.rulerHint });
    put(this.modeBar, h('span.quiet', null, hints[this.tool]));
    if (this.tool === 'outline') {
      this.modeBar.append(
        h('button', { type: 'button', onclick: () => { this.nodes = []; this.drawing = true; this.draw(); } }, T.tools.redraw),
        h('button.primary', { type: 'button', onclick: () => this.finishOutline() }, T.tools.finish));
    }
    if (this.tool === 'ruler') {
      const input = h('input', { type: 'number', min: 0.1, step: 'any', id: newId('mm'), placeholder: 'mm', size: 6 });
      const over = h('input', { type: 'checkbox' });
      const own = this.a && this.scale && this.scale.provenance !== 'operator';
      this.modeBar.append(
        h('label', { for: input.id }, T.tools.distance), input,
        own ? h('label.choice', null, over, T.tools.override) : '',
        h('button.primary', { type: 'button', disabled: !this.editable, onclick: () => this.calibrate(Number(input.value), over.checked) }, T.tools.useScale),
        h('button', { type: 'button', onclick: () => { this.rulerPoints = []; this.draw(); } }, T.tools.clearRuler));
    }
  }

  /** What an edit of this frame says of itself. */
  place() {
    const here = this.frames[this.frame];
    const files = new Set(this.frames.map((f) => f.file)).size;
    return { ...(files > 1 ? { file: here.file } : {}), ...(this.frames.length > 1 ? { frame: here.frame } : {}) };
  }

  /** @param {{column: number, row: number}} at @param {boolean} positive */
  clicked(at, positive) {
    if (!this.editable) return;
    const place = this.place();
    const edits = this.history.present;
    const elsewhere = edits.outlines.filter((o) => !same({ file: o.file, frame: o.frame }, place));
    this.change({
      clicks: [...edits.clicks, { ...place, ...at, positive }], outlines: elsewhere, sites: null,
      frames: this.a.request.sweep || this.frames.length === 1 ? edits.frames : this.withFrame(edits.frames, edits.clicks.length === 0),
    });
  }

  /** The chosen frames with this one among them. @param {any[] | null} frames @param {boolean} alone */
  withFrame(frames, alone) {
    const place = { frame: 0, ...this.place() };
    const kept = alone ? [] : frames ?? [];
    return kept.some((f) => same(f, place)) ? kept : [...kept, place];
  }

  chooseFrame() {
    this.change({ frames: this.clip.only.checked ? this.withFrame(null, true) : null, sites: null });
  }

  /** @param {g.ImagePoint} at */
  pointed(at) {
    if (this.tool === 'ruler') {
      this.rulerPoints = this.rulerPoints.length >= 2 ? [at] : [...this.rulerPoints, at];
      this.draw();
    } else if (this.tool === 'outline' && this.nodes) {
      if (this.drawing || this.nodes.length < 3) this.nodes = [...this.nodes, [at.column, at.row]];
      else this.nodes = inserted(this.nodes, at);
      this.draw();
    }
  }

  beginOutline() {
    const f = planFrame(this.a, this.frame);
    const all = f?.contours ?? [];
    const largest = all.slice().sort((/** @type {any} */ x, /** @type {any} */ y) => g.polygonAreaPx(y) - g.polygonAreaPx(x))[0];
    const size = Math.max(this.picture.columns, this.picture.rows);
    this.nodes = largest ? g.simplify(largest, Math.max(1, size / 300)) : [];
    this.nodesFrame = this.frame;
    this.drawing = !largest;
  }

  finishOutline() {
    if (this.nodes && this.nodes.length >= 3 && this.drawing) this.sendOutline();
    this.use('look');
  }

  sendOutline() {
    if (!this.nodes || this.nodes.length < 3) return;
    this.drawing = false;
    const place = this.place();
    const edits = this.history.present;
    const outline = { ...place, points: this.nodes.map(([c, r]) => /** @type {[number, number]} */ ([+c.toFixed(2), +r.toFixed(2)])) };
    const others = edits.outlines.filter((o) => !same({ file: o.file, frame: o.frame }, place));
    const all = this.a.request.sweep && !edits.frames
      ? this.a.plan?.frames?.map((/** @type {any} */ f) => ({ file: f.file, frame: f.frame })) ?? null : edits.frames;
    this.change({ outlines: [...others, outline], sites: null, frames: all });
  }

  /** @param {string} kind @param {number} index @param {g.ImagePoint} at @param {boolean} done */
  drag(kind, index, at, done) {
    if (kind === 'ruler') {
      this.rulerPoints = this.rulerPoints.map((p, i) => (i === index ? at : p));
      this.draw();
    } else if (kind === 'node' && this.nodes) {
      this.nodes = this.nodes.map((p, i) => (i === index ? [at.column, at.row] : p));
      this.draw();
      if (done && !this.drawing) this.sendOutline();
    } else if (kind === 'site' && this.editable) {
      this.dragged = at;
      this.draggedNumber = index;
      this.draw();
      const broken = this.violations(index, at);
      this.picture.readout.textContent = broken.length ? T.plan.violates(broken) : T.plan.fine;
      this.picture.readout.dataset.bad = String(broken.length > 0);
      if (done) this.moveSites(index, at);
    }
  }

  /** @param {string} kind @param {number} index */
  drop(kind, index) {
    if (kind === 'node' && this.nodes && this.nodes.length > 3) {
      this.nodes = this.nodes.filter((_, i) => i !== index);
      if (!this.drawing) this.sendOutline();
    } else if (kind === 'ruler') this.rulerPoints = this.rulerPoints.filter((_, i) => i !== index);
    this.draw();
  }

  moveSites = settle((/** @type {number} */ number, /** @type {g.ImagePoint} */ at) => {
    this.dragged = null;
    this.draggedNumber = 0;
    const round = (/** @type {number} */ v) => +v.toFixed(2);
    const others = (this.history.present.sites ?? []).filter((site) => site.number !== number);
    this.change({ sites: [...others, { number, ...this.place(), column: round(at.column), row: round(at.row) }] });
  }, 250);

  /** What a site would break at a place of this frame. @param {number} number @param {g.ImagePoint} at */
  violations(number, at) {
    const f = planFrame(this.a, this.frame);
    const seen = (f && this.structures.get(`${this.a.revision}/${f.key}`)) ?? NONE;
    return violations(this.a, f, this.scale, seen, this.reference.tables.policy, number, at);
  }

  /** @param {number} mm @param {boolean} override */
  calibrate(mm, override) {
    const [a, b] = this.rulerPoints;
    if (!a || !b || !g.fromTwoPoints(a, b, mm)) {
      put(this.trouble, note(T.problem.kind, 'stop', h('p', null, T.tools.badScale)));
      return;
    }
    const round = (/** @type {g.ImagePoint} */ p) => ({ column: +p.column.toFixed(2), row: +p.row.toFixed(2) });
    this.rulerPoints = [];
    put(this.trouble);
    this.change({ calibration: { points: [round(a), round(b)], distance_mm: mm, override }, sites: null });
    this.use('look');
  }

  /** The ruler that was found in the picture, and the length that a person said it has.
   * @param {any} ruler @param {number} mm */
  takeRuler(ruler, mm) {
    this.change({ calibration: { points: ruler.points, distance_mm: mm, ruler: true }, sites: null });
  }

  undo() {
    if (!this.editable || !this.history.past.length) return;
    this.history.undo();
    this.sync();
  }

  redo() {
    if (!this.editable || !this.history.future.length) return;
    this.history.redo();
    this.sync();
  }

  /** @param {Partial<import('./edits.js').Edits>} change */
  change(change) {
    this.history.push(change);
    this.sync();
  }

  /** Brings the service to what the page says; one edit at a time, the latest wins. */
  async sync() {
    this.draw();
    if (this.syncing) return;
    this.syncing = true;
    put(this.trouble);
    try {
      for (;;) {
        const change = difference(editsOf(this.a.request), this.history.present);
        if (!Object.keys(change).length) break;
        if (restless(this.a.state)) await this.rest();
        const found = await patch(this.id, this.etag, change, WAIT);
        if (this.left) return;
        this.take(found);
      }
    } catch (error) {
      if (error instanceof ApiProblem && (error.status === 412 || error.status === 428)) await this.overtaken();
      else await this.refused(error);
    } finally {
      this.syncing = false;
      if (!this.left) this.draw();
    }
  }

  /** Tells a refusal; an edit that made a revision which then failed is shown as such. @param {unknown} error */
  async refused(error) {
    const failed = error instanceof ApiProblem && error.problem.analysis;
    await this.reload().catch(() => {});
    this.history.rebase(editsOf(this.a.request));
    if (!failed) this.fail(error);
  }

  /** Resolves when the service is done with what it was asked. */
  async rest() {
    while (!this.left && restless(this.a.state)) {
      await new Promise((resume) => setTimeout(resume, 150));
      await this.reload();
    }
  }

  /** Somebody else changed the study: tells it, and loses nothing of either. */
  async overtaken() {
    const mine = { ...this.history.present };
    const base = editsOf(this.a.request);
    const typed = this.formChange();
    const formBase = clinicalOf(this.a.request);
    const theirs = await tagged(`/analyses/${this.id}`);
    const who = theirs.body.revised_by ?? '';
    const list = (/** @type {Record<string, any>} */ change) => Object.keys(change).map((key) => T.conflict.part(key)).join(', ') || T.conflict.nothing;
    const drawn = Object.fromEntries(Object.keys(difference(base, mine)).map((key) => [key, /** @type {any} */ (mine)[key]]));
    const myChange = { ...drawn, ...typed };
    const their = { ...difference(base, editsOf(theirs.body.request)), ...difference(formBase, clinicalOf(theirs.body.request)) };
    const keep = await ask(T.conflict.title, [
      h('p', null, T.conflict.who(who, theirs.body.revision)),
      h('dl.facts', null, h('dt', null, T.conflict.theirs), h('dd', null, list(their)), h('dt', null, T.conflict.mine), h('dd', null, list(myChange))),
      h('p.quiet', null, T.conflict.hint),
    ], (close) => [
      h('button', { type: 'button', onclick: () => close('theirs') }, T.conflict.takeTheirs),
      h('button.primary', { type: 'button', onclick: () => close('mine') }, T.conflict.putMine),
    ]);
    this.take(theirs);
    if (keep === 'mine') {
      this.history.push({ ...editsOf(theirs.body.request), ...drawn });
      this.syncing = false;
      await this.send(typed);
      await this.sync();
    } else this.history.rebase(editsOf(theirs.body.request));
    this.makeForm();
  }

  // Clinical inputs and what-if --------------------------------------------------------------

  makeForm() {
    this.form = inputsForm(this.reference, this.a.request, () => this.typed(), this.a.state === 'needs_target' ? this.a.missing : undefined);
    this.applyButton = h('button.primary', { type: 'button', disabled: true, onclick: () => this.apply() }, T.form.apply);
    this.backButton = h('button', { type: 'button', disabled: true, onclick: () => { this.whatIf = null; this.makeForm(); this.tell(); } }, T.form.back);
    this.whatNote = h('div');
    put(this.panels.inputs, this.editable ? h('p.quiet', null, T.form.whatIf)
      : note('', 'info', h('p', null, this.a.administrations.length ? T.form.given : T.form.closed), this.a.administrations.length ? null : h('button', { type: 'button', onclick: () => { this.reopened = true; this.makeForm(); this.draw(); } }, T.form.reopen)), this.whatNote, this.form.element,
      h('div.row', null, this.applyButton, this.backButton));
    this.typedBase = this.form.read();
  }

  typed() {
    const change = this.formChange();
    const some = Object.keys(change).length > 0;
    this.applyButton.disabled = !some || !this.form?.complete() || !this.editable;
    this.backButton.disabled = !some;
    if (!some) {
      this.whatIf = null;
      put(this.headline, headline(this.a, this.reference, null));
    } else this.ask();
  }

  formChange() {
    return this.form ? difference(/** @type {any} */ (this.typedBase), this.form.read()) : {};
  }

  ask = settle(async () => {
    if (this.left || !this.form?.complete()) return;
    const { prior_treatments, safety } = this.a.request;
    const asked = { ...this.form.read(), prior_treatments, safety };
    const serial = ++this.asked;
    try {
      const answer = await post('/what-if', whatIfBody(this.a, asked));
      if (this.left || serial !== this.asked) return;
      this.whatIf = answer;
      put(this.whatNote);
    } catch (error) {
      if (this.left || serial !== this.asked) return;
      this.whatIf = null;
      put(this.whatNote, problemNote(error));
    }
    put(this.headline, headline(this.a, this.reference, this.whatIf));
  }, 120);

  async apply() {
    await this.send(this.formChange());
  }

  /** @param {Record<string, any>} change @param {boolean} [empty] also where nothing changes: plan again */
  async send(change, empty = false) {
    if (!Object.keys(change).length && !empty) return;
    put(this.trouble);
    try {
      if (restless(this.a.state)) await this.rest();
      const found = await patch(this.id, this.etag, change, WAIT);
      this.whatIf = null;
      this.take(found);
      await this.rest();
      this.makeForm();
      this.tell();
      toast(T.saved(this.a.revision));
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 412) await this.overtaken();
      else await this.refused(error);
    }
  }

  // Confirming -----------------------------------------------------------------------------

  async confirm() {
    const done = await confirmPlan(this.a, this.etag, this.reference, async (answers) => {
      const change = difference({ safety: this.a.request.safety, prior_treatments: this.a.request.prior_treatments }, { safety: this.a.request.safety, prior_treatments: this.a.request.prior_treatments, ...answers });
      if (Object.keys(change).length) {
        this.take(await patch(this.id, this.etag, change, WAIT));
        await this.rest();
        this.makeForm();
      }
      return { a: this.a, etag: this.etag };
    });
    if (!done) return;
    await this.reload();
    this.tabs.choose('plan');
    toast(T.confirm.done);
  }

  async administer() {
    if (await recordAdministration(this.a)) {
      await this.reload();
      toast(T.administration.done);
    }
  }

  // Keys --------------------------------------------------------------------------

  /** The picture's keys also where a tool's button has the focus. @param {KeyboardEvent} event */
  shortcut(event) {
    const own = /** @type {Element} */ (event.target).closest('.viewport, input, select, summary');
    const held = event.ctrlKey || event.metaKey;
    if (!own && !event.altKey && this.key(held ? `ctrl+${event.shiftKey ? 'shift+' : ''}${event.key.toLowerCase()}` : event.key)) event.preventDefault();
  }

  /** @param {string} key @returns {boolean} */
  key(key) {
    const tool = /** @type {Record<string, import('./picture.js').Tool>} */ ({ l: 'look', a: 'add', r: 'remove', o: 'outline', m: 'ruler' })[key.toLowerCase()];
    if (tool) this.use(tool);
    else if (key === 'ctrl+z') this.undo();
    else if (key === 'ctrl+y' || key === 'ctrl+shift+z') this.redo();
    else if (key === '[' || key === ']') this.analysed(key === ']' ? 1 : -1);
    else if (key === 'Escape') {
      this.rulerPoints = [];
      this.use('look');
    } else return false;
    return true;
  }
}

/** An outline with a point more, on the edge nearest to it. @param {g.Polygon} nodes @param {g.ImagePoint} at
 * @returns {g.Polygon} */
function inserted(nodes, at) {
  const unit = { row_mm_per_px: 1, column_mm_per_px: 1 };
  let best = 0;
  let least = Infinity;
  nodes.forEach((p, i) => {
    const d = g.edgeDistanceMm(unit, [p, nodes[(i + 1) % nodes.length]], at);
    if (d < least) [least, best] = [d, i];
  });
  return [...nodes.slice(0, best + 1), [at.column, at.row], ...nodes.slice(best + 1)];
}

/** The body of a what-if: the inputs as typed and the volume as measured. @param {any} a @param {any} asked */
function whatIfBody(a, asked) {
  const clean = Object.fromEntries(Object.entries(asked).filter(([, v]) => v !== null && v !== undefined && v !== ''));
  const v = a.plan?.volume;
  return { request: clean, volume: v?.known ? { volume_ml: v.volume_ml, interval_ml: v.interval_ml, method: v.method } : null };
}
