// Every word of the page in one place. A language is added by a second object of this shape,
// chosen by the browser's languages at the foot of this file.

/** @param {number | null | undefined} value @param {number} [digits] */
export const number = (value, digits = 1) =>
  value === null || value === undefined || !Number.isFinite(value) ? '—'
    : new Intl.NumberFormat('en', { maximumFractionDigits: digits }).format(value);

/** @param {string | null | undefined} time */
export const when = (time) =>
  time ? new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(time)) : '';

/** @param {number} size */
export const bytes = (size) => (size < 1e6 ? `${number(size / 1e3, 0)} kB` : `${number(size / 1e6, 1)} MB`);

/** @type {Record<string, string>} */
const states = {
  needs_target: 'Needs a target', needs_calibration: 'Needs a scale', queued: 'Queued', running: 'Running',
  draft: 'Draft', abstained: 'Abstained', refused: 'Refused', confirmed: 'Confirmed',
  superseded: 'Superseded', failed: 'Failed', cancelled: 'Cancelled',
};
/** @type {Record<string, string>} */
const stages = { decode: 'Decode', calibrate: 'Scale', segment: 'Segment', measure: 'Measure', plan: 'Plan', render: 'Render' };
/** @type {Record<string, string>} */
const sides = { left: 'left', right: 'right' };
/** @type {Record<string, string>} */
const views = { short_axis: 'Short axis', long_axis: 'Long axis' };
/** @type {Record<string, string>} */
const limbs = { upper_limb: 'Upper limb', lower_limb: 'Lower limb', neck: 'Neck', face: 'Face' };
/** @type {Record<string, string>} */
const layers = { muscle: 'Muscle', confidence: 'Confidence', nerve: 'Nerve', vessel: 'Vessel', bone: 'Possible bone', aponeurosis: 'Aponeurosis', sites: 'Sites', needles: 'Needle paths', clicks: 'Clicks', marks: 'Ruler', grid: '1 cm grid' };
/** @type {Record<string, string>} */
const indications = { off_label_consensus: 'Off-label (consensus)' };
/** @type {Record<string, string>} */
const methods = { sweep: 'sweep of sections', section_length: 'section × length × factor', given: 'as given' };
/** @type {Record<string, string>} */
const grades = {
  label: 'label', compendium: 'compendium that quotes the label', regional_label: 'label of another country',
  corroborated: 'recalled and corroborated: check the label', consensus: 'consensus, off-label', secondary: 'secondary source',
};
/** @type {Record<string, string>} */
const provenance = {
  ultrasound_region: 'the file’s ultrasound region', pixel_spacing: 'the file’s pixel spacing', functional_group: 'the file’s functional groups',
  operator: 'the operator', burned_in_ruler: 'a ruler in the image', nominal: 'nominal: the true scale is unknown',
};
/** @type {Record<string, string>} */
const parts = {
  clicks: 'clicks', outlines: 'outline', sites: 'sites', box: 'box', calibration: 'scale', frames: 'frames used', muscle: 'muscle', side: 'side',
  view: 'view', product: 'product', indication: 'indication', patient: 'patient', severity: 'severity', dilution: 'dilution',
  safety: 'safety answers', prior_treatments: 'earlier treatments', limb_length_mm: 'limb length', muscle_length_mm: 'muscle length',
};
/** @type {Record<string, string>} */
const deliveryStates = { waiting: 'Waiting', sending: 'Sending', delivered: 'Delivered', failed: 'Given up' };
/** @type {Record<string, string>} */
const comparisons = { sides: 'LEFT AND RIGHT', sessions: 'SINCE THE LAST SESSION' };
const tools = {
  look: 'Look', add: 'Add', remove: 'Remove', outline: 'Outline', ruler: 'Ruler', name: 'Picture tools', view: 'View',
  undo: 'Undo', redo: 'Redo', zoomIn: 'Zoom in', zoomOut: 'Zoom out', fit: 'Fit the picture', whole: 'Fit', window: 'Window', gain: 'Gain', reset: 'Reset',
  lookHint: 'Drag to move the picture or a site; pinch or wheel to zoom.', clipHint: 'Drag to move the picture or a site; pinch to zoom, wheel to turn the frames.',
  addHint: 'Click what belongs to the muscle. Keyboard: arrows move the cross, Enter clicks.',
  removeHint: 'Click what does not belong to the muscle.',
  outlineHint: 'Drag a point, click the line to add one, Delete removes one.',
  rulerHint: 'Click two points, or two marks of the ruler.',
  redraw: 'Draw anew', finish: 'Finish', distance: 'Distance in mm', override: 'replace the file’s scale', useScale: 'Use as scale', clearRuler: 'Clear',
  do_add: 'Click the muscle', do_outline: 'Draw the outline', do_ruler: 'Set the scale',
  badScale: 'Two points at least 10 pixels apart and a true distance in millimetres are needed.',
};

const en = {
  states, stages, sides, views, limbs, layers, indications, methods, grades, provenance,
  loading: 'Loading…', cancel: 'Cancel', close: 'Close', back: 'Back', dismiss: 'Dismiss', planSection: 'Plan',
  mm: (/** @type {number} */ v) => `${number(v, 1)} mm`, px: (/** @type {number} */ v) => `${number(v, 0)} px`,
  saved: (/** @type {number} */ r) => `Saved as revision ${r}.`,
  nav: { name: 'Pages', studies: 'Studies', reference: 'Tables and model', skip: 'Skip to the content', use: 'Research and decision support' },
  signOut: 'Sign out',
  marks: {
    suggestionShort: 'SUGGESTION',
    confirmed: (/** @type {string} */ by) => `CONFIRMED${by ? ` BY ${by.toUpperCase()}` : ''}`,
  },
  problem: {
    kind: 'Problem', remedy: 'What to do:', unknown: (/** @type {number} */ s) => `The service answered with ${s || 'nothing'}.`,
    offline: 'The service cannot be reached.', offlineRemedy: 'Check the network; nothing that was saved is lost.',
  },
  list: {
    title: 'Studies', search: 'Search', searchHint: 'Patient, muscle, side, product', state: 'State', anyState: 'Any', upload: 'Choose files',
    drop: 'Drop DICOM, PNG, JPEG or TIFF files here, or', empty: 'No study here. Drop files above to start.', noneFound: 'No study is found by this.', more: 'Show more',
    session: (/** @type {number} */ n) => (n ? `Session of ${n}` : 'Session'), choose: (/** @type {string} */ m, /** @type {string} */ s) => `Take ${m}, ${s} into a session`,
    noPatient: 'No patient named', noMuscle: 'Muscle not named', noSide: '',
    waitsFor: (/** @type {boolean} */ muscle, /** @type {boolean} */ side) => `Waits for ${[muscle ? 'the muscle' : '', side ? 'the side' : ''].filter(Boolean).join(' and ') || 'a target'}`, noProduct: 'Measurement only', revision: (/** @type {number} */ r) => `Revision ${r}`, position: (/** @type {number} */ n) => `place ${n}`,
  },
  upload: {
    title: 'New study', hint: 'Muscle and side are needed; everything else can follow. What is left empty counts as unknown.',
    send: 'Upload', progress: 'Upload', share: (/** @type {number} */ p) => `${p} % sent`,
  },
  form: {
    target: 'What is scanned', treatment: 'Treatment', size: 'Size', patient: 'Patient', unknown: 'unknown', muscle: 'Muscle', side: 'Side', view: 'View',
    viewAuto: 'Found', chooseMuscle: 'Choose…', chooseSide: 'Choose…', noRow: 'no dose row', product: 'Product', noProduct: 'None: measure only',
    indication: 'Indication', noIndication: 'None', severity: 'Severity', severityUnknown: 'Unknown', weight: 'Weight, kg', height: 'Height, cm', age: 'Age, years',
    dilutionUnits: 'Vial, Units', dilutionMl: 'Diluted in, mL', jurisdiction: 'Label of', offLabel: 'Plan off-label', limbLength: 'Limb length, mm',
    muscleLength: 'Muscle length, mm', moreSize: 'Shape factor, sweep, other measurements', shapeFactor: 'Shape factor', shapeSource: 'Its source',
    spacing: 'Sweep: mm between sections', measurement: (/** @type {string} */ m) => `${m}, mm`, patientId: 'Patient ID', patientName: 'Name', birthDate: 'Born on',
    slider: (/** @type {string} */ n) => `${n}, slider`, apply: 'Apply', back: 'Back to saved',
    given: 'What was given is recorded, so this plan stays as it is. The next treatment is a new study.',
    closed: 'This plan is confirmed. A change makes a new revision that must be confirmed again.', reopen: 'Change this plan', whatIf: 'While you type, the figures above show what would come out. Apply makes a new revision.',
  },
  tabs: { name: 'Plan and inputs', plan: 'Plan', inputs: 'Inputs', understand: 'Why', revisions: 'History' },
  tools: { ...tools, title: (/** @type {string} */ n, /** @type {string} */ k) => `${n} (${k})` },
  /** @param {string} name */
  tool: (name) => /** @type {Record<string, string>} */ (tools)[name] ?? name,
  cine: {
    play: 'Play', pause: 'Pause', frame: 'Frame', speed: 'Speed', only: 'Use only this frame',
    count: (/** @type {number} */ n, /** @type {number} */ of) => `${n} / ${of}`,
  },
  picture: {
    section: 'Picture', role: 'ultrasound picture', name: 'Ultrasound picture',
    keys: 'Arrows move the cross, Enter acts, L look, A add, R remove, O outline, M ruler, plus and minus zoom, 0 fits, comma and full stop change the frame, brackets go to the next analysed one, space plays, Ctrl Z undoes. Tab reaches sites and points; arrows move them.',
    at: (/** @type {any} */ p, /** @type {any} */ mm) => `${number(p.column, 0)}, ${number(p.row, 0)} px${mm ? ` · ${number(mm.lateral_mm, 1)} mm across, ${number(mm.depth_mm, 1)} mm down` : ''}`,
    caption: (/** @type {any} */ f, /** @type {any} */ scale) => [
      f?.outlined_by === 'operator' ? 'Outline by the operator' : f?.segmentation ? `Confidence ${f.segmentation.confidence.toFixed(2)}` : '',
      scale ? '' : 'No scale: no millimetres'].filter(Boolean).join(' · '),
    describe: (/** @type {number} */ n, /** @type {number} */ of, /** @type {any} */ f, /** @type {number} */ sites, /** @type {string} */ muscle) =>
      `Ultrasound picture${of > 1 ? `, frame ${n} of ${of}` : ''}: ${f?.contours?.length ? `${muscle} outlined` : 'no outline'}, ${sites} ${sites === 1 ? 'site' : 'sites'}`,
    node: (/** @type {number} */ i, /** @type {number} */ n, /** @type {number} */ c, /** @type {number} */ r) => `Outline point ${i} of ${n} at ${c}, ${r}`,
    rulerPoint: (/** @type {number} */ i, /** @type {number} */ c, /** @type {number} */ r) => `Ruler point ${i} at ${c}, ${r}`,
  },
  progress: {
    queued: (/** @type {number | undefined} */ n, /** @type {number | undefined} */ s) => `Queued${n ? `, place ${n}` : ''}${s && s >= 1 ? `, about ${number(s, 0)} s` : ''}.`,
    running: (/** @type {string} */ s) => `Running${s ? `: ${s}` : ''}…`, cancel: 'Stop this run',
    lost: 'Connection lost', lostMore: 'Trying again. The service goes on working; nothing is lost.',
  },
  beside: {
    title: 'Compared', kinds: comparisons,
    sent: 'Where the objects went', states: deliveryStates, again: 'Send again', sendTo: (/** @type {string} */ t) => `Send to ${t}`, nothing: 'Nothing was sent yet.', nowhere: 'No destination is listed; the files can be saved under Files.',
    attempts: (/** @type {number} */ n, /** @type {number} */ of, /** @type {string} */ next) => `attempt ${n} of ${of} failed, next ${next}`,
    objects: (/** @type {number} */ n) => `${n} ${n === 1 ? 'object' : 'objects'} there`,
  },
  actions: { cannotConfirm: (/** @type {string} */ who) => `A clinician confirms: ${who} may not.`, confirm: 'Review and confirm', administer: 'Record what was given', print: 'Print plan', files: 'Files' },
  files: {
    title: 'Files', hint: 'A draft’s files say that they are a suggestion.',
    /** @type {Record<string, string>} */
    names: { 'overlay.png': 'Overlay picture (PNG)', 'overlay.svg': 'Overlay drawing (SVG)', 'mask.png': 'Mask (PNG)', 'seg.dcm': 'DICOM Segmentation', 'sr.dcm': 'DICOM Structured Report', 'plan.pdf': 'One-page plan (PDF)', fhir: 'FHIR bundle', 'sc.dcm': 'DICOM picture (Secondary Capture)', 'pr.dcm': 'DICOM presentation state', 'ko.dcm': 'DICOM Key Object Selection', 'image.dcm': 'The picture as DICOM', 'overlay.webp': 'Moving overlay (WebP)' },
  },
  plan: {
    muscle: 'Muscle', volume: 'Volume', dose: 'Dose', sites: 'Sites', site: 'Site', area: 'Area', thickness: 'Thickness', width: 'Width', depth: 'Depth of its top',
    unknown: 'unknown', volumeUnknown: 'Volume unknown', unitsWord: 'Units', unitsShort: 'Units', ml: 'mL', depthMm: 'Depth, mm', marginMm: 'To edge, mm', angle: 'Angle',
    noDose: 'No dose', noDoseShort: 'none', cautions: 'Cautions', caution: 'CAUTION', stop: 'STOP', source: 'Source:', unknownSource: ' — not in the tables ',
    adjustments: 'How the dose came about', belowMin: 'Below the label’s minimum; it is never raised.', otherMethods: 'Methods that were not used',
    labelRange: (/** @type {string} */ a, /** @type {string} */ b) => `Range ${a} to ${b} Units`,
    group: (/** @type {string} */ g) => `The dose is for the whole group: ${g}. It is never one member’s dose.`,
    missing: 'Missing:', availableFrom: (/** @type {string} */ d) => `Possible from ${d}.`, noSites: 'No site could be placed.', noScale: 'no scale',
    u: (/** @type {number} */ v) => `${number(v, 2)} U`, byHand: '(by hand)',
    siteName: (/** @type {any} */ raw, /** @type {number} */ c, /** @type {number} */ r) =>
      `Site ${raw.number} at ${c}, ${r}: ${raw.units === null ? 'no Units' : `${number(raw.units, 2)} Units`}, ${number(raw.depth_mm, 0)} mm deep${raw.violations?.length ? `, violates: ${raw.violations.join(' ')}` : ''}`,
    violation: 'VIOLATES', violates: (/** @type {string[]} */ list) => `Violates: ${list.join('; ')}`, fine: 'Inside the muscle',
    outside: 'outside the muscle', nearEdge: (/** @type {number} */ d, /** @type {number} */ m) => `${number(d, 1)} mm from the edge, margin ${number(m, 1)} mm`,
    nearSite: (/** @type {number} */ n, /** @type {number} */ d, /** @type {number} */ m) => `${number(d, 1)} mm from site ${n}, spacing ${number(m, 1)} mm`,
    nearStructure: (/** @type {number} */ d, /** @type {number} */ m) => `${number(d, 1)} mm from a nerve or vessel, margin ${number(m, 1)} mm`, nearBone: (/** @type {number} */ d) => `${number(d, 1)} mm from possible bone`,
    barName: (/** @type {string} */ u, /** @type {string} */ p, /** @type {string} */ a, /** @type {string} */ b) => `${u} ${p} Units in the range ${a} to ${b}`,
    ifText: (/** @type {string} */ u, /** @type {string} */ p) => `What if: ${u} U ${p}`, ifNone: (/** @type {string} */ why) => `What if: no dose. ${why}`,
    stale: 'Made with other tables or another network than those in force. Plan it again before use.',
    abstained: 'The network would not say.', abstainedOut: 'On a bad picture only your own outline counts.',
    noCalibration: 'The picture has no usable scale: no millimetres, no millilitres and no Units.', noCalibrationOut: 'Click two marks of the depth ruler and type the distance between them.',
    needsTarget: 'This study was pushed, and no rule knew what it shows.', needsClick: 'A click on the muscle in the picture shows its outline, and tells it from others.', hasClick: 'The outline in the picture follows your click. Once the target is named, the plan follows.', start: 'Start', sideOfImage: (/** @type {string} */ side) => `Side: ${side}, as the image says.`,
    soon: 'The plan stands here when the run is done.', endplates: 'Where the endplates lie', fillIn: 'To the inputs',
    rulerFound: 'A RULER WAS FOUND', rulerText: (/** @type {number} */ n) => `${n} ticks at equal steps stand beside the picture. The digits are not read: say how far apart two ticks are, and whether it is the depth ruler.`,
    rulerStep: 'From tick to tick', chooseStep: 'Choose…', useRuler: 'Yes, use this ruler',
    rulerMeans: (/** @type {number} */ px, /** @type {number} */ mm) => `${number(px, 1)} px per cm; the ruler is ${number(mm, 0)} mm long.`, failed: 'The study could not be planned.',
    cancelled: 'This run was stopped.', again: 'Plan again',
    confirmedBy: (/** @type {any} */ c) => `${c.clinician?.name ?? c.by}${c.clinician?.role ? `, ${c.clinician.role}` : ''}, ${when(c.at)}`,
    explain: 'Where do these numbers come from?', unknownKind: 'UNKNOWN', unanswered: (/** @type {number} */ n) => (n === 1 ? 'One question is unanswered and stops confirmation.' : `${n} questions are unanswered and stop confirmation.`), answer: 'Answer them',
    openQuestions: 'Unanswered',
  },
  confirm: {
    title: 'Review and confirm', step1: 'What is unknown stops a plan. Answer what you know.', next: 'Next', no: 'No', yes: 'Yes', unknown: 'Unknown', restNo: 'All other answers: no',
    prior: 'Earlier botulinum toxin treatments', priorNone: 'None', priorSome: 'There were some', addTreatment: 'Add a treatment', treatment: 'Treatment', units: 'Units', date: 'Date', response: 'Response',
    what: (/** @type {string} */ target, /** @type {string} */ u, /** @type {number} */ n) => `${target}: ${u} in ${n} ${n === 1 ? 'site' : 'sites'}.`,
    left: (/** @type {number} */ n, /** @type {boolean} */ who) => `Still open: ${[n ? `${n} ${n === 1 ? 'caution' : 'cautions'} to read` : '', who ? 'name and role' : ''].filter(Boolean).join(', ')}`,
    stops: 'This plan cannot be confirmed', stopsHint: 'Settle each reason first: change the plan or the answers.', cautions: 'Cautions', read: 'I have read this.',
    open: (/** @type {number} */ n) => `${n} ${n === 1 ? 'answer is' : 'answers are'} still unknown.`, name: 'Your name', role: 'Your role',
    statement: 'I have checked patient, muscle, side, product, Units and sites.', confirm: 'Confirm', backToQuestions: 'Back to the questions', done: 'The plan is confirmed.',
    revision: (/** @type {number} */ r) => `This is revision ${r}.`,
  },
  administration: {
    title: 'What was given', hint: 'Record what was really given, not what was planned: it counts for the next session.', given: 'Given', date: 'Given on', lot: 'Lot', expiry: 'Expiry',
    wastage: 'Wasted, Units', guidance: 'Guidance', ultrasound: 'Ultrasound', stimulation: 'Electrical stimulation', none: 'None', by: 'Given by', note: 'Note', save: 'Record', done: 'Recorded.',
    givenAt: (/** @type {number} */ n) => `Site ${n} was given`, unitsAt: (/** @type {number} */ n) => `Units at site ${n}`, mlAt: (/** @type {number} */ n) => `Millilitres at site ${n}`,
    unitsOf: (/** @type {string} */ p) => `${p ?? ''} Units`, record: (/** @type {string} */ d) => `GIVEN ${d}`,
    line: (/** @type {number} */ n, /** @type {number} */ u, /** @type {string} */ p, /** @type {number | undefined} */ ml) => `site ${n}: ${number(u, 2)} ${p} Units${ml ? ` in ${number(ml, 2)} mL` : ''}`,
  },
  conflict: {
    title: 'Somebody else changed this study', who: (/** @type {string} */ w, /** @type {number} */ r) => `${w || 'Somebody'} made revision ${r} while you were working. Nothing of either is lost.`,
    theirs: 'They changed', mine: 'You changed', nothing: 'nothing of this', hint: 'Put yours on top makes a new revision of theirs with your changes. Every revision stays in the history.',
    takeTheirs: 'Keep theirs', putMine: 'Put mine on top', part: (/** @type {string} */ key) => parts[key] ?? key.replaceAll('_', ' '),
  },
  revisions: {
    title: 'Two revisions', twoStudies: 'Two studies', one: (/** @type {number} */ r) => `Revision ${r}`, left: 'Left side', right: 'Right side', compare: 'Side by side', state: 'State', cautions: 'Cautions', by: 'Made by',
    changed: (/** @type {string} */ what) => (what ? `Changed: ${what}` : ''),
  },
  understand: {
    tree: 'Derivation', scale: 'Scale', model: 'Model card', provenance: 'Made with', modelVersion: 'Model', tables: 'Tables', override: 'Site’s own tables', gaps: 'What the tables hold and lack',
    sentences: 'In plain sentences', nothing: 'There is no plan to explain.', noModel: 'No model card is installed.', from: 'From', mmPerPx: 'Per pixel', note: 'Note', problem: 'Problem', setAside: 'Set aside',
  },
  card: {
    use: 'For', notFor: 'Not for', data: 'Trained on', promises: 'Promises and whether they are kept', rest: 'Limits, inputs and checksums', figures: (/** @type {number} */ n) => `How well it does: ${n} figures on pictures it never saw`,
    noFigures: 'The card has no figures.', what: 'Figure', value: 'Value', interval: '95 % interval', pictures: 'Pictures / people',
  },
  tables: {
    title: 'Tables and model', version: (/** @type {string} */ v, /** @type {string} */ sha) => `Tables ${v}, SHA-256 ${sha}`, override: (/** @type {string} */ n) => `With this site’s own tables: ${n}`,
    missing: (/** @type {number} */ n) => `Every fact that is missing (${n})`, table: 'Table', row: 'Row', lacking: 'What is missing',
    rows: 'Dose rows', caps: 'Caps', lacks: 'What the tables lack', lacksHint: 'No dose is planned for these until a site adds its own reviewed row with its source.', product: 'Product', indication: 'Indication', who: 'For', muscle: 'Muscle', range: 'Range', grade: 'Grade', sources: 'Sources', kind: 'Cap', limit: 'Limit', models: 'Models', filter: 'Filter',
  },
  session: {
    title: 'Session', total: (/** @type {string} */ u, /** @type {string} */ p) => `${u} ${p} Units in all`, allowed: 'Under every cap that was found', exceeded: 'A cap is exceeded', none: 'Choose studies in the work list first.',
    priority: 'Priority', priorityOf: (/** @type {string} */ m) => `Priority of ${m}, 1 is kept longest`, within: 'Within the caps', vials: (/** @type {any} */ v) => `${v.vials} vials of ${number(v.vial_units, 1)} Units in ${number(v.vial_ml, 2)} mL: draw up ${number(v.draw_up_ml, 2)} mL, ${number(v.units_left_over, 1)} Units left over`,
    kinds: /** @type {Record<string, string>} */ ({ session: 'In one session', cumulative: 'Over the interval', muscle: 'In one muscle', site: 'At one site', limb: 'In one limb' }), anywhere: 'whole body',
    cap: 'Cap', planned: 'Planned', before: 'Given before', limit: 'Limit', left: 'Left', over: 'OVER', compare: 'Compare side by side',
  },
};

/** @type {Record<string, typeof en>} */
const languages = { en };
export const T = languages[navigator.languages?.find((l) => languages[l.slice(0, 2)])?.slice(0, 2) ?? 'en'] ?? en;
