"""The script of the widget in a notebook: the library and the modules of the page as one module of
JavaScript, which loads nothing.
"""

from __future__ import annotations

import json
import re

from seismograd.views.page.document import STYLES, joined, library, modules, style
from seismograd.views.page.page_texts import TEXTS
from seismograd.views.page_api.translations import catalogue

ENTRY = "widget.js"
FRAME = "widget_frame.js"
_STYLES = (*STYLES, "widget.css")
_ROOT_PX = 14  # what `rem` is of on the page; in a notebook it would be another's
_REM = re.compile(r"(\d*\.?\d+)rem\b")
_BODY = re.compile(r"(?<![\w.-])body(?= \{)")


def widget_script() -> str:
    """Return a module whose default export has `render`, as anywidget calls it for each view.

    The modules of the page are the body of a function, so that each view has a scope of its own.
    """
    parts = {
        "style": widget_style(),
        "texts": json.dumps(catalogue(TEXTS), ensure_ascii=False, separators=(",", ":")),
    }
    return (
        f"{library()}\n"
        f"const WIDGET_PARTS = {json.dumps(parts, ensure_ascii=False)};\n"
        f'function openView(VIEW_OF_WIDGET) {{\n"use strict";\n{joined(modules(ENTRY))}\n}}\n'
        f"{joined(modules(FRAME))}\n"
        "export default { render };\n"
    )


def widget_style() -> str:
    """Return the styles of the page for an element with a scope of its own."""
    text = style(_STYLES)
    text = text.replace(':root[data-theme="dark"]', ':host([data-theme="dark"])')
    text = _BODY.sub(".widget", text.replace(":root", ":host"))
    return _REM.sub(lambda found: f"{float(found[1]) * _ROOT_PX:g}px", text)
