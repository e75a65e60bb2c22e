// Frames as the service decoded them: fetched once, kept within bounds, the wanted one first.

const BITMAP_BYTES = 450e6; // decoded frames kept at once
const FETCHES = 4;

export class FrameStore {
  /**
   * @param {(frame: number) => string} url @param {number} count
   * @param {(url: string) => Promise<Blob>} load
   */
  constructor(url, count, load) {
    this.url = url;
    this.count = count;
    this.load = load;
    /** @type {Map<number, Promise<ImageBitmap>>} in the order of their last use */
    this.kept = new Map();
    this.room = 8;
    this.closed = false;
  }

  /** The frame's picture. @param {number} frame @returns {Promise<ImageBitmap>} */
  get(frame) {
    const known = this.kept.get(frame);
    if (known) {
      this.kept.delete(frame);
      this.kept.set(frame, known);
      return known;
    }
    const coming = this.load(this.url(frame))
      .then((blob) => createImageBitmap(blob))
      .then((bitmap) => {
        this.room = Math.max(8, Math.floor(BITMAP_BYTES / (bitmap.width * bitmap.height * 4)));
        return bitmap;
      });
    coming.catch(() => this.kept.delete(frame));
    this.kept.set(frame, coming);
    for (const [old, picture] of this.kept) {
      if (this.kept.size <= this.room) break;
      this.kept.delete(old);
      picture.then((bitmap) => bitmap.close()).catch(() => {});
    }
    return coming;
  }

  /** Fetches the rest of the clip, nearest to `from` first, as far as there is room.
   * @param {number} from */
  async fetchAhead(from) {
    const order = Array.from({ length: this.count }, (_, i) => (from + i) % this.count);
    const next = async () => {
      while (order.length && !this.closed && this.kept.size < this.room) {
        const frame = /** @type {number} */ (order.shift());
        await this.get(frame).catch(() => {});
      }
    };
    await Promise.all(Array.from({ length: FETCHES }, next));
  }

  close() {
    this.closed = true;
    for (const picture of this.kept.values())
      picture.then((bitmap) => bitmap.close()).catch(() => {});
    this.kept.clear();
  }
}
