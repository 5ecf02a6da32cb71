// Small things that all panels use: elements, words, numbers, colours. Text always goes through text nodes, never through markup.

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const CONFIG = JSON.parse(document.getElementById("config").textContent);
const LANGUAGES = Object.keys(TEXTS);

const look = {
  lang: remembered("lang", CONFIG.lang),
  theme: remembered("theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
};

function remembered(name, otherwise) {
  try { return localStorage.getItem(`seismograd.${name}`) ?? otherwise; } catch { return otherwise; }
}

function remember(name, value) {
  try { localStorage.setItem(`seismograd.${name}`, value); } catch { /* a page from disk may not be allowed to */ }
}

function T(key, values) {
  const text = (TEXTS[look.lang] ?? TEXTS.en)[key];
  if (text === undefined) throw new Error(`no text ${key}`);
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole)) : text;
}

const inLanguage = (words) => (words ? words[look.lang] ?? words.en : "");

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const sentences = (...parts) => parts.filter((part) => part).join(" · ");
const count = (number) => Number(number).toLocaleString("en");

// Numbers of a record may be the words "nan", "inf", "-inf": JSON has no such numbers.
const number = (value) => (value === "nan" ? NaN : value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);

function fmt(value, digits = 4) {
  value = number(value);
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

function share(part, whole) {
  if (!part || !whole) return "0%";
  if (part === whole) return "100%";
  const percent = (100 * part) / whole;
  return percent < 0.05 ? "<0.1%" : percent >= 99.95 ? ">99.9%" : `${percent.toFixed(1)}%`;
}

const SEVERITY_MARKS = { error: "▲", warning: "◆", info: "●" };

// Colours: read from the style sheet, so that there is one place for them.
const shades = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["back", "panel", "line", "grid", "text", "dim", "accent", "error", "warning", "info", "good", "nan", "nan-dark", "zero",
    "absent", "absent-line", "nothing", "before", "after", "limit", "loss", "lr", "other", "cursor", "shade"]) {
    shades[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

const VIRIDIS = ["440154", "48186a", "472d7b", "424086", "3b528b", "33638d", "2c728e", "26828e", "21918c", "1fa088", "28ae80", "3fbc73",
  "5ec962", "84d44b", "addc30", "d8e219", "fde725"].map(rgb);
const DIVERGING = ["2166ac", "67a9cf", "d1e5f0", "f7f7f7", "fddbc7", "ef8a62", "b2182b"].map(rgb);

function rgb(hex) {
  hex = hex.replace("#", "");
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function along(colours, share) {
  const place = Math.max(0, Math.min(1, share)) * (colours.length - 1);
  const low = Math.min(Math.floor(place), colours.length - 2);
  return colours[low].map((value, index) => Math.round(value + (colours[low + 1][index] - value) * (place - low)));
}

const packed = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;

// A canvas as sharp as the screen; drawing is in CSS pixels.
function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(width * ratio)), high = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  return pen;
}

function fade(colour, alpha) {
  const [red, green, blue] = rgb(colour);
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

function triangle(pen, x, y, size, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.moveTo(x - size, y - size);
  pen.lineTo(x + size, y - size);
  pen.lineTo(x, y + size * 0.8);
  pen.fill();
}

// Round numbers for an axis of this length.
function ticks(start, stop, most) {
  const span = stop - start;
  if (!(span > 0)) return [start];
  const raw = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = Math.max(1, [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw));
  const found = [];
  for (let at = Math.ceil(start / size) * size; at <= stop; at += size) found.push(at);
  return found;
}

// Resolves once what was drawn is on the screen. A page in the background has no frames.
function afterFrame() {
  return new Promise((done) => {
    if (document.visibilityState === "hidden") setTimeout(done, 0);
    else requestAnimationFrame(() => setTimeout(done, 0));
  });
}

// Tells the browser's own measurements when something was first seen.
const seen = new Set();
function painted(what) {
  if (seen.has(what)) return;
  seen.add(what);
  afterFrame().then(() => performance.mark(`seismograd ${what}`));
}

// How long something took, the last time that it was done.
function timed(what, start) {
  performance.clearMeasures(`seismograd ${what}`);
  performance.measure(`seismograd ${what}`, { start });
}

function later(call, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait);
  };
}
