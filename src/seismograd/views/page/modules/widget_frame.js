// The frame of a widget in a notebook: each view of it has an element of its own, and runs the
// modules of the page for itself, so that several views neither share a cursor nor a name.

/** @import { Place, WidgetModel } from "./types.d.ts" */

const PARTS_OF_FRAME = ["bar", "trouble", "filters", "main", "say"];

// What notebooks note their colours in.
const NOTED_IN = ["class", "data-jp-theme-light", "data-vscode-theme-kind", "theme", "style"];

const LOOK_AGAIN_MS = 250;

/**
 * Whether it is dark around an element: by the first background there is, else by what the system
 * prefers.
 *
 * @param {Element} element
 */
function themeAround(element) {
  const kind = document.body.dataset.vscodeThemeKind;
  if (kind) return /dark|high-contrast$/.test(kind) ? "dark" : "light";
  for (let each = /** @type {Element | null} */ (element); each; each = each.parentElement) {
    const numbers = getComputedStyle(each).backgroundColor.match(/[\d.]+/g) ?? [];
    const colour = numbers.map(Number);
    if (colour.length < 3 || colour[3] === 0) continue;
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] < 128 ? "dark" : "light";
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/**
 * Data as the modules look for it: not executed.
 *
 * @param {string} id
 * @param {string} text
 */
function dataBlock(id, text) {
  const made = document.createElement("script");
  made.type = "application/json";
  made.id = id;
  made.textContent = text;
  return made;
}

/**
 * Show the widget in an element of the notebook.
 *
 * @param {{ model: WidgetModel, el: HTMLElement }} given
 */
export function render({ model, el: parent }) {
  const host = document.createElement("div");
  host.className = "seismograd-widget";
  // What is typed here is not a command for the notebook: this is how JupyterLab is told.
  host.dataset.lmSuppressShortcuts = "true";
  for (const name of ["keydown", "keypress", "keyup"])
    host.addEventListener(name, (event) => event.stopPropagation());
  parent.append(host);
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(WIDGET_PARTS.style);
  root.adoptedStyleSheets = [sheet];
  const body = document.createElement("div");
  body.className = "widget";
  for (const id of PARTS_OF_FRAME) {
    const part = document.createElement(id === "main" ? "main" : "div");
    part.id = id;
    if (id !== "main") part.className = id;
    part.hidden = id === "trouble"; // until there is some
    body.append(part);
  }
  root.append(body);
  /** @type {Place} */
  const view = { root, element: host, body, model };
  let again = 0;
  const followColours = () => {
    clearTimeout(again);
    // A long notebook takes out what is out of sight, and puts it back.
    if (host.isConnected) view.follow?.(themeAround(parent));
    else again = setTimeout(followColours, LOOK_AGAIN_MS);
  };
  const colours = new MutationObserver(followColours);
  const open = () => {
    const theme = themeAround(parent);
    host.dataset.theme = theme;
    const config = { mode: "widget", lang: model.get("lang"), only: null, theme };
    root.prepend(
      dataBlock("texts", WIDGET_PARTS.texts),
      dataBlock("config", JSON.stringify(config)),
    );
    openView(view);
    for (const each of [document.documentElement, document.body])
      colours.observe(each, { attributes: true, attributeFilter: NOTED_IN });
  };
  // A notebook may render it before it is in the document, where it has neither colours nor width.
  const shown = new ResizeObserver(() => {
    if (!host.isConnected) return;
    shown.disconnect();
    open();
  });
  shown.observe(host);
  return () => {
    shown.disconnect();
    colours.disconnect();
    clearTimeout(again);
    view.end?.();
    host.remove();
  };
}
