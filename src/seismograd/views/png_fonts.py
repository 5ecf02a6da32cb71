"""Fonts for pictures that matplotlib draws, and the language that they can show."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from seismograd.i18n import language, use_language

CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Heiti SC",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
)
LATIN = ("Noto Sans", "DejaVu Sans")


@contextmanager
def readable_fonts() -> Generator[None]:
    """Draw with fonts that are installed: in English where none of them has Chinese characters.
    A name without its glyphs is no reason to warn.
    """
    if importlib.util.find_spec("matplotlib") is None:
        yield  # who draws says so
        return
    matplotlib: Any = import_module("matplotlib")
    there = installed_fonts()
    fonts = [font for font in (*CHINESE, *LATIN) if font in there]
    shown = language() if language() == "en" or there.intersection(CHINESE) else "en"
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"font.family": fonts or ["sans-serif"]}),
        use_language(shown),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def installed_fonts() -> set[str]:
    """Return the names of the fonts that matplotlib finds."""
    manager: Any = import_module("matplotlib.font_manager").fontManager
    return {font.name for font in manager.ttflist}
