// The severities of findings, the worst first, and a mark for each: they are not told by colour
// alone.

/** @import { Severity } from "./answers.d.ts" */

/** @type {Severity[]} */
export const SEVERITIES = ["error", "warning", "info"];

/** @type {Record<Severity, string>} */
export const SEVERITY_MARKS = { error: "▲", warning: "◆", info: "●" };
