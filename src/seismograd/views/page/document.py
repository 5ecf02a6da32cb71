"""The page as one HTML document: its styles and scripts inline, each named by its hash in the
content security policy.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

from seismograd.i18n import language
from seismograd.views.page.page_texts import TEXTS
from seismograd.views.page_api.translations import catalogue

STYLES = ("vendor/uPlot.min.css", "page.css", "seismogram.css")
LIBRARY = "vendor/uPlot.iife.min.js"
ENTRY = "main.js"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const|let|class) )", re.MULTILINE)
_COMMENT = re.compile(r"^ *(?://[^\n]*\n|/\*\*.*?\*/)", re.MULTILINE | re.DOTALL)


def document(mode: str, title: str, data: str = "", only: int | None = None) -> str:
    """Return the page; `mode` is "view" (it asks a server, which has `only` one run) or "report"
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
    """Return the policy: only the style and the script of this page, by their hashes; nothing else
    is loaded, and only `view` asks its own server.
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
    return style(STYLES)


def style(names: Sequence[str]) -> str:
    """These style sheets, one behind the other."""
    return "\n".join(_file(name) for name in names)


@lru_cache(maxsize=1)
def _script() -> str:
    """The library, and the modules as one script that needs no loader: a page from disk has
    none.
    """
    return f'{library()}\n(() => {{\n"use strict";\n{joined(modules())}\n}})();\n'


def library() -> str:
    """The library that draws lines."""
    return _file(LIBRARY)


def joined(names: Sequence[str]) -> str:
    """The code of these modules, which share one scope.

    That this means the same is held by tests: no two of them have a top-level name in common, names
    are imported as what they are called, and imports go in no circle.
    """
    bodies = (_COMMENT.sub("", _EXPORT.sub("", _IMPORT.sub("", module(n)))) for n in names)
    lines = (line.strip() for body in bodies for line in body.splitlines())
    return "\n".join(line for line in lines if line)


def modules(entry: str = ENTRY) -> tuple[str, ...]:
    """The modules that one needs and itself, each behind those that it imports, as a browser would
    run them.
    """
    behind: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name not in seen:
            seen.add(name)
            for imported in imports(name):
                visit(imported)
            behind.append(name)

    visit(entry)
    return tuple(behind)


def imports(name: str) -> dict[str, tuple[str, ...]]:
    """The modules that a module imports, and which names of each."""
    return {
        source: tuple(each.strip() for each in names.split(",") if each.strip())
        for names, source in _IMPORT.findall(module(name))
    }


def module(name: str) -> str:
    """The text of a module."""
    return _file(f"modules/{name}")


def _file(name: str) -> str:
    return files("seismograd.views.page").joinpath(*name.split("/")).read_text("utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _block(name: str, kind: str, content: str) -> str:
    """Return data for the page: not executed, and unable to end its own element."""
    return f'<script type="{kind}" id="{name}">{content.replace("<", chr(92) + "u003c")}</script>'
