// The answers of the server of `view`.

/** @import { Heat } from "./answers.d.ts" */
/** @import { Source } from "./types.d.ts" */

import { asMeta, unpack } from "./unpack.js";

/** @param {Record<string, string | number>} given */
const asText = (given) => Object.entries(given).map(([name, value]) => [name, String(value)]);

/** @implements {Source} */
export class ServerSource {
  /** @param {number} index */
  constructor(index) {
    this.index = index;
    this.live = true;
    this.version = "";
    /** @type {Map<string, Promise<any>>} */
    this.kept = new Map();
    /** @type {Promise<Heat> | null} */
    this.whole = null;
  }

  /**
   * Ask anew from now on: the run has grown, and answers of before are old.
   *
   * @param {string} version
   */
  renew(version) {
    this.version = version;
    this.kept.clear();
  }

  /**
   * @param {string} question
   * @param {Record<string, string | number>} [given]
   * @returns {Promise<any>}
   */
  async ask(question, given = {}) {
    const url = `run/${this.index}/${question}?${new URLSearchParams(asText(given))}`;
    const key = `${url}#${this.version}`;
    const known = this.kept.get(key);
    if (known) return known;
    const answer = fetch(url, { credentials: "same-origin" }).then(async (response) => {
      if (!response.ok) throw new Error(String(response.status));
      return unpack(await response.arrayBuffer());
    });
    answer.catch(() => this.kept.delete(key));
    this.kept.set(key, answer);
    if (this.kept.size > 60) this.kept.delete([...this.kept.keys()][0]);
    return answer;
  }

  async meta() {
    return asMeta(await this.ask("meta"));
  }

  /**
   * What every page needs, before it is known how long the run is: both at once, and the heat map
   * of the whole run.
   *
   * @param {number} width
   * @param {string} statistic
   * @param {string} which
   */
  lookAhead(width, statistic, which) {
    this.meta().catch(() => {});
    this.whole = this.ask("heat", { width, statistic, which });
    this.whole.catch(() => {}); // who takes it is told
  }

  /**
   * @param {number} start
   * @param {number} stop
   * @param {number} width
   * @param {string} statistic
   * @param {string} which
   * @returns {Promise<Heat>}
   */
  async heat(start, stop, width, statistic, which) {
    const whole = this.whole;
    this.whole = null;
    if (whole && start === 0) {
      const answer = await whole;
      if (
        answer.statistic === statistic &&
        answer.which === which &&
        answer.stops[answer.stops.length - 1] === stop
      )
        return answer;
    }
    return this.ask("heat", { start, stop, width, statistic, which });
  }

  /**
   * @param {number} start
   * @param {number} stop
   * @param {number} width
   */
  scalars(start, stop, width) {
    return this.ask("scalars", { start, stop, width });
  }
  /**
   * @param {number} column
   * @param {number} start
   * @param {number} stop
   * @param {number} width
   */
  line(column, start, stop, width) {
    return this.ask("line", { column, start, stop, width });
  }
  /** @param {number} row */
  step(row) {
    return this.ask("step", { row });
  }
  /**
   * @param {number} column
   * @param {number} start
   * @param {number} stop
   * @param {number} width
   */
  histogram(column, start, stop, width) {
    return this.ask("histogram", { column, start, stop, width });
  }
  /**
   * @param {number} column
   * @param {number} row
   */
  picture(column, row) {
    return this.ask("picture", { column, row });
  }
  seismogram() {
    return this.ask("seismogram");
  }
  /** @param {number} row */
  lanes(row) {
    return this.ask("lanes", { row });
  }
  /** @param {number} row */
  signals(row) {
    return this.ask("signals", { row });
  }
  /**
   * @param {number} index
   * @param {number} start
   * @param {number} stop
   * @param {number} width
   */
  element(index, start, stop, width) {
    return this.ask("element", { index, start, stop, width });
  }
  has() {
    return true;
  }
}
