"""The modules of the page: joined into one script they mean what they mean as modules, and what is
shipped asks nobody for anything.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from seismograd.views.page import document as page
from seismograd.views.page import widget_script as widget
from seismograd.views.page.document import imports, module, modules

# What begins something: the page, a view of the widget, and the frame around each of those.
ENTRIES = (page.ENTRY, widget.ENTRY, widget.FRAME)
ALL = tuple(dict.fromkeys(name for entry in ENTRIES for name in modules(entry)))
FOLDER = Path(page.__file__).parent / "modules"
DECLARED = re.compile(r"^(export )?(?:async function|function|const|let|class) (\w+)", re.MULTILINE)
COMMENT = re.compile(r"/\*\*.*?\*/|//[^\n]*", re.DOTALL)


def declared(name: str, exported_only: bool = False) -> list[str]:
    """The names at the top level of a module."""
    return [each for export, each in DECLARED.findall(module(name)) if export or not exported_only]


def script() -> str:
    """What is made of the modules, without the library before them."""
    found = re.search(r"<script>(.*?)</script>", page.document("view", ""), re.DOTALL)
    assert found
    return found[1].split('"use strict";\n')[-1]


def test_every_module_is_in_the_page_or_in_the_widget() -> None:
    assert sorted(ALL) == sorted(path.name for path in FOLDER.glob("*.js"))


def test_every_import_resolves() -> None:
    missing = [
        f"{name}: {each} of {source}"
        for name in ALL
        for source, names in imports(name).items()
        for each in names
        if each not in declared(source, exported_only=True)
    ]
    assert missing == []


def test_what_is_exported_is_imported_somewhere() -> None:
    used = {
        (source, each) for name in ALL for source, names in imports(name).items() for each in names
    } | {(widget.FRAME, "render")}  # for the notebook
    exported = {(name, each) for name in ALL for each in declared(name, exported_only=True)}
    assert exported - used == set()


def test_no_two_modules_have_a_top_level_name_in_common() -> None:
    found = Counter(each for name in ALL for each in declared(name))
    assert [each for each, times in found.items() if times > 1] == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_module_comes_behind_all_that_it_imports(entry: str) -> None:
    """Which is so only where none imports itself over others: the order has no cycle."""
    place = {name: index for index, name in enumerate(modules(entry))}
    late = [
        (name, source)
        for name in modules(entry)
        for source in imports(name)
        if place[source] >= place[name]
    ]
    assert late == []


@pytest.mark.parametrize("name", ALL)
def test_modules_are_written_in_what_can_be_joined(name: str) -> None:
    """Other forms (a renamed import, a default export, a text over several lines) would be joined
    into something else than they say.
    """
    code = COMMENT.sub("", module(name))
    assert len(re.findall(r"^\s*import\b|\bimport\(", code, re.MULTILINE)) == len(imports(name))
    assert [each for names in imports(name).values() for each in names if " " in each] == []
    assert len(re.findall(r"\bexport\b", code)) == len(declared(name, exported_only=True))
    assert [line for line in module(name).splitlines() if line.count("`") % 2] == []


def test_the_script_is_the_code_of_the_modules_and_nothing_else() -> None:
    lines = script().splitlines()
    assert [line for line in lines if re.match(r"import\b|export\b|//|/\*|\*", line)] == []
    names = {each for name in modules() for each in declared(name)}
    kept = {each for _, each in DECLARED.findall("\n".join(lines))}
    assert names <= kept


@pytest.mark.parametrize("mode", ["view", "report"])
def test_the_page_names_no_address_but_its_own(mode: str) -> None:
    markup = re.sub(r"<script\b.*?</script>", "", page.document(mode, "x", "AAAA"), flags=re.DOTALL)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', markup)) == {"data:,", "#main"}
    assert re.findall(r"url\(|@import", markup) == []
    assert re.findall(r"https?:|//\w+\.", script()) == []


def test_the_script_of_the_widget_loads_nothing_and_exports_what_anywidget_calls() -> None:
    lines = widget.widget_script().splitlines()
    assert [line for line in lines if re.match(r"import\b|export\b", line)] == [
        "export default { render };"
    ]
    own = widget.widget_script().split("function openView", 1)[1]
    assert (
        re.findall(r"https?:|//\w+\.|\bfetch\(|EventSource|addEventListener\(\"beforeprint", own)
        == []
    )
    assert re.findall(r"url\(|@import|:root|\drem\b", widget.widget_style()) == []
