// Making elements: text is only ever set as text, never as markup.

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child lists may be nested */
/** @typedef {Record<string, any>} Props */

/**
 * An HTML element: h('button.primary', {onclick, 'aria-label': …}, 'text', child, …).
 * @param {string} spec tag with classes @param {Props | null} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function h(spec, props, ...children) {
  const [tag, ...classes] = spec.split('.');
  return dress(document.createElement(tag), classes, props, children);
}

/**
 * The same in SVG.
 * @param {string} spec @param {Props | null} [props] @param {...Child} children
 * @returns {any}
 */
export function s(spec, props, ...children) {
  const [tag, ...classes] = spec.split('.');
  return dress(document.createElementNS('http://www.w3.org/2000/svg', tag), classes, props, children);
}

/**
 * @param {any} element @param {string[]} classes @param {Props | null | undefined} props
 * @param {Child[]} children
 */
function dress(element, classes, props, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true && !name.startsWith('aria-') ? '' : String(value));
  }
  fill(element, ...children);
  return element;
}

/** Appends children. @param {Element} element @param {...Child} children */
export function fill(element, ...children) {
  for (const child of children)
    if (Array.isArray(child)) fill(element, ...child);
    else if (child !== null && child !== undefined && child !== false)
      element.append(child instanceof Node ? child : String(child));
}

/** Replaces all children. @param {Element} element @param {...Child} children */
export function put(element, ...children) {
  element.replaceChildren();
  fill(element, ...children);
}

let counter = 0;
/** @param {string} prefix */
export const newId = (prefix) => `${prefix}-${++counter}`;

/**
 * A labelled field.
 * @param {string} label @param {any} control @param {Child} [hint]
 */
export function field(label, control, hint) {
  control.id ||= newId('f');
  return h('div.field', null, h('label', { for: control.id }, label), control, hint ? hint : null);
}

/**
 * A list to choose from.
 * @param {[string, string][]} options value, text @param {string | null | undefined} value
 * @param {Props} [props]
 */
export function select(options, value, props) {
  const element = h('select', props, ...options.map(([v, text]) => h('option', { value: v }, text)));
  element.value = value ?? '';
  return element;
}

/** Runs once the calls have been quiet for `ms`.
 * @param {(...args: any[]) => void} action @param {number} ms */
export function settle(action, ms) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return (/** @type {any[]} */ ...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), ms);
  };
}

/** Says something to a screen reader, and shows it for a while. @param {string} text */
export function announce(text) {
  const place = document.getElementById('announcer');
  if (place) place.textContent = text;
}
