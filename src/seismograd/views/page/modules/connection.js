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
  root.textContent = T(
    CONFIG.mode === "report" ? "trouble_report" : refused ? "trouble_token" : "trouble_lost",
  );
  root.hidden = false;
  if (error && CONFIG.mode === "report") throw error;
}
