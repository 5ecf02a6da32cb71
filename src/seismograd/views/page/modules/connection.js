// Whether answers arrive.

import { byId } from "./dom.js";
import { CONFIG } from "./look.js";
import { T } from "./texts.js";

/**
 * @param {boolean} well
 * @param {unknown} [error]
 */
export function connected(well, error) {
  const root = byId("trouble");
  if (well) {
    root.hidden = true;
    return;
  }
  const refused = error instanceof Error && /^40[13]$/.test(error.message);
  const isServed = CONFIG.mode === "view";
  const held = CONFIG.mode === "widget" ? "trouble_widget" : "trouble_report";
  root.textContent = T(isServed ? (refused ? "trouble_token" : "trouble_lost") : held);
  root.hidden = false;
  if (error && !isServed) throw error;
}
