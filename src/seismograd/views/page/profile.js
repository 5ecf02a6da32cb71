// Why? The norms over depth at the chosen step, and the line through them: what a layer passes on of the gradient that it gets.

const profileCanvas = el("canvas", { role: "img" });
const profileBox = el("div", { class: "canvas" }, profileCanvas);
const profileText = el("p", {});
const profileSlot = el("p", { class: "slot" }); // signals per module are measured by no version yet

const profilePanel = panel("profile", {
  title: "profile",
  sub: () => (state.step && state.step.row >= 0 ? sentences(T("step", { step: state.step.step }), nearestText()) : ""),
  on: "meta step column rows",
  draw: drawProfile,
  table: () => ({
    head: ["parameter", "depth", "state", "norm", "fitted"].map((key) => T(`column_${key}`)),
    rows: state.step ? layersNow().map((column) => [state.meta.parameters[column].name, state.meta.parameters[column].depth ?? "–", T(`state_${state.step.states[column]}`),
      state.step.states[column] > 1 ? state.step.grad_norm[column] : "–", fittedAt(column) ?? "–"]) : [],
  }),
});

const nearestText = () => (state.step && state.step.row !== state.row ? T("nearest_step", { wanted: stepOf(state.row) }) : "");

function layersNow() {
  const { layers, parameters } = state.meta;
  return layers.length ? layers : parameters.map((_, column) => column).filter((column) => isMatrix(parameters[column]));
}

function fittedAt(column) {
  const fit = state.step.fit;
  const place = fit ? fit.columns.indexOf(column) : -1;
  return place < 0 ? null : 10 ** (fit.intercept + fit.slope * place);
}

profileCanvas.addEventListener("click", (event) => {
  const layers = layersNow();
  const box = profileCanvas.getBoundingClientRect();
  const share = (event.clientX - box.left - 56) / (box.width - 66);
  if (layers.length) setCursor(state.row, layers[clamp(Math.round(share * (layers.length - 1)), 0, layers.length - 1)]);
});

function drawProfile(body) {
  const layers = state.meta.rows ? layersNow() : [];
  if (!layers.length) return nothing(body, T(state.meta.rows ? "no_layers" : "no_steps"));
  if (!state.step || !state.step.states) return nothing(body, T("loading"));
  if (profileBox.parentNode !== body) body.replaceChildren(profileText, profileBox, profileSlot);
  profileSlot.textContent = T("profile_slot");
  const { step } = state, fitted = step.fit;
  profileText.replaceChildren(...(fitted ? [el(fitted.goodness < 0.5 ? "span" : "strong", {}, T("gain", { gain: fmt(fitted.gain, 3) })), ` ${T("gain_rest", { layers: fitted.columns.length - 1, left: fmt(fitted.total, 2), goodness: fitted.goodness.toFixed(2) })}`,
    fitted.row !== step.row ? ` ${T("gain_at", { step: fitted.step })}` : ""] : [el("span", { class: "dim" }, T("gain_none"))]));
  const beside = geometry && window.innerWidth >= 1000 ? geometry.height - 90 : 0; // as high as the heat map that it is beside
  const width = body.room || 400, height = Math.max(340, beside), left = 56, right = 10, top = 22, bottom = 34;
  const pen = fit(profileCanvas, width, height);
  profileCanvas.setAttribute("aria-label", T("profile_label", { layers: layers.length, step: step.step }));
  const values = layers.map((column) => ({ column, state: step.states[column], norm: step.grad_norm[column] }));
  const logs = values.filter((each) => each.state === 3 && each.norm > 0).map((each) => Math.log10(each.norm));
  if (fitted) logs.push(fitted.intercept, fitted.intercept + fitted.slope * (fitted.columns.length - 1));
  let low = Math.floor(Math.min(...logs) - 0.1), high = Math.ceil(Math.max(...logs) + 0.1);
  if (!logs.length) { low = -3; high = 0; }
  if (high - low < 2) { low -= 1; high += 1; }
  const x = (place) => left + (layers.length === 1 ? 0.5 : place / (layers.length - 1)) * (width - left - right);
  const y = (log) => top + ((high - log) / (high - low)) * (height - top - bottom);
  if (fitted) drawBand(pen, fitted, layers, x, y, [left, top, width - left - right, height - top - bottom]);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const decade of ticks(low, high, 8).filter(Number.isInteger)) {
    pen.strokeStyle = shades.grid;
    pen.beginPath(); pen.moveTo(left, y(decade)); pen.lineTo(width - right, y(decade)); pen.stroke();
    pen.fillStyle = shades.dim;
    pen.fillText(fmt(10 ** decade, 2), left - 6, y(decade));
  }
  if (fitted) {
    pen.strokeStyle = shades.error;
    pen.lineWidth = 2;
    pen.beginPath();
    const placeOf = new Map(layers.map((column, place) => [column, place]));
    fitted.columns.forEach((column, place) => pen.lineTo(x(placeOf.get(column)), y(fitted.intercept + fitted.slope * place)));
    pen.stroke();
    pen.lineWidth = 1;
  }
  const size = clamp(1000 / layers.length, 1.2, 3.5);
  for (const isChosen of [false, true]) { // the chosen one above all others
    values.forEach((each, place) => { if ((each.column === state.column) === isChosen) drawPoint(pen, each, x(place), y, top, height - bottom, size); });
  }
  depthLabels(pen, layers, x, height - bottom + 5);
}

// The healthy slope, not a healthy norm: the lines through the end at the output with the gains from which the rules would look closer.
function drawBand(pen, fitted, layers, x, y, [left, top, wide, high]) {
  const last = fitted.columns.length - 1;
  const anchor = fitted.intercept + fitted.slope * last;
  const [small, large] = state.meta.gain_band.map(Math.log10);
  const start = x(layers.indexOf(fitted.columns[0])), end = x(layers.indexOf(fitted.columns[last]));
  pen.save();
  pen.beginPath(); pen.rect(left, top, wide, high); pen.clip();
  pen.fillStyle = fade("#1a7f4b", 0.14);
  pen.beginPath();
  pen.moveTo(end, y(anchor)); pen.lineTo(start, y(anchor + small * last)); pen.lineTo(start, y(anchor + large * last));
  pen.fill();
  pen.fillStyle = shades.dim;
  pen.textAlign = "left"; pen.textBaseline = "top";
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  pen.fillText(T("gain_band", { low: fmt(state.meta.gain_band[0], 2), high: fmt(state.meta.gain_band[1], 2) }), left + 4, top + 3);
  pen.restore();
}

function drawPoint(pen, { column, state: kind, norm }, x, y, top, base, size) {
  const chosen = column === state.column;
  if (kind === 4) { triangle(pen, x, top - 4, chosen ? 7 : 5, shades.nan); pen.fillStyle = shades.nan; pen.textAlign = "center"; pen.textBaseline = "bottom"; if (chosen) pen.fillText("NaN/Inf", clamp(x, 80, 1e4), top - 8); return; }
  if (kind === 2) { pen.fillStyle = shades.text; pen.fillRect(x - 4, base - 4, 8, 4); return; }
  if (kind < 2) { pen.strokeStyle = shades["absent-line"]; pen.strokeRect(x - 3, base - 3, 6, 6); return; }
  pen.fillStyle = chosen ? shades.cursor : shades.before;
  pen.beginPath(); pen.arc(x, y(Math.log10(Math.max(norm, 1e-300))), chosen ? 6 : size, 0, 7); pen.fill();
}

function depthLabels(pen, layers, x, y) {
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = shades.dim;
  pen.textBaseline = "top";
  const room = x(layers.length - 1) - x(0);
  const every = Math.max(1, Math.ceil(layers.length / Math.max(1, Math.floor(room / 70))));
  pen.textAlign = "center";
  for (let place = 0; place < layers.length; place += every) {
    const name = state.meta.parameters[layers[place]].name.split(".").slice(0, -1).slice(0, 2).join(".") || state.meta.parameters[layers[place]].name;
    pen.fillText(shortened(pen, name, 66), clamp(x(place), 40, x(0) + room - 10), y);
  }
  if (layers.length < 2) return;
  pen.textAlign = "left"; pen.fillText(`← ${T("input")}`, x(0) - 4, y + 14);
  pen.textAlign = "right"; pen.fillText(`${T("output")} →`, x(layers.length - 1), y + 14);
}
