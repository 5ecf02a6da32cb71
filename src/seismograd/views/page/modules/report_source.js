// The answers that a report holds.

/** @import { Line } from "./answers.d.ts" */
/** @import { Source } from "./types.d.ts" */

import { byId } from "./dom.js";
import { asMeta, fromHeat, joined, unpack } from "./unpack.js";

/** @implements {Source} */
export class ReportSource {
  static open() {
    const text = byId("data").textContent.trim();
    return ReportSource.of(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  }

  /**
   * The answers in a compressed report, or in the state of a widget.
   *
   * @param {BlobPart} bytes
   */
  static async of(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new ReportSource(await new Response(stream).arrayBuffer());
  }

  /** @param {ArrayBuffer} buffer */
  constructor(buffer) {
    const outer = unpack(buffer);
    this.live = false;
    this.buffer = buffer;
    /**
     * Where the answers lie in the buffer, by name.
     *
     * @type {Map<string, [start: number, length: number]>}
     */
    this.answers = new Map();
    /** @type {Record<string, [number, number]>} */
    const places = outer.answers;
    for (const [name, [offset, length]] of Object.entries(places)) {
      this.answers.set(name, [outer.bytes.byteOffset + offset, length]);
    }
    /** @type {number[]} */
    this.rows = outer.step_rows;
    /** @type {number[]} */
    this.laneRows = outer.lane_rows;
    /** @type {number[]} */
    this.signalRows = outer.signal_rows;
    /** @type {Record<string, number[]>} */
    this.pictureRows = outer.picture_rows;
    /** @type {Map<string, any>} */
    this.unpacked = new Map();
  }

  /**
   * @param {string} name
   * @returns {Promise<any>}
   */
  async ask(name) {
    const place = this.answers.get(name);
    if (!place) return null;
    if (!this.unpacked.has(name)) {
      const [start, length] = place;
      this.unpacked.set(name, joined(unpack(this.buffer.slice(start, start + length))));
    }
    return this.unpacked.get(name);
  }

  /**
   * @param {number} row
   * @param {number[]} [rows]
   */
  nearest(row, rows = this.rows) {
    return rows.reduce(
      (best, each) => (Math.abs(each - row) < Math.abs(best - row) ? each : best),
      rows[0] ?? 0,
    );
  }

  async meta() {
    return asMeta(await this.ask("meta"));
  }
  /**
   * @param {number} _start
   * @param {number} _stop
   * @param {number} _width
   * @param {string} statistic
   * @param {string} which
   */
  heat(_start, _stop, _width, statistic, which) {
    return this.ask(`heat/${statistic}/${which}`);
  }
  scalars() {
    return this.ask("scalars");
  }
  /**
   * @param {number} column
   * @returns {Promise<Line | null>}
   */
  async line(column) {
    return (
      (await this.ask(`line/${column}`)) ?? fromHeat(await this.ask("heat/grad_norm/high"), column)
    );
  }
  /** @param {number} row */
  step(row) {
    return this.ask(`step/${this.nearest(row)}`);
  }
  /** @param {number} column */
  async histogram(column) {
    return (await this.ask(`histogram/${column}`)) ?? this.ask("histogram/-1");
  }
  /**
   * @param {number} column
   * @param {number} row
   */
  picture(column, row) {
    return this.ask(`picture/${column}/${this.nearest(row, this.pictureRows[column] ?? [])}`);
  }
  seismogram() {
    return this.ask("seismogram");
  }
  /** @param {number} row */
  lanes(row) {
    return this.ask(`lanes/${this.nearest(row, this.laneRows)}`);
  }
  /** @param {number} row */
  signals(row) {
    return this.ask(`signals/${this.nearest(row, this.signalRows)}`);
  }
  /** @param {number} index */
  element(index) {
    return this.ask(`element/${index}`);
  }
  /** @param {string} name */
  has(name) {
    return [...this.answers.keys()].some((each) => each.startsWith(name));
  }
}
