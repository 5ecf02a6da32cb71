"""A page under test: what it does wrong is noted, what it shows can be asked."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

NAN_COLOURS = {"light": (196, 0, 196), "dark": (255, 64, 255)}

COUNT_PIXELS = """
([selector, colour]) => {
  let found = 0;
  for (const canvas of document.querySelectorAll(`${selector} .body canvas`)) {
    if (canvas.closest(".legend") || !canvas.width || !canvas.height) continue;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at] === colour[0] && data[at + 1] === colour[1] && data[at + 2] === colour[2] && data[at + 3] === 255) found += 1;
    }
  }
  return found;
}
"""

READY = """
() => document.querySelector("#heat canvas, #heat .nothing, #runs table")
  && !document.querySelector("#main").textContent.includes("Loading")
"""


class Browsing:
    """One page. `problems` are errors, violations of the policy, and requests to anywhere else
    than its own address.
    """

    def __init__(self, browser: Any, url: str, width: int, height: int, theme: str) -> None:
        self.problems: list[str] = []
        self.theme = theme
        self._home = urlsplit(url)
        self._context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, locale="en-US"
        )
        self.page = self._context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)
        self.page.set_default_timeout(60_000)
        self.page.goto(url)
        self.ready()

    def ready(self) -> None:
        """Wait until nothing is loading."""
        self.page.wait_for_function(READY)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def said(self) -> str:
        """What the live region says."""
        return str(self.page.text_content("#say"))

    def wait_said(self, part: str) -> None:
        """Wait until the live region says this."""
        self.page.wait_for_function(
            "part => document.getElementById('say').textContent.includes(part)", arg=part
        )

    def pixels(self, panel: str, colour: tuple[int, int, int] | None = None) -> int:
        """How many pixels of a panel's pictures have exactly this colour, unless given that of
        NaN.
        """
        return int(
            self.page.evaluate(COUNT_PIXELS, [f"#{panel}", list(colour or NAN_COLOURS[self.theme])])
        )

    def wait_pixels(self, panel: str) -> None:
        """Wait until a panel shows a NaN."""
        self.page.wait_for_function(
            f"given => ({COUNT_PIXELS.strip()})(given) > 0",
            arg=[f"#{panel}", list(NAN_COLOURS[self.theme])],
        )

    def close(self) -> None:
        """Close it."""
        self._context.close()

    def _console(self, message: Any) -> None:
        # that is what `pixels` does
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            self.problems.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        wanted = urlsplit(request.url)
        if wanted.scheme != "data" and (wanted.scheme, wanted.netloc) != (
            self._home.scheme,
            self._home.netloc,
        ):
            self.problems.append(f"request: {request.url}")
        if (
            self._home.scheme == "file"
            and wanted.scheme == "file"
            and wanted.path != self._home.path
        ):
            self.problems.append(f"request: {request.url}")
