"""Words are compared with files; `SEISMOGRAD_GOLDEN=write` writes them anew, to be read before
they are committed.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from rich.console import Console, RenderableType

from seismograd.i18n import use_language

GOLDEN = Path(__file__).parent / "golden"


def rendered(view: RenderableType, lang: str = "en", width: int = 80) -> str:
    """What a terminal of this width shows, without colours and trailing blanks."""
    out = io.StringIO()
    with use_language(lang):
        Console(
            file=out, width=width, highlight=False, markup=False, emoji=False, color_system=None
        ).print(view)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def assert_golden(name: str, text: str) -> None:
    """The text is that of the golden file."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SEISMOGRAD_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
