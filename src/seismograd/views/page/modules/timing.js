// When something is done, and how long it took: as marks and measures of the browser.

/**
 * Resolves once what was drawn is on the screen. A page in the background has no frames.
 *
 * @returns {Promise<void>}
 */
export function afterFrame() {
  return new Promise((done) => {
    if (document.visibilityState === "hidden") setTimeout(done, 0);
    else requestAnimationFrame(() => setTimeout(done, 0));
  });
}

// Tells the browser's own measurements when something was first seen.
const seen = new Set();

/** @param {string} what */
export function painted(what) {
  if (seen.has(what)) return;
  seen.add(what);
  afterFrame().then(() => performance.mark(`seismograd ${what}`));
}

/**
 * How long something took, the last time that it was done.
 *
 * @param {string} what
 * @param {number} start
 */
export function timed(what, start) {
  performance.clearMeasures(`seismograd ${what}`);
  performance.measure(`seismograd ${what}`, { start });
}

/**
 * A function that calls another once it has not been called for `wait` milliseconds.
 *
 * @param {() => void} call
 * @param {number} wait
 */
export function later(call, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, wait);
  };
}
