// A picture over rows of the run: its margins, and from pixels to rows and back. All such pictures
// move the one cursor.

/** @import { Pen, StageKeys } from "./types.d.ts" */

import { fit } from "./canvas.js";
import { shades } from "./colours.js";
import { resumedRows, setCursor, setWindow, stepOf, zoom } from "./cursor.js";
import { el } from "./dom.js";
import { clamp, count, ticks } from "./numbers.js";
import { currentMeta, state } from "./state.js";
import { T } from "./texts.js";

export class Stage {
  /**
   * @param {() => string} label
   * @param {StageKeys} keys
   */
  constructor(label, keys) {
    this.canvas = el("canvas", { role: "img" });
    this.over = el("canvas", { class: "over", "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.root = el(
      "div",
      { class: "canvas", tabindex: "0", role: "application", "aria-roledescription": T("picture") },
      this.canvas,
      this.over,
      this.tip,
    );
    this.label = label;
    this.left = 60;
    this.right = 8;
    this.top = 4;
    this.bottom = 20;
    this.width = 0;
    this.height = 0;
    this.point = keys;
    /** @type {[number, number] | null} */
    this.selected = null;
    /** @type {[number, number] | null} */
    this.box = null;
    this.listen();
  }

  get inner() {
    return Math.max(1, this.width - this.left - this.right);
  }
  /** @param {number} row */
  x(row) {
    return this.left + ((row - state.start) / Math.max(1, state.stop - state.start)) * this.inner;
  }
  /** @param {number} x */
  row(x) {
    return Math.floor(state.start + ((x - this.left) / this.inner) * (state.stop - state.start));
  }

  /**
   * @param {HTMLElement} body
   * @param {number} room
   * @param {number} height
   */
  begin(body, room, height) {
    if (this.root.parentNode !== body) body.replaceChildren(this.root);
    this.width = room || 600;
    this.height = height;
    this.canvas.setAttribute("aria-label", this.label());
    this.root.setAttribute("aria-label", this.label());
    return fit(this.canvas, this.width, height);
  }

  listen() {
    /** @type {number | null} */
    let from = null;
    /** @param {MouseEvent} event */
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button === 0) from = place(event)[0];
    });
    this.root.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      this.selected =
        from !== null && Math.abs(x - from) > 4 ? [Math.min(from, x), Math.max(from, x)] : null;
      if (this.selected) this.cursor();
      this.hint(x, y);
    });
    this.root.addEventListener("pointerleave", () => {
      this.tip.hidden = true;
      from = null;
      if (this.selected) {
        this.selected = null;
        this.cursor();
      }
    });
    this.root.addEventListener("pointerup", (event) => {
      const [x, y] = place(event);
      if (this.selected) {
        const [low, high] = this.selected;
        this.selected = null;
        from = null;
        setWindow(
          this.row(clamp(low, this.left, this.left + this.inner)),
          this.row(clamp(high, this.left, this.left + this.inner)) + 1,
        );
      } else if (from !== null) {
        from = null;
        if (x >= this.left && x <= this.left + this.inner)
          setCursor(this.row(x), this.point.column?.(y));
        else this.point.aside?.(y);
      }
    });
    this.root.addEventListener("dblclick", () => zoom(4));
    this.root.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.shiftKey) return; // else the page scrolls
        event.preventDefault();
        zoom(event.deltaY > 0 || event.deltaX > 0 ? 1.25 : 0.8, this.row(place(event)[0]));
      },
      { passive: false },
    );
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  hint(x, y) {
    const text =
      x >= this.left && x <= this.left + this.inner ? this.point.hint?.(this.row(x), y) : null;
    this.tip.hidden = !text;
    if (!text) return;
    this.tip.textContent = text;
    this.tip.style.left = `${Math.min(x + 14, Math.max(0, this.width - 260))}px`;
    this.tip.style.top = `${y + 14}px`;
  }

  /** @param {Pen} pen */
  axis(pen) {
    pen.strokeStyle = shades.line;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const base = this.height - this.bottom;
    this.epochs(pen, base);
    this.resumptions(pen, base);
    pen.fillStyle = shades.dim;
    const first = stepOf(state.start);
    for (const step of ticks(first, stepOf(state.stop - 1), Math.max(2, this.inner / 90))) {
      const x = this.x(state.start + step - first + 0.5);
      if (x > this.left + this.inner) continue;
      pen.beginPath();
      pen.moveTo(x, base);
      pen.lineTo(x, base + 4);
      pen.stroke();
      pen.fillText(count(step), clamp(x, this.left + 12, this.left + this.inner - 12), base + 5);
    }
  }

  /**
   * A notch from below where an epoch begins.
   *
   * @param {Pen} pen
   * @param {number} base
   */
  epochs(pen, base) {
    pen.fillStyle = shades.text;
    for (const row of currentMeta().epochs) {
      if (row <= state.start || row >= state.stop) continue;
      pen.beginPath();
      pen.moveTo(this.x(row), base);
      pen.lineTo(this.x(row) - 3.5, base + 6);
      pen.lineTo(this.x(row) + 3.5, base + 6);
      pen.fill();
    }
  }

  /**
   * A bar where the training went on from a checkpoint.
   *
   * @param {Pen} pen
   * @param {number} base
   */
  resumptions(pen, base) {
    pen.fillStyle = shades.warning;
    for (const row of resumedRows()) {
      if (row <= state.start || row >= state.stop) continue;
      pen.fillRect(this.x(row) - 1, base, 2, 7);
    }
  }

  /**
   * The cursor, and a box around the parameter it is on: where it begins and how high it is; none
   * where that is null.
   *
   * @param {[number, number] | null} [box]
   */
  cursor(box) {
    if (box !== undefined) this.box = box;
    const pen = fit(this.over, this.width, this.height);
    if (this.selected) {
      pen.fillStyle = shades.shade;
      pen.fillRect(
        this.selected[0],
        this.top,
        this.selected[1] - this.selected[0],
        this.height - this.top - this.bottom,
      );
    }
    if (state.row >= state.start && state.row < state.stop) {
      const x = this.x(state.row + 0.5);
      // with an edge, so that it is seen on every colour
      for (const [colour, width] of [
        [shades.panel, 4],
        [shades.cursor, 1.5],
      ]) {
        pen.strokeStyle = String(colour);
        pen.lineWidth = Number(width);
        pen.beginPath();
        pen.moveTo(x, 0);
        pen.lineTo(x, this.height - this.bottom);
        pen.stroke();
      }
      if (this.box) {
        const [y, high] = this.box;
        pen.strokeStyle = shades.text;
        pen.lineWidth = 3;
        pen.strokeRect(x - 6, y - 1, 12, high + 2);
        pen.strokeStyle = shades.panel;
        pen.lineWidth = 1.2;
        pen.strokeRect(x - 6, y - 1, 12, high + 2);
      }
    }
  }
}
