// A panel: a title, a picture, and the same as a table that can be copied as CSV.

const panels = new Map();

function panel(id, { title, sub, draw, table, own, on: names }) {
  const made = { id, title, sub, draw, table, own, asTable: false };
  made.root = el("section", { class: "panel", id, "aria-labelledby": `${id}-title` });
  made.head = el("header");
  made.body = el("div", { class: "body" });
  made.tableBody = el("div", { class: "scroll", tabindex: "0", hidden: true });
  made.root.append(made.head, made.body, made.tableBody);
  made.refresh = () => { waiting.add(made); drawSoon(); };
  panels.set(id, made);
  on(`${names} look tables`, made.refresh);
  return made;
}

// All panels that have something new, in one go: what is read of the layout is read between what is written, once.
const waiting = new Set();
const drawSoon = later(() => {
  const now = [...waiting].filter((made) => state.meta && made.root.isConnected);
  waiting.clear();
  now.forEach(drawHead);
  for (const made of now) made.body.room = made.body.clientWidth;
  for (const made of now) {
    if (made.asTable) fillTable(made);
    else made.draw(made.body);
  }
}, 0);

function drawHead(made) {
  const focused = made.head.contains(document.activeElement) ? document.activeElement.getAttribute("data-name") : null;
  made.head.replaceChildren(
    el("h2", { id: `${made.id}-title` }, T(made.title)),
    el("span", { class: "sub" }, made.sub ? made.sub() : ""),
    el("span", { class: "own" }, ...(made.own && !made.asTable ? made.own() : []), ...(made.asTable ? [copyButton(made)] : []), tableButton(made)),
  );
  if (focused) made.head.querySelector(`[data-name="${focused}"]`)?.focus();
  made.body.hidden = made.asTable;
  made.tableBody.hidden = !made.asTable;
}

function tableButton(made) {
  return el("button", { type: "button", "data-name": "table", "aria-pressed": String(made.asTable), onclick: () => { made.asTable = !made.asTable; made.refresh(); } }, T("table"));
}

function copyButton(made) {
  return el("button", { type: "button", "data-name": "copy", onclick: async () => {
    const { head, rows } = made.table();
    const text = [head, ...rows].map((row) => row.map(csv).join(",")).join("\n");
    const done = await copied(text);
    tell(T(done ? "copied" : "not_copied"));
  } }, T("copy_csv"));
}

function csv(value) {
  const text = typeof value === "number" ? String(value).replace("NaN", "nan").replace("Infinity", "inf") : String(value ?? "");
  const safe = /^[=+@\t\r]/.test(text) ? `'${text}` : text; // a spreadsheet would take it for a formula
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* a page from disk has no clipboard: the old way */ }
  const area = el("textarea", { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

const MOST_TABLE_ROWS = 1000;

function fillTable(made) {
  const { head, rows } = made.table();
  const shown = rows.slice(0, MOST_TABLE_ROWS);
  const looked = shown.slice(0, 50);
  const words = head.map((_, column) => !looked.some((row) => typeof row[column] === "number") && looked.some((row) => !["", "–"].includes(row[column] ?? "")));
  const cell = (value, column) => {
    const text = typeof value === "number" ? fmt(value, 6) : String(value ?? "");
    const bad = text === "nan" || text === "inf" || text === "-inf" || text === T("state_4");
    return el("td", { class: `${bad ? "nonfinite" : text.length > 60 ? "long" : ""} ${words[column] ? "words" : ""}`.trim() || null }, text);
  };
  made.tableBody.replaceChildren(
    el("table", {}, el("caption", { class: "skip" }, T(made.title)), el("thead", {}, el("tr", {}, ...head.map((each, column) => el("th", { scope: "col", class: words[column] ? "words" : null }, each)))),
      el("tbody", {}, ...shown.map((row) => el("tr", {}, ...row.map(cell))))),
    rows.length > shown.length ? el("p", { class: "dim" }, T("table_cut", { number: count(rows.length) })) : "",
  );
}

function tell(text) {
  document.getElementById("say").textContent = text;
}

function nothing(body, text) {
  body.replaceChildren(el("p", { class: "nothing" }, text));
}

// A picture over rows of the run: its margins, and from pixels to rows and back. All such pictures move the one cursor.
class Stage {
  constructor(label, keys) {
    this.canvas = el("canvas", { role: "img" });
    this.over = el("canvas", { class: "over", "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.root = el("div", { class: "canvas", tabindex: "0", role: "application", "aria-roledescription": T("picture") }, this.canvas, this.over, this.tip);
    this.label = label;
    this.left = 60; this.right = 8; this.top = 4; this.bottom = 20;
    this.width = 0; this.height = 0;
    this.point = keys;
    this.listen();
  }

  get inner() { return Math.max(1, this.width - this.left - this.right); }
  x(row) { return this.left + ((row - state.start) / Math.max(1, state.stop - state.start)) * this.inner; }
  row(x) { return Math.floor(state.start + ((x - this.left) / this.inner) * (state.stop - state.start)); }

  begin(body, height) {
    if (this.root.parentNode !== body) body.replaceChildren(this.root);
    this.width = body.room || 600;
    this.height = height;
    this.canvas.setAttribute("aria-label", this.label());
    return fit(this.canvas, this.width, height);
  }

  listen() {
    let from = null;
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.root.addEventListener("pointerdown", (event) => { if (event.button === 0) from = place(event)[0]; });
    this.root.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      this.selected = from !== null && Math.abs(x - from) > 4 ? [Math.min(from, x), Math.max(from, x)] : null;
      if (this.selected) this.cursor();
      this.hint(x, y);
    });
    this.root.addEventListener("pointerleave", () => { this.tip.hidden = true; from = null; if (this.selected) { this.selected = null; this.cursor(); } });
    this.root.addEventListener("pointerup", (event) => {
      const [x, y] = place(event);
      if (this.selected) {
        const [low, high] = this.selected;
        this.selected = null;
        from = null;
        setWindow(this.row(clamp(low, this.left, this.left + this.inner)), this.row(clamp(high, this.left, this.left + this.inner)) + 1);
      } else if (from !== null) {
        from = null;
        if (x >= this.left && x <= this.left + this.inner) setCursor(this.row(x), this.point.column?.(y));
        else this.point.aside?.(y);
      }
    });
    this.root.addEventListener("dblclick", () => zoom(4));
    this.root.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // else the page scrolls
      event.preventDefault();
      zoom(event.deltaY > 0 || event.deltaX > 0 ? 1.25 : 0.8, this.row(place(event)[0]));
    }, { passive: false });
  }

  hint(x, y) {
    const text = x >= this.left && x <= this.left + this.inner ? this.point.hint?.(this.row(x), y, x) : null;
    this.tip.hidden = !text;
    if (!text) return;
    this.tip.textContent = text;
    this.tip.style.left = `${Math.min(x + 14, Math.max(0, this.width - 260))}px`;
    this.tip.style.top = `${y + 14}px`;
  }

  axis(pen) {
    pen.fillStyle = shades.dim;
    pen.strokeStyle = shades.line;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const base = this.height - this.bottom;
    const first = stepOf(state.start);
    for (const step of ticks(first, stepOf(state.stop - 1), Math.max(2, this.inner / 90))) {
      const x = this.x(state.start + step - first + 0.5);
      if (x > this.left + this.inner) continue;
      pen.beginPath(); pen.moveTo(x, base); pen.lineTo(x, base + 4); pen.stroke();
      pen.fillText(count(step), clamp(x, this.left + 12, this.left + this.inner - 12), base + 5);
    }
  }

  // The cursor, and a box around the parameter it is on: where it begins and how high it is; none where that is null.
  cursor(box) {
    if (box !== undefined) this.box = box;
    const pen = fit(this.over, this.width, this.height);
    if (this.selected) {
      pen.fillStyle = shades.shade;
      pen.fillRect(this.selected[0], this.top, this.selected[1] - this.selected[0], this.height - this.top - this.bottom);
    }
    if (state.row >= state.start && state.row < state.stop) {
      const x = this.x(state.row + 0.5);
      pen.strokeStyle = shades.cursor;
      pen.lineWidth = 1.5;
      pen.beginPath(); pen.moveTo(x, 0); pen.lineTo(x, this.height - this.bottom); pen.stroke();
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
