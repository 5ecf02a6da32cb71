"""How long `seismograd view` takes to show a run, and how long its heat map takes to be coloured
anew.

    python benchmarks/page.py

Needs Chromium, and playwright. A record of 5,000 parameters x 1,000,000 steps is made in a
temporary folder (`long_record.py` says what of it is real), a server is started for it as a user
would, and the page is opened in a new browser context each time. Printed are the times from the
start of the navigation to the frame that shows the verdict, and to that with the heat map. "cold":
the files of the record were put out of the system's cache before. Then a run of 1,000 parameters x
1,000 steps is shown, and its heat map coloured anew.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from long_record import make_record
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PAINTED = "name => performance.getEntriesByName(`seismograd ${name}`)[0]?.startTime"
ASKED = """
() => performance.getEntriesByType("resource").map((each) =>
  [each.name.split("?")[0].split("/").pop(), each.startTime, each.responseEnd, each.encodedBodySize, each.serverTiming[0]?.duration ?? 0])
"""

# A key, and the time until the frame behind it; what of that the colouring took, if there was any.
AFTER_KEY = """
(key) => new Promise((done) => {
  performance.clearMeasures();
  const start = performance.now();
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  setTimeout(() => requestAnimationFrame(() => setTimeout(() => {
    done([performance.now() - start, performance.getEntriesByName("seismograd colours")[0]?.duration ?? -1]);
  })), 0);
})
"""


@contextmanager
def serving(run: Path) -> Iterator[str]:
    """A server of its own; its address."""
    command = [sys.executable, "-m", "seismograd", "view", str(run), "--no-open", "--port", "0"]
    with subprocess.Popen(
        command, env={**os.environ, "LANGUAGE": "en"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()


def forget(run: Path) -> None:
    """Ask the system to drop the files from its cache."""
    for file in run.rglob("*"):
        if file.is_file():
            with file.open("rb") as held:
                os.fsync(held.fileno())
                os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def opened(browser: Browser, address: str, scale: float = 1) -> Page:
    """The page with its heat map, in a context that knows nothing of earlier ones."""
    page = browser.new_context(
        viewport={"width": 1500, "height": 1000}, device_scale_factor=scale
    ).new_page()
    page.goto(address)
    page.wait_for_function(PAINTED, arg="heat")
    return page


def show(what: str, times: list[float]) -> None:
    """The first one, in which the browser compiles the script, is in the median and named; the
    worst is that of the others.
    """
    first, median, worst = times[0], statistics.median(times), max(times[1:] or times)
    print(
        f"{what:58} median {median:7.1f} ms, first {first:7.1f}, worst other {worst:7.1f}, of "
        f"{len(times)}"
    )


def first_paint(browser: Browser, run: Path, times: int, cold: bool) -> None:
    verdicts, maps, asked = [], [], []
    for _ in range(times):
        if cold:
            forget(run)
        with serving(run) as address:
            page = opened(browser, address)
            verdicts.append(float(page.evaluate(PAINTED, "verdict")))
            maps.append(float(page.evaluate(PAINTED, "heat")))
            page.wait_for_function(
                "() => !document.querySelector('#main').textContent.includes('Loading')"
            )
            asked = page.evaluate(ASKED)
            page.context.close()
    kind = "cold" if cold else "warm"
    show(f"{kind}: until the verdict is seen", verdicts)
    show(f"{kind}: until the heat map is seen", maps)
    for name, start, end, size, server in asked:
        print(
            f"    {name:10} asked at {start:6.0f} ms, there at {end:6.0f} ms, {size:9,d} bytes, "
            f"server {server:6.1f} ms"
        )


def recolour(browser: Browser, run: Path, scale: float, times: int) -> None:
    with serving(run) as address:
        page = opened(browser, address, scale)
        page.wait_for_timeout(500)
        size = page.evaluate(
            "() => { const canvas = document.querySelector('#heat canvas'); return [canvas.width, "
            "canvas.height]; }"
        )
        print(f"heat map of 1,000 x 1,000 on a canvas of {size[0]} x {size[1]} pixels")
        for what, keys in (
            ("other colours (d)", "d"),
            ("one scale, or one a row (c)", "c"),
            ("the cursor moves (arrow)", "ArrowLeft"),
        ):
            frames, colours = zip(
                *(page.evaluate(AFTER_KEY, keys) for _ in range(times)), strict=True
            )
            if max(colours) >= 0:
                show(f"  {what}: the heat map", list(colours))
            show(f"  {what}: all panels, to the frame", list(frames))
        page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    chromium = (
        os.environ.get("SEISMOGRAD_CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("google-chrome")
    )
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        long_run = make_record(Path(folder) / "long", options.parameters, options.steps)
        browser: Any = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        print(
            f"Chromium {browser.version}; {options.parameters:,} parameters x {options.steps:,} "
            "steps"
        )
        browser.new_page().close()
        for cold in (True, False):
            first_paint(browser, long_run, options.times, cold)
        square = make_record(Path(folder) / "square", 1000, 1000, 1000)
        for scale in (1, 2):
            recolour(browser, square, scale, 50)
        browser.close()


if __name__ == "__main__":
    main()
