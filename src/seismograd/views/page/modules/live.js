// A run that goes on: the server says when there is more.

/** @import { RunNews } from "./answers.d.ts" */

import { connected } from "./connection.js";

export class Live {
  /**
   * @param {number} index
   * @param {(news: RunNews) => void} changed
   */
  constructor(index, changed) {
    this.index = index;
    this.changed = changed;
    this.open();
  }

  open() {
    const events = new EventSource(`run/${this.index}/live`);
    events.onmessage = (event) => {
      connected(true);
      this.changed(JSON.parse(event.data));
    };
    events.onerror = () => {
      // it tries again by itself
      if (events.readyState !== EventSource.CLOSED) {
        connected(false);
        return;
      }
      events.close();
      fetch("runs", { credentials: "same-origin" }).then(
        (response) => connected(false, new Error(String(response.status))),
        (error) => connected(false, error),
      );
      setTimeout(() => this.open(), 2000);
    };
  }
}
