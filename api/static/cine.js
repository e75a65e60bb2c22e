// The bar below a clip: which frame is in sight, which were analysed, and the clip running.

import { announce, h, put, s } from './dom.js';
import { T } from './texts.js';

const FRAMES_A_SECOND = 30;

export class Cine {
  count = 0;
  at = 0;
  #speed = 1;
  #playing = 0;

  /** @param {(n: number) => void} go shows a frame @param {() => void} chosen the box "only this" was ticked */
  constructor(go, chosen) {
    this.go = go;
    this.playButton = h('button', { type: 'button', onclick: () => this.play() }, T.cine.play);
    this.slider = h('input', { type: 'range', min: 0, max: 0, value: 0, step: 1, 'aria-label': T.cine.frame,
      oninput: () => go(Number(this.slider.value)) });
    this.counter = h('output', { 'aria-live': 'off' });
    this.only = h('input', { type: 'checkbox', onchange: chosen });
    this.strip = s('svg.strip', { preserveAspectRatio: 'none', 'aria-hidden': true });
    this.element = h('div.cine', { hidden: true }, this.playButton, h('div', null, this.strip, this.slider), this.counter,
      h('div.row', null,
        h('label.slider', null, T.cine.speed, h('select', { onchange: (/** @type {any} */ event) => { this.#speed = Number(event.target.value); } },
          ['0.25', '0.5', '1', '2'].map((x) => h('option', { value: x, selected: x === '1' }, `${x}×`)))),
        h('label.choice', null, this.only, T.cine.only)));
  }

  /** Takes a clip of so many frames; a still has no bar. @param {number} count */
  load(count) {
    this.count = count;
    this.element.hidden = count < 2;
    this.slider.max = String(Math.max(0, count - 1));
  }

  /** Says which frame is in sight. @param {number} n */
  show(n) {
    this.at = n;
    this.slider.value = String(n);
    this.counter.textContent = T.cine.count(n + 1, this.count);
  }

  /** Above the slider: which frames were analysed, which were left out, and where sites lie.
   * @param {{at: number, kind: 'sited' | 'used' | 'dropped'}[]} frames */
  mark(frames) {
    const wide = Math.max(1, this.count / 120);
    this.strip.setAttribute('viewBox', `0 0 ${this.count} 1`);
    put(this.strip, frames.map(({ at, kind }) => s(`rect.${kind}`, { x: at + 0.5 - wide / 2, y: 0, width: wide, height: 1 })));
  }

  /** @param {number | 'first' | 'last' | 'play'} steps */
  step(steps) {
    if (this.count < 2) return;
    if (steps === 'first') this.go(0);
    else if (steps === 'last') this.go(this.count - 1);
    else if (steps === 'play') this.play();
    else {
      this.go(this.at + steps);
      announce(T.cine.count(this.at + 1, this.count));
    }
  }

  /** Runs the clip, or stops it. */
  play() {
    const stop = this.#playing !== 0;
    this.stop();
    if (stop) return;
    this.playButton.textContent = T.cine.pause;
    let last = performance.now();
    let due = 0;
    const step = (/** @type {number} */ now) => {
      due += ((now - last) / 1000) * FRAMES_A_SECOND * this.#speed;
      last = now;
      this.#playing = requestAnimationFrame(step);
      if (due >= 1) {
        const by = Math.min(Math.floor(due), 4);
        due %= 1;
        this.go((this.at + by) % this.count);
      }
    };
    this.#playing = requestAnimationFrame(step);
  }

  /** Lets the clip stand still. */
  stop() {
    cancelAnimationFrame(this.#playing);
    this.#playing = 0;
    this.playButton.textContent = T.cine.play;
  }
}
