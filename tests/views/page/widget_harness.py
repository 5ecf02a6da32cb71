"""A page that plays the notebook: it holds the state of a widget and shows it as anywidget does,
`render({model, el})` once for each view.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from seismograd.views.page.widget_script import widget_script
from tests.views.page.browsing import COUNT_PIXELS, NAN_COLOURS, Browsing

COUNT_IN_VIEW = (
    "([index, ...given]) => { const root = document.querySelectorAll('.seismograd-widget')[index]"
    f".shadowRoot; return ({COUNT_PIXELS.strip().replace('document.', 'root.')})(given); }}"
)

PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><link rel="icon" href="data:,"></head>
<body style="background: {back}; margin: 8px">
<div id="cells"></div>
<script type="module">
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const listeners = new Set();
const kept = { answers: new DataView(new ArrayBuffer(0)), lang: {lang} };
const model = {
  get: (name) => kept[name],
  on: (name, call) => listeners.add(call),
  off: (name, call) => listeners.delete(call),
};
const widget = (await import("data:text/javascript;base64,{script}")).default;
window.push = (text) => {
  kept.answers = new DataView(bytesOf(text).buffer);
  for (const call of [...listeners]) call();
};
window.listening = () => listeners.size;
window.show = (isLate) => {
  const el = document.createElement("div");
  el.style.width = "{width}px";
  el.className = "cell";
  const cells = document.getElementById("cells");
  if (!isLate) cells.append(el);
  const end = widget.render({ model, el });
  if (isLate) setTimeout(() => cells.append(el), 100); // as JupyterLab does
  return end;
};
window.isReady = true;
</script></body></html>
"""


def write_notebook(
    path: Path, *, theme: str = "light", lang: str = "en", width: int = 1100
) -> Path:
    """Write the page; a view shows nothing yet."""
    parts = {
        "back": "#ffffff" if theme == "light" else "#111318",
        "lang": json.dumps(lang),
        "width": str(width),
        "script": base64.b64encode(widget_script().encode()).decode(),
    }
    text = PAGE
    for name, value in parts.items():
        text = text.replace(f"{{{name}}}", value)
    path.write_text(text, encoding="utf-8")
    return path


class Notebook(Browsing):
    """The page in a browser."""

    def __init__(self, browser: Any, path: Path, theme: str = "light") -> None:
        super().__init__(browser, path.resolve().as_uri(), 1150, 1250, theme)

    def ready(self) -> None:
        """Wait until the script of the widget is there."""
        self.page.wait_for_function("() => window.isReady")

    def push(self, answers: bytes) -> None:
        """Put this into the state, as the kernel does."""
        self.page.evaluate("text => window.push(text)", base64.b64encode(answers).decode())

    def show(self, *, is_late: bool = False) -> None:
        """Show one more view; `is_late`: it comes into the document only behind its rendering."""
        self.page.evaluate(
            "late => { window.ends = [...(window.ends ?? []), window.show(late)]; }", is_late
        )

    def view(self, index: int = 0) -> Any:
        """The parts of a view, found through its shadow."""
        return self.page.locator(".cell").nth(index)

    def wait_steps(self, number: int, index: int = 0) -> None:
        """Wait until a view has taken in a run of so many steps, and has drawn them."""
        self.page.wait_for_function(
            """([index, window]) => {
              const root = document.querySelectorAll(".seismograd-widget")[index]?.shadowRoot;
              return root?.querySelector("#heat .canvas canvas")?.dataset.shows === window;
            }""",
            arg=[index, f"0-{number}"],
        )

    def nan_pixels(self, panel: str, index: int = 0) -> int:
        """How many pixels of a panel of a view have the colour of NaN."""
        return int(self.page.evaluate(COUNT_IN_VIEW, self._of_nan(panel, index)))

    def wait_nan_pixels(self, panel: str, least: int, index: int = 0) -> None:
        """Wait until at least so many have: it is drawn a moment after it is taken in."""
        self.page.wait_for_function(
            f"([least, given]) => ({COUNT_IN_VIEW})(given) >= least",
            arg=[least, self._of_nan(panel, index)],
        )

    def _of_nan(self, panel: str, index: int) -> list[object]:
        return [index, f"#{panel}", list(NAN_COLOURS[self.theme])]
