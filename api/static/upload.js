// New studies: files dropped or chosen, what they show, sent with their progress.

import { upload } from './api.js';
import { h, put } from './dom.js';
import { bare, inputsForm } from './form.js';
import { ask, problemNote } from './parts.js';
import { reference } from './reference.js';
import { T, bytes } from './texts.js';

/**
 * Asks what the files show and uploads them.
 * @param {File[]} files @returns {Promise<any>} the analysis made, or null
 */
export async function openUpload(files) {
  let known;
  try {
    known = await reference();
  } catch (error) {
    await ask(T.upload.title, [problemNote(error)], (close) => [h('button', { type: 'button', onclick: () => close(null) }, T.close)]);
    return null;
  }
  const send = h('button.primary', { type: 'button', disabled: true }, T.upload.send);
  const form = inputsForm(known, remembered(), () => { send.disabled = !form.complete(); });
  send.disabled = !form.complete();
  const bar = h('progress', { max: 1, value: 0, 'aria-label': T.upload.progress });
  const share = h('output');
  const sending = h('div.stack', { hidden: true }, bar, share);
  const trouble = h('div');
  return ask(
    T.upload.title,
    [
      h('ul', null, files.map((file) => h('li', null, `${file.name} (${bytes(file.size)})`))),
      h('p.quiet', null, T.upload.hint),
      form.element, sending, trouble,
    ],
    (close) => {
      send.addEventListener('click', async () => {
        send.disabled = true;
        sending.hidden = false;
        put(trouble);
        try {
          const asked = bare(form.read());
          const made = await upload(files, asked, (done) => {
            bar.value = done;
            share.textContent = T.upload.share(Math.round(done * 100));
          });
          remember(asked);
          close(made);
        } catch (error) {
          put(trouble, problemNote(error));
          sending.hidden = true;
          send.disabled = false;
        }
      });
      return [h('button', { type: 'button', onclick: () => close(null) }, T.cancel), send];
    },
  );
}

const LAST = 'sonodose-last';
/** What the desk chose last; nothing that names or describes a patient. @param {any} asked */
function remember(asked) {
  const { product, indication, jurisdiction, dilution } = asked;
  sessionStorage.setItem(LAST, JSON.stringify({ product, indication, jurisdiction, dilution }));
}

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(LAST) ?? '{}');
  } catch {
    return {};
  }
}
