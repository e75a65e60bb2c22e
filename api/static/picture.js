// The picture: a canvas for the frame, an SVG in image pixels over it, zoom, pan, window, pointing.

import { h, s, put } from './dom.js';
import * as draw from './drawing.js';
import * as g from './geometry.js';
import { NONE } from './structures.js';
import { T } from './texts.js';

/** @typedef {import('./geometry.js').ImagePoint} ImagePoint */
/** @typedef {import('./geometry.js').Polygon} Polygon */
/** @typedef {'look' | 'add' | 'remove' | 'outline' | 'ruler'} Tool */
/**
 * @typedef {object} Scene all that is drawn on the frame shown
 * @property {g.Scale | null} scale
 * @property {Polygon[]} contours
 * @property {boolean} doubtful
 * @property {Polygon[]} bone what is possibly bone
 * @property {import('./structures.js').Structures} structures
 * @property {{number: number, at: ImagePoint, text: string, name: string, bad: boolean,
 *   handle: boolean}[]} sites
 * @property {[ImagePoint, ImagePoint][]} needles
 * @property {{column: number, row: number, positive: boolean}[]} clicks
 * @property {Polygon | null} nodes the outline being drawn or corrected
 * @property {ImagePoint[]} ruler
 * @property {string} rulerText
 */
/**
 * @typedef {object} Listener
 * @property {(at: {column: number, row: number}, positive: boolean) => void} click
 * @property {(at: ImagePoint) => void} point a ruler's or an outline's next point
 * @property {(kind: string, index: number, at: ImagePoint, done: boolean) => void} drag
 * @property {(kind: string, index: number) => void} drop a handle's deletion
 * @property {(steps: number | 'first' | 'last' | 'play') => void} cine
 * @property {(key: string) => boolean} key any other key; true if it meant something
 */

export const LAYERS = /** @type {const} */ ([
  'muscle', 'confidence', 'nerve', 'vessel', 'bone', 'aponeurosis', 'sites', 'needles', 'clicks', 'marks', 'grid',
]);

/** Screen pixels above the picture, at least: the words that mark it never hide the skin. */
const HEAD = 40;

/** @type {Scene} */
const NOTHING = {
  scale: null, contours: [], doubtful: false, bone: [], structures: NONE, sites: [],
  needles: [], clicks: [], nodes: null, ruler: [], rulerText: '',
};

export class Picture {
  /** @param {Listener | null} listener null: only to look at */
  constructor(listener) {
    this.listener = listener;
    /** @type {Tool} */
    this.tool = 'look';
    this.columns = 1;
    this.rows = 1;
    /** @type {Scene} */
    this.scene = NOTHING;
    /** @type {Set<string>} */
    this.layers = new Set(LAYERS.filter((layer) => layer !== 'grid' && layer !== 'aponeurosis'));
    /** @type {g.View} */
    this.view = { x: 0, y: 0, sx: 1, sy: 1 };
    this.fitted = true;
    this.head = HEAD;
    this.drawnAt = 0;
    /** @type {ImagePoint | null} */
    this.cursor = null;
    this.canvas = h('canvas', { width: 1, height: 1, 'aria-hidden': true });
    this.svg = s('svg', { role: 'group' });
    this.stage = h('div.stage', null, this.canvas, this.svg);
    this.readout = h('output.readout', { 'aria-live': 'off' });
    this.banner = h('p.marks');
    this.caption = h('p.caption');
    this.hint = h('p.hidden', { id: `hint-${Math.random().toString(36).slice(2)}` }, T.picture.keys);
    this.viewport = h(
      'div.viewport',
      {
        tabindex: 0,
        role: 'application',
        'aria-roledescription': T.picture.role,
        'aria-label': T.picture.name,
        'aria-describedby': this.hint.id,
      },
      this.stage,
    );
    this.element = h('div.picture', null, this.viewport, this.banner, this.caption, this.readout, this.hint);
    this.listen();
    const sized = new ResizeObserver(() => {
      // On a narrow screen the words take two lines.
      this.head = Math.max(HEAD, this.banner.offsetTop + this.banner.offsetHeight + 6);
      if (this.fitted) this.fit();
      else this.place();
    });
    sized.observe(this.viewport);
    sized.observe(this.banner);
  }

  /** Paints a frame. @param {CanvasImageSource & {width: number, height: number}} bitmap */
  paint(bitmap) {
    if (bitmap.width !== this.columns || bitmap.height !== this.rows) {
      this.columns = this.canvas.width = bitmap.width;
      this.rows = this.canvas.height = bitmap.height;
      this.svg.setAttribute('viewBox', `0 0 ${this.columns} ${this.rows}`);
      this.stage.style.width = `${this.columns}px`;
      this.stage.style.height = `${this.rows}px`;
      this.fit();
    }
    this.canvas.getContext('2d', { alpha: false }).drawImage(bitmap, 0, 0);
  }

  /** @param {Partial<Scene>} scene what changed */
  show(scene) {
    const before = this.aspect;
    const same = Object.entries(scene).every(([key, value]) => {
      const old = /** @type {any} */ (this.scene)[key];
      return old === value || (Array.isArray(old) && Array.isArray(value) && !old.length && !value.length);
    });
    this.scene = { ...this.scene, ...scene };
    if (this.fitted && this.aspect !== before) this.fit();
    if (!same) this.redraw();
  }

  /** @param {string} name what a screen reader says of the picture */
  rename(name) {
    this.viewport.setAttribute('aria-label', name);
  }

  /** The words that stand on the picture. @param {string[]} marks */
  mark(marks) {
    put(this.banner, ...marks.map((mark) => h('span', null, mark)));
  }

  /** @param {number} contrast in percent @param {number} brightness in percent */
  window(contrast, brightness) {
    this.canvas.style.filter =
      contrast === 100 && brightness === 100
        ? 'none'
        : `brightness(${brightness}%) contrast(${contrast}%)`;
  }

  /** @param {Tool} tool */
  use(tool) {
    this.tool = tool;
    this.viewport.dataset.tool = tool;
  }

  get aspect() {
    const scale = this.scene.scale;
    return scale ? scale.row_mm_per_px / scale.column_mm_per_px : 1;
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.viewport;
    if (!width || !height) return;
    const view = g.fitView(this.columns, this.rows, width, height - this.head, this.aspect);
    this.view = { ...view, y: view.y + this.head };
    this.fitted = true;
    this.place();
  }

  /** @param {number} factor @param {number} [x] @param {number} [y] */
  zoom(factor, x = this.viewport.clientWidth / 2, y = this.viewport.clientHeight / 2) {
    const wanted = Math.min(Math.max(this.view.sx * factor, 0.05), 40);
    this.view = g.zoomAt(this.view, wanted / this.view.sx, x, y);
    this.fitted = false;
    this.place();
  }

  /** @param {number} dx @param {number} dy in screen pixels */
  pan(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.fitted = false;
    this.place();
  }

  place() {
    const { x, y, sx, sy } = this.view;
    this.stage.style.transform = `matrix(${sx},0,0,${sy},${x},${y})`;
    if (this.drawnAt !== sx) this.redraw();
  }

  redraw() {
    const scene = this.scene;
    const k = 1 / this.view.sx;
    this.drawnAt = this.view.sx;
    this.svg.style.setProperty('--k', String(k));
    this.caption.hidden = !this.layers.has('confidence');
    const on = (/** @type {string} */ layer) => this.layers.has(layer);
    const held = document.activeElement;
    const focus =
      held instanceof SVGElement && this.svg.contains(held)
        ? `[data-handle="${held.dataset.handle}"][data-index="${held.dataset.index}"]`
        : null;
    put(this.svg, [
      on('grid') && scene.scale ? draw.grid(scene.scale, this.columns, this.rows) : null,
      on('muscle') && !scene.nodes && scene.contours.length
        ? draw.muscle(scene.contours, scene.doubtful)
        : null,
      ['aponeurosis', 'vessel', 'nerve'].map((layer) =>
        on(layer) && scene.structures.paths[layer] ? s(`path.${layer}`, { d: scene.structures.paths[layer] }) : null),
      on('bone') && scene.bone.length ? s('path.bone', { d: scene.bone.map(draw.polygonPath).join('') }) : null,
      on('marks') && scene.scale ? draw.marks(scene.scale, this.columns, this.rows, k) : null,
      on('needles') && !scene.nodes ? scene.needles.map(([from, to]) => draw.needle(from, to)) : null,
      on('clicks') ? scene.clicks.map((click) => draw.click(click, k)) : null,
      scene.nodes ? draw.nodes(scene.nodes, k) : null,
      on('sites') && !scene.nodes ? draw.sites(scene.sites, k) : null,
      scene.ruler.length ? draw.ruler(scene.ruler, scene.rulerText, k) : null,
      this.cursor ? draw.crosshair(this.cursor, k) : null,
    ]);
    if (focus) this.svg.querySelector(focus)?.focus({ preventScroll: true });
  }

  /** @param {PointerEvent | WheelEvent} event @returns {[number, number]} */
  within(event) {
    const box = this.viewport.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** Does what the tool does at a point. @param {ImagePoint} at */
  act(at) {
    if (!this.listener || this.columns < 2 || !this.inside(at)) return;
    if (this.tool === 'add' || this.tool === 'remove')
      this.listener.click(g.pixelIndex(at, this.columns, this.rows), this.tool === 'add');
    else if (this.tool !== 'look') this.listener.point(at);
  }

  /** @param {ImagePoint} p */
  inside(p) {
    return p.column >= 0 && p.row >= 0 && p.column <= this.columns && p.row <= this.rows;
  }

  /** @param {ImagePoint} p */
  clamp(p) {
    return {
      column: Math.min(Math.max(p.column, 0), this.columns),
      row: Math.min(Math.max(p.row, 0), this.rows),
    };
  }

  listen() {
    /** @type {Map<number, [number, number]>} */
    const fingers = new Map();
    /** @type {{kind: string, index: number, at: ImagePoint, moved: boolean} | null} */
    let handle = null;
    let travelled = 0;
    const { viewport } = this;

    viewport.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
      if (event.button > 1) return;
      viewport.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, this.within(event));
      travelled = 0;
      const grip = /** @type {Element} */ (event.target).closest('[data-handle]');
      if (grip instanceof SVGElement && this.listener && fingers.size === 1 && (grip.dataset.handle !== 'site' || this.tool === 'look')) {
        const at = g.toImagePoint(this.view, ...this.within(event));
        handle = { kind: grip.dataset.handle ?? '', index: Number(grip.dataset.index), at, moved: false };
        grip.focus({ preventScroll: true });
        event.preventDefault();
      }
    });
    viewport.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
      const [x, y] = this.within(event);
      const at = g.toImagePoint(this.view, x, y);
      this.tell(at);
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const [dx, dy] = [x - before[0], y - before[1]];
      travelled += Math.hypot(dx, dy);
      if (handle) {
        if (travelled > 2) handle.moved = true;
        handle.at = this.clamp(at);
        if (handle.moved) this.listener?.drag(handle.kind, handle.index, handle.at, false);
      } else if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1] ?? before;
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
        this.zoom(Math.hypot(x - other[0], y - other[1]) / (was || 1), (x + other[0]) / 2, (y + other[1]) / 2);
      } else if (travelled > 6) this.pan(dx, dy);
      fingers.set(event.pointerId, [x, y]);
    });
    const up = (/** @type {PointerEvent} */ event) => {
      const known = fingers.delete(event.pointerId);
      if (handle) {
        const { kind, index, at, moved } = handle;
        handle = null;
        if (moved) this.listener?.drag(kind, index, at, true);
      } else if (known && fingers.size === 0 && travelled <= 6 && event.type === 'pointerup')
        this.act(g.toImagePoint(this.view, ...this.within(event)));
    };
    viewport.addEventListener('pointerup', up);
    viewport.addEventListener('pointercancel', up);
    viewport.addEventListener('pointerleave', () => this.readout.replaceChildren());
    viewport.addEventListener(
      'wheel',
      (/** @type {WheelEvent} */ event) => {
        event.preventDefault();
        if (event.ctrlKey || event.shiftKey || !this.listener || !this.scrolls)
          this.zoom(Math.exp(-(event.deltaY || event.deltaX) / 400), ...this.within(event));
        else this.listener.cine(Math.sign(event.deltaY));
      },
      { passive: false },
    );
    viewport.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => this.pressed(event));
  }

  /** True for a clip: the wheel then turns its frames. */
  scrolls = false;

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const grip = /** @type {Element} */ (event.target).closest('[data-handle]');
    let meant = true;
    if (event.ctrlKey || event.metaKey) meant = this.listener?.key(`ctrl+${event.shiftKey ? 'shift+' : ''}${event.key.toLowerCase()}`) ?? false;
    else if (arrow && event.altKey) this.pan(-40 * arrow[0], -40 * arrow[1]);
    else if (grip instanceof SVGElement && (arrow || event.key === 'Delete')) {
      const [kind, index] = [grip.dataset.handle ?? '', Number(grip.dataset.index)];
      if (!arrow) this.listener?.drop(kind, index);
      else {
        const circle = /** @type {SVGCircleElement} */ (grip.querySelector('circle'));
        const step = event.shiftKey ? 10 : 1;
        const at = { column: circle.cx.baseVal.value + step * arrow[0], row: circle.cy.baseVal.value + step * arrow[1] };
        this.listener?.drag(kind, index, this.clamp(at), true);
      }
    } else if (arrow) {
      const step = event.shiftKey ? 20 : 2;
      const from = this.cursor ?? { column: this.columns / 2, row: this.rows / 2 };
      this.cursor = this.clamp({ column: from.column + step * arrow[0], row: from.row + step * arrow[1] });
      this.tell(this.cursor);
      this.redraw();
    } else if (event.key === 'Enter' && !grip) {
      if (this.cursor) this.act(this.cursor);
    } else if (event.key === 'Escape') {
      this.cursor = null;
      this.redraw();
      meant = this.listener?.key('Escape') ?? false;
    } else if (event.key === '+' || event.key === '=') this.zoom(1.25);
    else if (event.key === '-') this.zoom(0.8);
    else if (event.key === '0') this.fit();
    else if (event.key === ',' || event.key === 'PageUp') this.listener?.cine(-1);
    else if (event.key === '.' || event.key === 'PageDown') this.listener?.cine(1);
    else if (event.key === 'Home') this.listener?.cine('first');
    else if (event.key === 'End') this.listener?.cine('last');
    else if (event.key === ' ') this.listener?.cine('play');
    else meant = this.listener?.key(event.key) ?? false;
    if (meant) event.preventDefault();
  }

  /** Shows where a point is. @param {ImagePoint} p */
  tell(p) {
    this.readout.textContent = this.inside(p)
      ? T.picture.at(p, this.scene.scale ? g.toTissue(this.scene.scale, p) : null)
      : '';
  }
}
