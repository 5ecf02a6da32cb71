// Where the page is: in a document of its own, or in one view of a widget in a notebook, of which a
// document may hold several.

/** @import { Place } from "./types.d.ts" */

/** @type {Place} */
export const place =
  typeof VIEW_OF_WIDGET === "undefined"
    ? { root: document, element: document.documentElement, body: document.body }
    : VIEW_OF_WIDGET;
