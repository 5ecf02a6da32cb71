"""The documentation site: it is built without a warning, in both languages, opens from disk, and
fetches nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import seismograd

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
FETCHING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Links(HTMLParser):
    """What a page fetches, what it leads to, and the places in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.places |= {found[name] or "" for name in ("id", "name") if name in found}
        attribute = FETCHING.get(tag)
        fetches = attribute is not None and found.get("rel") not in ("canonical", "prev", "next")
        if fetches and found.get(attribute):
            self.fetched.append(found[attribute] or "")
        elif tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for config, place in (("mkdocs.yml", folder), ("mkdocs.zh.yml", folder / "zh")):
        built = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", str(place)],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path) for path in site.rglob("*.html") if "playground" not in path.parts}


def test_no_page_fetches_anything(pages: dict[Path, Links]) -> None:
    assert len(pages) > 150
    assert {each for page in pages.values() for each in page.fetched if "//" in each} == set()


def test_every_link_leads_to_a_file_and_a_place_in_it(pages: dict[Path, Links]) -> None:
    wrong: list[str] = []
    for path, page in pages.items():
        if path.name == "404.html":  # for servers, which begin at the root
            continue
        for link in [*page.links, *page.fetched]:
            if re.match(r"https?:|mailto:|data:", link):
                continue
            file, _, place = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.is_file() or (
                place and target in pages and place not in pages[target].places
            ):
                wrong.append(f"{path.name}: {link}")
    assert wrong == []


def test_the_chinese_site_has_every_page_and_the_chinese_ones_in_chinese(site: Path) -> None:
    english, chinese = (
        {path.relative_to(folder) for path in folder.rglob("*.html")}
        for folder in (site, site / "zh")
    )
    assert {path for path in english if path.parts[0] != "zh"} == chinese
    for name in ("index", "tutorial", "faq", "limits", "howto/index", "howto/nan"):
        article = (site / "zh" / f"{name}.html").read_text(encoding="utf-8").split("<article")[1]
        assert len(re.findall(r"[\u4e00-\u9fff]", article)) > 100


def test_the_api_has_every_public_name(site: Path) -> None:
    places = Links(site / "api.html").places
    names = [name for name in seismograd.__all__ if not name.startswith("__")]
    assert names
    assert [name for name in names if f"seismograd.{name}" not in places] == []


def test_every_word_is_found_without_a_server(site: Path) -> None:
    for folder, word in ((site, "zero_grad"), (site / "zh", "梯度")):
        index = (folder / "search" / "search_index.js").read_text(encoding="utf-8")
        found = json.loads(index.removeprefix("var __index = "))
        assert any(word in each["text"] for each in found["docs"])
