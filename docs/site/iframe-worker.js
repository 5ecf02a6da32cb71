/* Browsers start no worker for a page that was opened from disk, so there the search runs in a hidden
   frame, behind the same interface. */
"use strict";
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame;
      this.inner = frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source !== this.inner) return;
        const answer = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(answer);
        if (this.onmessage) this.onmessage(answer);
      });
      const page = frame.contentDocument;
      page.open();
      page.write(
        "<!doctype html><script>" +
          "postMessage = (data) => parent.postMessage(data, '*', []);" +
          "importScripts = (...urls) => urls.reduce((before, each) => before.then(() =>" +
          " new Promise((loaded, failed) => document.body.appendChild(Object.assign(" +
          "document.createElement('script'), { src: each, onload: loaded, onerror: failed }))))," +
          " Promise.resolve());" +
          "<\/script><body><script src='" + new URL(url, location.href) + "'><\/script></body>",
      );
      page.close();
      this.ready = new Promise((loaded) => frame.contentWindow.addEventListener("load", loaded));
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
