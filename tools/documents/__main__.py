"""Carry out pages of the documentation, and compare what is printed with what they show.

python -m tools.documents docs/tutorial.md …            # one line of JSON for each page
python -m tools.documents --write docs/tutorial.md …    # brings what they show up to date
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from contextlib import suppress
from pathlib import Path

import torch._dynamo  # noqa: F401  # the first optimizer of a process imports it, in seconds
from tools.documents.output_match import agrees, renewed
from tools.documents.page_run import InChild, PageRun, Printed

ROOMS = ("api", "recording", "cli", "capture", "measure", "distributed", "record", "rules", "views")


def prepare() -> None:
    """Import once what each forked command would have to import."""
    for room in ROOMS:
        module = importlib.import_module(f"seismograd.{room}")
        for each in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}."):
            with suppress(ImportError):  # a tool that is not installed
                importlib.import_module(each.name)


def main(arguments: list[str]) -> int:
    """Carry out the pages; the exit code is 1 where one shows what is not so."""
    prepare()
    write = "--write" in arguments
    wrong = 0
    for name in arguments:
        if name == "--write":
            continue
        page = Path(name)
        run = PageRun("zh" if page.parts[1:2] == ("zh",) else "en")
        try:
            printed = run.carry_out(page)
            faults = [each for each in printed if not agrees(each.expected, each.actual)]
            wrong += bool(faults)
            print(json.dumps({"page": name, "faults": [_said(each) for each in faults]}))
            if write:
                _write(page, printed)
        except (ValueError, OSError) as error:
            wrong += 1
            print(json.dumps({"page": name, "faults": [str(error)]}))
        run.close()
    return 1 if wrong else 0


def _said(each: Printed) -> str:
    return "\n".join([f"$ {each.command}", *each.actual, "--- but the page says", *each.expected])


def _write(page: Path, printed: list[Printed]) -> None:
    text = page.read_text(encoding="utf-8")
    bodies: dict[int, tuple[str, list[str]]] = {}
    for each in printed:
        old, lines = bodies.setdefault(each.block.start, (each.block.body, []))
        if each.block.language == "console":
            lines.append(f"$ {each.command}")
        elif each.block.language != "text":
            lines.extend(old.splitlines())
            continue
        lines.extend(renewed(each.expected, each.actual))
    for start, (old, lines) in sorted(bodies.items(), reverse=True):
        text = text[:start] + "\n".join(lines) + "\n" + text[start + len(old) :]
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except InChild as child:
        work = child.work
    else:
        sys.exit(code)
    work()
