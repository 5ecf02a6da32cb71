"""Make what the README and docs/page.md show from real runs: the terminal as a picture, the texts
between its markers, the page.

make pictures        (the page's need Chromium; without it they stay as they are)
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
COLUMNS = 100
# what records the example in each, and where what it found begins; the last one is the picture
READMES = {
    "README.zh.md": ("seismograd run --lang zh examples/broken_net.py", "发现："),
    "README.md": ("seismograd run examples/broken_net.py", "Found:"),
}

# rich's own template fetches a font over the network; this one loads nothing.
TEMPLATE = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run(folder: Path, command: str) -> Text:
    """What a command prints in a terminal, with its colours; its two streams as they come."""
    environment = {
        **os.environ,
        "FORCE_COLOR": "1",
        "COLUMNS": str(COLUMNS),
        "LANGUAGE": "en",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("NO_COLOR", None)
    ran = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )
    return Text.from_ansi(ran.stdout.decode())


def picture(command: str, output: Text) -> str:
    """A terminal as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "dim"), command))
    console.print(output)
    return console.export_svg(title="", code_format=TEMPLATE, unique_id="terminal")


def put(document: str, name: str, command: str, output: str) -> str:
    """The document with the block after `<!-- name -->` replaced by a command and its output."""
    lines = [f"$ {command}", *(line.rstrip() for line in output.strip("\n").splitlines())]
    block = re.compile(rf"(?<=<!-- {name} -->\n```\n).*?(?=\n```)", re.DOTALL)
    changed, count = block.subn(lambda _: "\n".join(lines), document, count=1)
    if count != 1:
        raise ValueError(f"README.md has no block {name}")
    return changed


def pictures_of_the_page(report: Path, with_snapshots: Path) -> None:
    """The upper part of a report, light and dark, and the units that another one shows."""
    chromium = (
        os.environ.get("SEISMOGRAD_CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        print("no Chromium: the pictures of the page stay as they are")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": 1280, "height": 1240}, color_scheme=theme, locale="en-US"
            )
            page.goto(report.as_uri())
            page.wait_for_selector("#heat canvas[data-shows]")
            page.wait_for_selector("#seismogram svg")
            page.wait_for_timeout(500)  # the other panels
            page.screenshot(path=ROOT / "docs" / "img" / f"page_{theme}.png")
        page = browser.new_page(viewport={"width": 1100, "height": 900}, locale="en-US")
        page.goto(with_snapshots.as_uri())
        page.wait_for_selector("#pictures .units button")
        page.locator("#pictures").screenshot(path=ROOT / "docs" / "img" / "unit_pictures.png")
        browser.close()


def main() -> None:
    """Record the two examples, then write the pictures and both READMEs."""
    readmes = {path: path.read_text(encoding="utf-8") for path in map(ROOT.joinpath, READMES)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # so that a run is recorded under `runs/` as a user would see it
        (folder / "examples").symlink_to(ROOT / "examples")
        for path, (command, found) in zip(readmes, READMES.values(), strict=True):
            broken = run(folder, command)
            before, _, after = broken.plain.partition("\n\n")
            shown = f"{before}\n…\n{after[after.index(found) :]}"
            readmes[path] = put(readmes[path], "broken_net", command, shown)
        run(folder, "seismograd report -o report.html --picture seismogram.svg")
        shutil.copy(folder / "seismogram.svg", ROOT / "docs" / "img" / "seismogram.svg")
        run(folder, "seismograd run --snapshot every=100 examples/small_net.py --epochs 1")
        (small,) = (folder / "runs").glob("*-small_net")
        run(folder, f"seismograd report {small.relative_to(folder)} -o units.html")
        pictures_of_the_page(folder / "report.html", folder / "units.html")
        show = "seismograd show {run} --step 0 --format plain --lang zh"
        printed = run(folder, show.format(run=small.relative_to(folder))).plain
    (ROOT / "docs" / "img" / "broken_net.svg").write_text(
        picture(command, broken), encoding="utf-8"
    )
    for path, text in readmes.items():
        shown = put(text, "small_net", show.format(run="RUN"), printed)
        path.write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    main()
