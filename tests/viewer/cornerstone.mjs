// node cornerstone.mjs JOBS.json: what the adapters of Cornerstone and OHIF read from our SEG and SR.
// JOBS is a list of {sources: [path], seg?: path, sr?: path}. One JSON line a job: {seg: [{image,
// frame, segments: {number: {pixels, box}}}], sr: [{tool, image, frame, point}]} or {refused}.
import { readFileSync } from 'node:fs';

// The adapters look at their page when they are loaded; here there is none.
globalThis.window ??= globalThis;
globalThis.self ??= globalThis;

const { adaptersSEG, adaptersSR } = await import('@cornerstonejs/adapters');
const { cache, metaData } = await import('@cornerstonejs/core');
const { data: dcmjs } = (await import('dcmjs')).default;

const bytesOf = (path) => new Uint8Array(readFileSync(path)).buffer;

function read(path) {
  const file = dcmjs.DicomMessage.readFile(bytesOf(path));
  const found = dcmjs.DicomMetaDictionary.naturalizeDataset(file.dict);
  found._meta = dcmjs.DicomMetaDictionary.namifyDataset(file.meta);
  return found;
}

const framesOf = (image) => Number(image.NumberOfFrames ?? 1);
const idOf = (image, frame) => `wadors:http://pacs/instances/${image.SOPInstanceUID}/frames/${frame}`;

/** The modules of metadata that a viewer would have of these images. */
function metadataOf(images) {
  const byUid = new Map(images.map((image) => [image.SOPInstanceUID, image]));
  return (kind, imageId) => {
    const image = byUid.get(String(imageId).split('/')[4]);
    if (!image) return undefined;
    const sop = { sopInstanceUID: image.SOPInstanceUID, sopClassUID: image.SOPClassUID };
    const size = { rows: image.Rows, columns: image.Columns };
    return {
      instance: image,
      sopCommonModule: sop,
      generalImageModule: sop,
      generalSeriesModule: { seriesInstanceUID: image.SeriesInstanceUID, modality: 'US' },
      imagePixelModule: {
        ...size, bitsAllocated: 8, bitsStored: 8, highBit: 7, samplesPerPixel: 1,
        pixelRepresentation: 0, photometricInterpretation: 'MONOCHROME2',
      },
      imagePlaneModule: {
        ...size, rowCosines: [1, 0, 0], columnCosines: [0, 1, 0], rowPixelSpacing: 1,
        columnPixelSpacing: 1, imageOrientationPatient: [1, 0, 0, 0, 1, 0],
        imagePositionPatient: [0, 0, 0],
      },
    }[kind];
  };
}

async function masks(path, images) {
  const places = images.flatMap((image) =>
    Array.from({ length: framesOf(image) }, (_, i) => ({ image, frame: i + 1 })));
  const ids = places.map(({ image, frame }) => idOf(image, frame));
  const made = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
    ids, bytesOf(path), { metadataProvider: metaData, tolerance: 1e-3 });
  return made.labelMapImages.flat().map((labels, at) => {
    const { image, frame } = places[at];
    const values = labels.voxelManager?.getScalarData() ?? labels.getPixelData();
    const segments = {};
    values.forEach((value, i) => {
      if (!value) return;
      const [column, row] = [i % image.Columns, Math.floor(i / image.Columns)];
      const of = (segments[value] ??= { pixels: 0, box: [column, row, column, row] });
      of.pixels += 1;
      of.box = [Math.min(of.box[0], column), Math.min(of.box[1], row),
        Math.max(of.box[2], column), Math.max(of.box[3], row)];
    });
    return { image: image.SOPInstanceUID, frame, segments };
  }).filter(({ segments }) => Object.keys(segments).length > 0);
}

function measurements(path, images) {
  const ids = {};
  for (const image of images) {
    ids[image.SOPInstanceUID] = idOf(image, 1);
    for (let frame = 1; frame <= framesOf(image); frame += 1) {
      ids[`${image.SOPInstanceUID}:${frame}`] = idOf(image, frame);
    }
  }
  const made = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(
    read(path), ids, metaData, {});
  return Object.entries(made).flatMap(([tool, all]) => all.map(({ annotation }) => {
    const id = annotation.metadata.referencedImageId.split('/');
    // World is pixel here (spacing 1, origin 0), and counts from the first pixel's centre.
    return { tool, image: id[4], frame: Number(id[6]), point: [...annotation.data.handles.points[0]] };
  }));
}

for (const job of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  const images = job.sources.map(read);
  const provider = metadataOf(images);
  metaData.addProvider(provider, 1000);
  let line;
  try {
    line = {
      ...(job.seg ? { seg: await masks(job.seg, images) } : {}),
      ...(job.sr ? { sr: measurements(job.sr, images) } : {}),
    };
  } catch (error) {
    line = { refused: String(error.stack ?? error) };
  }
  metaData.removeProvider(provider);
  cache.purgeCache();
  console.log(JSON.stringify(line));
}
process.exit(0);
