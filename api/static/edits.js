// What the clinician did to the picture, with undo and redo: plain values, no page.

/** @typedef {{frame?: number | null, file?: string | null, column: number, row: number,
 *   positive: boolean}} Click */
/** @typedef {{frame?: number | null, file?: string | null, points: [number, number][]}} Outline */
/** @typedef {{number: number, frame?: number | null, file?: string | null, column: number,
 *   row: number}} MovedSite */
/** @typedef {{clicks: Click[], outlines: Outline[], sites: MovedSite[] | null, box: any,
 *   calibration: any, frames: any[] | null}} Edits */

/** @param {any} request @returns {Edits} the edits that a request carries */
export const editsOf = (request) => ({
  clicks: request?.clicks ?? [],
  outlines: request?.outlines ?? [],
  sites: request?.sites ?? null,
  box: request?.box ?? null,
  calibration: request?.calibration ?? null,
  frames: request?.frames ?? null,
});

/** @param {unknown} a @param {unknown} b */
export const same = (a, b) => canonical(a) === canonical(b);

/** JSON with sorted keys and without nulls, so that "absent" and "null" are one.
 * @param {unknown} value @returns {string} */
function canonical(value) {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value === 'object')
    return `{${Object.entries(value)
      .filter(([, v]) => v !== null && v !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`)
      .join()}}`;
  return JSON.stringify(value);
}

/**
 * The merge patch (RFC 7396) that makes `to` of `from`: only what differs, null for what goes.
 * @param {Record<string, any>} from @param {Record<string, any>} to
 * @returns {Record<string, any>}
 */
export function difference(from, to) {
  /** @type {Record<string, any>} */
  const change = {};
  for (const key of new Set([...Object.keys(from), ...Object.keys(to)]))
    if (!same(from[key], to[key]))
      change[key] = isRecord(from[key]) && isRecord(to[key]) ? difference(from[key], to[key]) : to[key] ?? null;
  return change;
}

/** @param {unknown} value */
const isRecord = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

export class History {
  /** @param {Edits} present */
  constructor(present) {
    /** @type {Edits[]} */
    this.past = [];
    this.present = present;
    /** @type {Edits[]} */
    this.future = [];
  }

  /** @param {Partial<Edits>} change */
  push(change) {
    this.past.push(this.present);
    this.present = { ...this.present, ...change };
    this.future = [];
    return this.present;
  }

  undo() {
    const before = this.past.pop();
    if (before) {
      this.future.push(this.present);
      this.present = before;
    }
    return this.present;
  }

  redo() {
    const after = this.future.pop();
    if (after) {
      this.past.push(this.present);
      this.present = after;
    }
    return this.present;
  }

  /** What somebody else made, or the service: a new ground to stand on. @param {Edits} edits */
  rebase(edits) {
    if (!same(edits, this.present)) {
      this.past.push(this.present);
      this.present = edits;
      this.future = [];
    }
  }
}
