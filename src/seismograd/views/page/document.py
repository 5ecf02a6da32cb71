"""The page as one HTML document: its styles and scripts within it, each named by its hash in the
content security policy.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from seismograd.i18n import language
from seismograd.views.page.page_texts import TEXTS
from seismograd.views.page_api.translations import catalogue

STYLES = ("vendor/uPlot.min.css", "page.css")
SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "base.js",
    "source.js",
    "state.js",
    "panel.js",
    "findings.js",
    "cells.js",
    "heat.js",
    "profile.js",
    "lines.js",
    "scalars.js",
    "spread.js",
    "parameter.js",
    "lanes.js",
    "keys.js",
    "runs.js",
    "main.js",
)


def document(mode: str, title: str, data: str = "", only: int | None = None) -> str:
    """The page; `mode` is "view" (it asks a server, which has `only` one run) or "report"
    (`data`, base64 of gzip, is all it has).
    """
    style, script = _style(), _script()
    parts = [
        _block(
            "texts",
            "application/json",
            json.dumps(catalogue(TEXTS), ensure_ascii=False, separators=(",", ":")),
        ),
        _block(
            "config",
            "application/json",
            json.dumps({"mode": mode, "lang": language(), "only": only}),
        ),
    ]
    if data:
        parts.append(_block("data", "application/octet-stream", data))
    policy = (
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(content_policy(mode))}">'
        if mode == "report"
        else ""
    )
    positions = {
        "@POLICY@": policy,
        "@TITLE@": html.escape(title),
        "@STYLE@": f"<style>{style}</style>",
        "@DATA@": "\n".join(parts),
        "@SCRIPT@": f"<script>{script}</script>",
    }
    return re.sub(
        "|".join(positions), lambda position: positions[position.group()], _file("page.html")
    )


def content_policy(mode: str) -> str:
    """Only the style and the script of this page, by their hashes; nothing else is loaded, and
    only `view` asks its own server.
    """
    directives: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": f"'{_hash(_script())}'",
        "style-src": f"'{_hash(_style())}'",
        "img-src": "data:",
        "connect-src": "'self'" if mode == "view" else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


@lru_cache(maxsize=1)
def _style() -> str:
    return "\n".join(_file(name) for name in STYLES)


@lru_cache(maxsize=1)
def _script() -> str:
    vendored, *ours = (_file(name) for name in SCRIPTS)
    lines = (line.strip() for text in ours for line in text.splitlines())
    code = "\n".join(line for line in lines if line and not line.startswith("//"))
    return f'{vendored}\n(() => {{\n"use strict";\n{code}\n}})();\n'


def _file(name: str) -> str:
    return files("seismograd.views.page").joinpath(*name.split("/")).read_text("utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _block(name: str, kind: str, content: str) -> str:
    """Data in the page: not run, and it cannot end its own element."""
    return f'<script type="{kind}" id="{name}">{content.replace("<", chr(92) + "u003c")}</script>'
