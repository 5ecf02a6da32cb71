"""What the documentation site adds to MkDocs: pages from outside docs/, a second language, and
links that are right in the repository as well as in the site.

The pages of `docs/` are read in the repository too, so their links are those of files. English
pages lie in `docs/`, Chinese ones at the same place below `docs/zh/`. The Chinese site has a page
in English where there is no Chinese one.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
CHINESE = DOCS / "zh"
LINK = re.compile(
    r"(?<!!)\[(?P<text>[^\]\[]*)\]\((?P<target>(?!https?:|#)[^)\s#]+)(?P<anchor>#[^)]*)?\)"
)
IMAGE = re.compile(r"(?<=!)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:)[^)\s#]+)(?P<anchor>)\)")
BEGINNING = re.compile(r"(?:[-*]|\d+\.) |\||>")
_CHINESE = "[\u2018-\u201d\u3000-\u9fff\uff00-\uffef]"
WITHIN_CHINESE = re.compile(rf"(?<={_CHINESE})\n *(?={_CHINESE}|[`\[])")
INCLUDED = re.compile(r"^<!-- include (?P<file>[\w.]+)#(?P<heading>.+) -->$", re.MULTILINE)
# Where the site has files that lie outside docs/.
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
READMES = {"en": "README.md", "zh": "README.zh.md"}
# Stands for the English site until a page is written: MkDocs leads to no place above a site.
ENGLISH = "https://english.invalid/"
SECTIONS = {
    "Home": "首页",
    "Tutorial": "教程",
    "FAQ": "常见问题",
    "How to": "操作指南",
    "Coming from": "从其他工具迁移",
    "Guide": "使用说明",
    "Rules": "规则",
    "Reference": "参考",
    "Development": "开发",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List in the navigation the pages of rules, and in "Guide" those that it does not name; name
    its sections in the site's language.
    """
    pages = sorted(path.name for path in (DOCS / "rules").glob("SG*.md"))
    rules = ["rules/README.md", *(f"rules/{name}" for name in pages)]
    assert config.nav is not None
    listed = set(_listed(config.nav))
    others = [path.name for path in sorted(DOCS.glob("*.md")) if path.name not in listed]
    for each in config.nav:
        if "Guide" in each:
            each["Guide"] = [*each["Guide"], *others]
    config.nav = [_section(each, rules, _language(config)) for each in config.nav]
    return config


def _listed(nav: list[Any]) -> Iterator[str]:
    """Yield the pages that a navigation names."""
    for entry in nav:
        for page in entry.values() if isinstance(entry, dict) else (entry,):
            if isinstance(page, str):
                yield page
            else:
                yield from _listed(page)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, and put the Chinese ones in place of the English."""
    for file in list(files):
        if file.src_uri.startswith("zh/"):
            files.remove(file)
    language = _language(config)
    placed = {uri: ROOT / name for name, uri in OUTSIDE.items()}
    placed["index.md"] = ROOT / READMES[language]
    if language == "zh":
        placed |= {path.relative_to(CHINESE).as_posix(): path for path in CHINESE.rglob("*.md")}
    for uri, path in placed.items():
        existing = files.get_file_from_path(uri)
        if existing is not None:
            files.remove(existing)
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put included sections in, and make the links those of the site."""
    source = Path(page.file.abs_src_path or "")
    text = _with_links(markdown, source, page.file.src_uri, files)
    text = INCLUDED.sub(lambda found: _included(found, page.file.src_uri, files), text)
    return for_python_markdown(text)


def on_page_context(
    context: dict[str, Any], *, page: Page, config: MkDocsConfig, nav: Navigation
) -> dict[str, Any]:
    """Let the choice of a language lead to the same page."""
    here = page.file.dest_uri
    is_english = _language(config) == "en"
    config.extra["alternate"] = [
        {"name": "English", "lang": "en", "link": here if is_english else f"{ENGLISH}{here}"},
        {"name": "中文", "lang": "zh", "link": f"zh/{here}" if is_english else here},
    ]
    return context


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Lead from the Chinese site, which lies within the English one, out to that."""
    return output.replace(ENGLISH, "../" * (page.file.dest_uri.count("/") + 1))


def for_python_markdown(text: str) -> str:
    """Return a text in which lists and tables are what they are on GitHub, where they need no empty
    line before them, and two or three spaces before a list within a list.

    Lines of Chinese are joined, since a browser shows the end of a line as a space.
    """
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(
        part if part.startswith("```") else _separated(WITHIN_CHINESE.sub("", part))
        for part in parts
    )


def _separated(text: str) -> str:
    lines: list[str] = []
    before = ""
    for line in text.split("\n"):
        line = re.sub(r"^ {2,3}(?=(?:[-*]|\d+\.) )", "    ", line)
        found, earlier = BEGINNING.match(line), BEGINNING.match(before)
        if found and before and not earlier and not before.startswith("  "):
            lines.append("")
        lines.append(line)
        before = line
    return "\n".join(lines)


def _language(config: MkDocsConfig) -> str:
    return str(config.theme["language"])


def _section(entry: Any, rules: list[str], language: str) -> Any:
    if not isinstance(entry, dict):
        return entry
    ((title, pages),) = entry.items()
    shown = SECTIONS.get(title, title) if language == "zh" else title
    return {shown: rules if title == "Rules" else pages}


def _with_links(text: str, source: Path, uri: str, files: Files) -> str:
    """Return a text whose links, relative to its file, lead to pages of the site."""

    def replaced(found: re.Match[str]) -> str:
        target = (source.parent / found["target"]).resolve()
        if not target.exists():
            return found[0]  # MkDocs complains
        place = _place(target)
        if place is None or files.get_file_from_path(place) is None:
            return found["text"]  # a file of the repository that is no page
        link = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        return f"[{found['text']}]({link}{found['anchor'] or ''})"

    return IMAGE.sub(replaced, LINK.sub(replaced, text))


def _place(target: Path) -> str | None:
    """Return where the site has a file of the repository."""
    if target.is_relative_to(CHINESE):
        return target.relative_to(CHINESE).as_posix()
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    return OUTSIDE.get(target.relative_to(ROOT).as_posix())


def _included(found: re.Match[str], uri: str, files: Files) -> str:
    source = ROOT / found["file"]
    section = re.search(
        rf"^## {re.escape(found['heading'])}\n(.*?)(?=^## |\Z)",
        source.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    if section is None:
        raise ValueError(f"{source.name} has no heading {found['heading']}")
    return _with_links(section[1].strip(), source, uri, files)
