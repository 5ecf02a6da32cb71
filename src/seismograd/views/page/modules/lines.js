// Lines over the steps with uPlot. It bridges NaN, so what is not a number is given as null: a gap.

/** @import { PlotLine, PlotOptions } from "./types.d.ts" */

import { triangle } from "./canvas.js";
import { fade, shades } from "./colours.js";
import { resumedRows, setCursor, setWindow, stepOf, zoom } from "./cursor.js";
import { el } from "./dom.js";
import { look } from "./look.js";
import { count } from "./numbers.js";
import { distinct, marked } from "./plot_axis.js";
import { currentMeta, state } from "./state.js";

/** @type {Set<Lines>} */
const plotted = new Set();

/** Let go of what plots listen to beyond their own elements. */
export function endPlots() {
  for (const each of plotted) each.plot?.destroy();
  plotted.clear();
}

export class Lines {
  /** @param {() => string} label */
  constructor(label) {
    this.root = el("div", { class: "canvas" });
    // the cursor is an element, for moving it draws no line anew
    this.at = el("div", { class: "at" });
    this.label = label;
    /** @type {uPlot | null} */
    this.plot = null;
    this.shape = "";
    /** @type {number[]} */
    this.marks = [];
  }

  /**
   * `lines`: {label, values, colour, dash?, width?, scale?, fill?}; `pairs`: [high, low] numbers
   * of lines with a band between.
   *
   * @param {Element} body
   * @param {number} height
   * @param {number[]} rows
   * @param {PlotLine[]} lines
   * @param {PlotOptions} [options]
   */
  draw(body, height, rows, lines, { log = {}, pairs = [], marks = [], axes = ["y"] } = {}) {
    if (this.root.parentNode !== body) body.append(this.root);
    const width = Math.max(200, body.clientWidth || 400);
    this.marks = marks;
    /** @type {uPlot.AlignedData} */
    const data = [
      rows,
      ...lines.map((line) =>
        Array.from(line.values, (value) =>
          Number.isFinite(value) && (!log[line.scale ?? "y"] || value > 0) ? value : null,
        ),
      ),
    ];
    const shape = JSON.stringify([
      lines.map((line) => [line.label, line.colour, line.scale]),
      log,
      width,
      look.theme,
      look.lang,
      height,
    ]);
    this.root.setAttribute("role", "img");
    this.root.setAttribute("aria-label", this.label());
    if (this.plot && shape === this.shape) {
      const { plot } = this;
      plot.setData(data, false);
      plot.batch(() => {
        plot.setScale("x", {
          min: state.start,
          max: Math.max(state.start + 1, state.stop - 1),
        });
        for (const scale of axes) plot.setScale(scale, this.range(scale, lines, log[scale]));
      });
      return;
    }
    this.plot?.destroy();
    this.shape = shape;
    plotted.add(this);
    this.plot = new uPlot(this.options(width, height, lines, log, pairs, axes), data, this.root);
  }

  /**
   * @param {string} scale
   * @param {PlotLine[]} lines
   * @param {boolean | undefined} log
   */
  range(scale, lines, log) {
    let low = Infinity,
      high = -Infinity;
    for (const line of lines) {
      if ((line.scale ?? "y") !== scale) continue;
      for (const value of Array.from(line.values)) {
        if (!Number.isFinite(value) || (log && value <= 0)) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (low === Infinity) return log ? { min: 0.1, max: 1 } : { min: 0, max: 1 };
    if (log) return { min: low / 1.3, max: high === low ? high * 3 : high * 1.3 };
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return { min: low - room, max: high + room };
  }

  /**
   * @param {number} width
   * @param {number} height
   * @param {PlotLine[]} lines
   * @param {Record<string, boolean>} log
   * @param {[number, number][]} pairs
   * @param {string[]} axes
   * @returns {uPlot.Options}
   */
  options(width, height, lines, log, pairs, axes) {
    /** @type {uPlot.Scales} */
    const scales = {
      x: {
        time: false,
        range: (_, low, high) => [low, high],
        auto: false,
        min: state.start,
        max: Math.max(state.start + 1, state.stop - 1),
      },
    };
    for (const scale of axes) {
      const range = this.range(scale, lines, log[scale]);
      scales[scale] = { distr: log[scale] ? 3 : 1, auto: false, min: range.min, max: range.max };
    }
    /**
     * @param {string} scale
     * @param {uPlot.Axis.Side} side
     * @returns {uPlot.Axis}
     */
    const axis = (scale, side) => ({
      scale,
      side,
      stroke: shades.dim,
      size: 58,
      font: "11px system-ui, sans-serif",
      grid: { show: side === 3, stroke: shades.grid, width: 1, filter: marked(log[scale]) },
      ticks: { stroke: shades.line, filter: marked(log[scale]) },
      values: (_, splits) => distinct(splits),
    });
    return {
      width,
      height,
      scales,
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, setScale: false },
        focus: { prox: -1 },
        points: { size: 5 },
      },
      axes: [
        {
          stroke: shades.dim,
          size: 26,
          font: "11px system-ui, sans-serif",
          grid: { show: false },
          ticks: { stroke: shades.line },
          values: (_, splits) =>
            splits.map((row) => (Number.isInteger(row) ? count(stepOf(row)) : "")),
        },
        ...axes.map((scale, index) => axis(scale, index ? 1 : 3)),
      ],
      series: [
        {},
        ...lines.map((line) => ({
          label: line.label,
          scale: line.scale ?? "y",
          stroke: line.colour,
          width: line.width ?? 1.5,
          dash: line.dash,
          spanGaps: false,
          points: {
            show: line.values.length < 3 ? true : undefined,
            size: 5,
            stroke: line.colour,
            fill: line.colour,
          },
        })),
      ],
      bands: pairs.map(([high, low]) => ({
        series: [high + 1, low + 1],
        fill: fade(lines[high].colour, 0.22),
      })),
      hooks: {
        draw: [(plot) => this.over(plot)],
        setSelect: [
          (plot) => {
            if (plot.select.width < 4) return;
            const low = plot.posToVal(plot.select.left, "x"),
              high = plot.posToVal(plot.select.left + plot.select.width, "x");
            plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            setWindow(low, high + 1);
          },
        ],
        ready: [
          (plot) => {
            plot.over.append(this.at);
            this.place(plot);
            plot.over.addEventListener("click", (event) => {
              const box = plot.over.getBoundingClientRect();
              setCursor(plot.posToVal(event.clientX - box.left, "x"));
            });
            plot.over.addEventListener("dblclick", () => zoom(4));
          },
        ],
      },
    };
  }

  /**
   * Where an epoch begins, where the training went on from a checkpoint, and where a step was not
   * finite.
   *
   * @param {uPlot} plot
   */
  over(plot) {
    const pen = plot.ctx,
      ratio = window.devicePixelRatio || 1;
    pen.save();
    pen.strokeStyle = shades.dim;
    pen.lineWidth = ratio;
    /** @param {number[]} rows */
    const verticals = (rows) => {
      for (const row of rows) {
        if (row <= state.start || row >= state.stop) continue;
        const x = plot.valToPos(row - 0.5, "x", true);
        pen.beginPath();
        pen.moveTo(x, plot.bbox.top);
        pen.lineTo(x, plot.bbox.top + plot.bbox.height);
        pen.stroke();
      }
    };
    pen.setLineDash([ratio, 4 * ratio]);
    verticals(currentMeta().epochs);
    pen.strokeStyle = shades.warning;
    pen.setLineDash([4 * ratio, 2 * ratio]);
    verticals(resumedRows());
    for (const row of this.marks) {
      const x = plot.valToPos(row, "x", true);
      if (x >= plot.bbox.left - 2 && x <= plot.bbox.left + plot.bbox.width + 2)
        triangle(pen, x, plot.bbox.top + 6 * ratio, 5 * ratio, shades.nan);
    }
    pen.restore();
    this.place(plot);
  }

  /** @param {uPlot} plot */
  place(plot) {
    this.at.hidden = state.row < state.start || state.row >= state.stop;
    this.at.style.left = `${plot.valToPos(state.row, "x")}px`;
  }

  move() {
    if (this.plot) this.place(this.plot);
  }
}
