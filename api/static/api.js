// The REST client: nothing private, every error a problem document (RFC 9457).

import { T } from './texts.js';

const ROOT = '/api/v1';
const BACK = 'sonodose-back';

/** @typedef {{type?: string, title?: string, status: number, detail?: string, remedy?: string,
 *   code?: string, [more: string]: any}} Problem */

export class ApiProblem extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.title || T.problem.unknown(problem.status));
    this.problem = problem;
    this.status = problem.status;
  }
}

/** Leaves for the sign-in page; the cookie that it sets is out of reach of every script.
 * @returns {Promise<never>} */
function signIn() {
  sessionStorage.setItem(BACK, location.hash);
  location.assign('/login');
  return new Promise(() => {});
}

/** Where the reader was before signing in, once. @returns {string | null} */
export function whereWeWere() {
  const hash = sessionStorage.getItem(BACK);
  sessionStorage.removeItem(BACK);
  return hash;
}

/** Ends the session, here and at the identity provider. */
export async function signOut() {
  const { next } = await (await call('/logout', { method: 'POST' })).json();
  location.assign(next);
}

/** @type {Promise<any> | null} */
let who = null;
/** Who is signed in, and what they may do; asked for once. @returns {Promise<any>} */
export const me = () => (who ??= get('/me').catch((error) => {
  who = null;
  throw error;
}));

/**
 * @param {string} path below /api/v1, or a whole path
 * @param {RequestInit & {headers?: Record<string, string>}} [options]
 * @returns {Promise<Response>}
 */
async function call(path, options = {}) {
  const url = path.startsWith('/api/') || path === '/logout' ? path : ROOT + path;
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiProblem({ status: 0, title: T.problem.offline, remedy: T.problem.offlineRemedy });
  }
  if (response.status === 401) return signIn();
  if (!response.ok) throw new ApiProblem(await problemOf(response));
  return response;
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problemOf(response) {
  const text = await response.text();
  try {
    return { status: response.status, ...JSON.parse(text) };
  } catch {
    return { status: response.status, title: T.problem.unknown(response.status) };
  }
}

/** @param {string} path @param {RequestInit & {headers?: Record<string, string>}} [options] */
export const get = async (path, options) => (await call(path, options)).json();

/** @param {string} path @param {unknown} body @param {Record<string, string>} [more] */
export const post = async (path, body, more) =>
  (
    await call(path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', ...more },
    })
  ).json();

/** @param {string} path @returns {Promise<Blob>} */
export const blob = async (path) => (await call(path)).blob();

/** An analysis with the tag that an edit must name.
 * @param {string} path @returns {Promise<{etag: string, body: any}>} */
export async function tagged(path) {
  const response = await call(path, { cache: 'no-cache' });
  return { etag: response.headers.get('ETag') ?? '', body: await response.json() };
}

/** @param {string} id @param {string} etag @param {unknown} change @param {string} [prefer] */
export async function patch(id, etag, change, prefer) {
  const response = await call(`/analyses/${id}`, {
    method: 'PATCH',
    body: JSON.stringify(change),
    headers: {
      'Content-Type': 'application/merge-patch+json',
      'If-Match': etag,
      ...(prefer ? { Prefer: prefer } : {}),
    },
  });
  return { etag: response.headers.get('ETag') ?? '', body: await response.json() };
}

/**
 * Uploads a study; the progress of an upload is something that only XMLHttpRequest tells.
 * @param {File[]} files @param {object} request @param {(share: number) => void} progress
 * @returns {Promise<any>}
 */
export function upload(files, request, progress) {
  const form = new FormData();
  form.append('request', JSON.stringify(request));
  for (const file of files) form.append('files', file, file.name);
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open('POST', `${ROOT}/analyses`);
    sending.setRequestHeader('Idempotency-Key', crypto.randomUUID());
    sending.upload.onprogress = (event) =>
      event.lengthComputable && progress(event.loaded / event.total);
    sending.onerror = () =>
      reject(new ApiProblem({ status: 0, title: T.problem.offline, remedy: T.problem.offlineRemedy }));
    sending.onload = () => {
      let body;
      try {
        body = JSON.parse(sending.responseText);
      } catch {
        body = {};
      }
      if (sending.status === 401) signIn();
      else if (sending.status < 300) resolve(body);
      else reject(new ApiProblem({ ...body, status: sending.status }));
    };
    sending.send(form);
  });
}

/**
 * Follows an analysis by server-sent events until it rests; a lost connection is told, and tried
 * again with growing pauses.
 * @param {string} id
 * @param {{event: (data: any) => void, lost: (lost: boolean) => void}} listener
 * @returns {() => void} stops following
 */
export function follow(id, { event, lost }) {
  const stop = new AbortController();
  let pause = 500;
  const run = async () => {
    while (!stop.signal.aborted) {
      try {
        const response = await call(`/analyses/${id}/events`, {
          signal: stop.signal,
          headers: { Accept: 'text/event-stream' },
        });
        lost(false);
        pause = 500;
        const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
        const decoder = new TextDecoder();
        let text = '';
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          text += decoder.decode(value, { stream: true });
          const blocks = text.split(/\r?\n\r?\n/);
          text = blocks.pop() ?? '';
          for (const block of blocks) {
            const data = block
              .split(/\r?\n/)
              .filter((line) => line.startsWith('data:'))
              .map((line) => line.slice(5).trimStart())
              .join('\n');
            if (data) event(JSON.parse(data));
          }
        }
      } catch (error) {
        if (stop.signal.aborted) return;
        lost(true);
        if (error instanceof ApiProblem && [401, 403, 404].includes(error.status)) return;
      }
      await new Promise((resume) => setTimeout(resume, pause));
      pause = Math.min(pause * 2, 8000);
    }
  };
  run();
  return () => stop.abort();
}

/** Saves what a link gives.
 * @param {string} path @param {string} name */
export async function save(path, name) {
  const url = URL.createObjectURL(await blob(path));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
