// What a parameter is called where it is read by eye: with what it is, where its name is a number.

/** @import { Parameter } from "./answers.d.ts" */

/**
 * `0.weight` of a Linear is `0 · Linear 784→32`, its bias `0 · Linear bias`; other names stay.
 *
 * @param {Parameter} parameter
 */
export function plainName({ name, module, shape }) {
  const at = name.lastIndexOf(".");
  const owner = name.slice(0, Math.max(0, at)),
    own = name.slice(at + 1);
  if (!module || !/(^|\.)\d+$/.test(owner)) return name;
  const kind = module.split(".").at(-1);
  if (own !== "weight") return `${owner} · ${kind} ${own}`;
  return `${owner} · ${kind}${shape.length === 2 ? ` ${shape[1]}→${shape[0]}` : ""}`;
}
