// What did the loop do? The calls around the cursor in their order; equal distances, for the times
// are those of the calls, not how long. Forward is no call that is heard: what lies before a
// backward is drawn as an outline in its lane.

/** @import { LoopEvent } from "./answers.d.ts" */
/** @import { Pen, Slot } from "./types.d.ts" */

import { fit, triangle } from "./canvas.js";
import { shades } from "./colours.js";
import { stepOf } from "./cursor.js";
import { el } from "./dom.js";
import { dash, flagsOf, hasForward, since, siteOf } from "./lane_events.js";
import { loopList } from "./loop_lines.js";
import { asNumber, fmt } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { currentMeta, currentSource, state } from "./state.js";
import { inLanguage, sentences, T } from "./texts.js";

const LANES = ["FORWARD", "BACKWARD", "UNSCALE", "CLIP", "STEP", "SCALER_UPDATE", "ZERO_GRAD"];
const USUAL_LANES = ["FORWARD", "BACKWARD", "STEP", "ZERO_GRAD"];

const lanesCanvas = el("canvas", { role: "img" });

const lanesTip = el("div", { class: "tip", hidden: true });

const loopBox = el("div", {});

const lanesBox = el("div", { class: "canvas" }, lanesCanvas, lanesTip);

/**
 * What is drawn where: left, top, width, height, and what it is.
 *
 * @type {[number, number, number, number, Slot][]}
 */
let laneBoxes = [];

export const lanesPanel = new Panel("lanes", {
  title: "lanes",
  sub: () =>
    state.lanes && state.lanes.row !== state.row
      ? T("nearest_step", { wanted: stepOf(state.row) })
      : state.lanes?.left_out
        ? T("events_left_out", { number: state.lanes.left_out })
        : T("lanes_sub"),
  on: "meta lanes step",
  draw: drawLanes,
  table: () => ({
    head: ["step", "call", "since", "where", "value", "limit", "scale", "optimizer", "flags"].map(
      (key) => T(`column_${key}`),
    ),
    rows: (state.lanes?.events ?? []).map((each, index, events) => [
      each.step,
      T(`kind_${each.kind}`),
      dash(since(events, index)),
      siteOf(each),
      dash(each.value),
      dash(each.limit),
      dash(each.scale),
      each.optimizer < 0 ? "" : (currentMeta().optimizers[each.optimizer]?.name ?? ""),
      flagsOf(each),
    ]),
  }),
});

/** @param {number} step */
function faultsOf(step) {
  return currentMeta().findings.filter(
    (each) =>
      currentMeta().fault_kinds[each.code] && each.first_step <= step && step <= each.last_step,
  );
}

/**
 * @param {HTMLElement} body
 * @param {number} room
 */
function drawLanes(body, room) {
  if (!currentMeta().rows) return nothing(body, T("no_steps"));
  if (!state.lanes) return nothing(body, T(currentSource().live ? "loading" : "not_in_report"));
  loopBox.replaceChildren(loopList());
  if (lanesBox.parentNode !== body) body.replaceChildren(loopBox, lanesBox);
  const { events, steps } = state.lanes;
  const width = room || 800,
    left = 104,
    high = 19,
    top = 20;
  const lanes = lanesInUse(events);
  const height = top + lanes.length * high + 8;
  const pen = fit(lanesCanvas, width, height);
  lanesCanvas.setAttribute(
    "aria-label",
    T("lanes_label", { number: events.length, first: steps[0], last: steps[steps.length - 1] }),
  );
  /** @type {Slot[]} */
  const slots = [];
  for (const step of steps) {
    events.forEach((event, index) => {
      if (event.step !== step) return;
      if (hasForward(event)) slots.push({ step, forward: since(events, index) });
      slots.push({ step, event });
    });
    slots.push(...faultsOf(step).map((finding) => ({ step, finding })), { step });
  }
  const wide = (width - left - 6) / Math.max(1, slots.length);
  laneBoxes = [];
  drawLaneNames(pen, lanes, left, top, high, width);
  let start = 0;
  for (const step of steps) {
    const num = slots.filter((slot) => slot.step === step).length;
    drawLaneStep(pen, step, left + start * wide, num * wide, top, height);
    start += num;
  }
  slots.forEach((slot, index) => {
    const x = left + index * wide;
    if (slot.forward !== undefined) {
      drawForward(pen, x, top + 3, Math.max(3, wide - 2), high - 6);
      laneBoxes.push([x, top, wide, high, slot]);
    } else if (slot.event) {
      const y = top + lanes.indexOf(slot.event.kind) * high + 3;
      pen.fillStyle = {
        BACKWARD: shades.before,
        UNSCALE: shades.other,
        CLIP: shades.warning,
        STEP: shades.good,
        SCALER_UPDATE: shades.other,
        ZERO_GRAD: shades.dim,
      }[slot.event.kind];
      pen.fillRect(x, y, Math.max(2, wide - 2), high - 6);
      if (
        slot.event.kind === "BACKWARD" &&
        !Number.isFinite(asNumber(slot.event.value)) &&
        asNumber(slot.event.value) !== null
      )
        triangle(pen, x + wide / 2, y + 5, 5, shades.nan);
      laneBoxes.push([x, y, wide, high, slot]);
    } else if (slot.finding) {
      const y = top + lanes.indexOf(currentMeta().fault_kinds[slot.finding.code]) * high + 3;
      pen.strokeStyle = shades.error;
      pen.lineWidth = 2;
      pen.strokeRect(x + 1, y, Math.max(6, wide - 3), high - 6);
      pen.lineWidth = 1;
      laneBoxes.push([x, y, Math.max(8, wide), high, slot]);
    }
  });
}

/**
 * @param {Pen} pen
 * @param {number} x
 * @param {number} y
 * @param {number} wide
 * @param {number} high
 */
function drawForward(pen, x, y, wide, high) {
  pen.strokeStyle = shades.dim;
  pen.setLineDash(wide < 10 ? [] : [3, 3]);
  pen.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
  pen.setLineDash([]);
}

/**
 * The lanes to draw: those of every loop, and of the others those with a call or a fault.
 *
 * @param {LoopEvent[]} events
 */
function lanesInUse(events) {
  const faults = currentMeta().findings.map((each) => currentMeta().fault_kinds[each.code]);
  return LANES.filter(
    (name) =>
      USUAL_LANES.includes(name) ||
      faults.includes(name) ||
      events.some((each) => each.kind === name),
  );
}

/**
 * @param {Pen} pen
 * @param {string[]} lanes
 * @param {number} left
 * @param {number} top
 * @param {number} high
 * @param {number} width
 */
function drawLaneNames(pen, lanes, left, top, high, width) {
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  lanes.forEach((name, lane) => {
    pen.fillStyle = shades.dim;
    pen.fillText(T(`kind_${name}`), left - 8, top + (lane + 0.5) * high);
    pen.strokeStyle = shades.grid;
    pen.beginPath();
    pen.moveTo(left, top + (lane + 1) * high - 0.5);
    pen.lineTo(width, top + (lane + 1) * high - 0.5);
    pen.stroke();
  });
}

/**
 * @param {Pen} pen
 * @param {number} step
 * @param {number} x
 * @param {number} wide
 * @param {number} top
 * @param {number} height
 */
function drawLaneStep(pen, step, x, wide, top, height) {
  const current = state.step && step === state.step.step;
  if (current) {
    pen.fillStyle = shades.shade;
    pen.fillRect(x - 2, 0, wide, height);
  }
  pen.fillStyle = current ? shades.cursor : shades.dim;
  pen.textAlign = "left";
  pen.textBaseline = "top";
  const faults = faultsOf(step)
    .map((each) => each.code)
    .join(" ");
  pen.save();
  pen.beginPath();
  pen.rect(x, 0, wide - 6, top);
  pen.clip();
  pen.fillText(sentences(T("step", { step }), faults), x, 3);
  if (state.lanes?.nonfinite?.includes(step)) triangle(pen, x + wide - 12, 9, 5, shades.nan);
  pen.restore();
}

/** @param {Slot} slot */
function slotText({ step, forward, event, finding }) {
  if (finding) return `${finding.code} ${finding.name}\n${inLanguage(finding.cause)}`;
  const lines = [];
  if (forward !== undefined) {
    lines.push(T("forward_what"), T("step", { step }));
    if (!Number.isNaN(forward)) lines.push(T("forward_took", { time: fmt(forward, 3) }));
  } else if (event) {
    lines.push(T(`kind_${event.kind}`), T("step", { step }), siteOf(event));
    if (!Number.isNaN(asNumber(event.value)))
      lines.push(`${T("column_value")} ${fmt(event.value)}`);
    lines.push(flagsOf(event));
  }
  return lines.filter((each) => each).join("\n");
}

lanesBox.addEventListener("pointermove", (event) => {
  const box = lanesCanvas.getBoundingClientRect();
  const x = event.clientX - box.left,
    y = event.clientY - box.top;
  const found = laneBoxes.find(
    ([left, top, wide, high]) => x >= left && x < left + wide && y >= top && y < top + high,
  );
  lanesTip.hidden = !found;
  if (!found) return;
  lanesTip.textContent = slotText(found[4]);
  lanesTip.style.left = `${Math.min(x + 12, Math.max(0, box.width - 240))}px`;
  lanesTip.style.top = `${y + 12}px`;
});

lanesBox.addEventListener("pointerleave", () => {
  lanesTip.hidden = true;
});
