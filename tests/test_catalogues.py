"""Everything a user reads exists in both languages: a new text without its Chinese, or with
other places in it, fails here.
"""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

import seismograd
from seismograd.i18n import LOCALE_DIR, translate, use_language

ROOT = Path(__file__).parent.parent
PACKAGE = Path(seismograd.__file__).parent
KEYWORDS = {"say": None, "mark": None, "translate": None}
PO = PACKAGE / "locale" / "zh" / "LC_MESSAGES" / "seismograd.po"


def extracted() -> dict[str, str]:
    """Every text in the source, and where it stands."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)
    found = extract_from_dir(PACKAGE, method_map=methods, options_map=options, keywords=KEYWORDS)
    return {str(message): f"{name}:{line}" for name, line, message, *_ in found}


@pytest.fixture(scope="module")
def source() -> dict[str, str]:
    return extracted()


@pytest.fixture(scope="module")
def chinese() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file)


def positions(template: str) -> list[tuple[str | None, str | None, str | None]]:
    """The places of a template: name, format, conversion; how often each occurs does not matter."""
    return sorted(
        {
            (name, form, conversion)
            for _, name, form, conversion in string.Formatter().parse(template)
            if name is not None
        },
        key=repr,
    )


def test_every_text_is_in_the_catalogue_and_nothing_else(
    source: dict[str, str], chinese: Catalog
) -> None:
    known = {str(message.id) for message in chinese if message.id}
    assert {where: text for text, where in source.items() if text not in known} == {}
    assert known - source.keys() == set()
    assert list(chinese.obsolete) == []


def test_every_text_is_translated_and_none_is_doubtful(chinese: Catalog) -> None:
    assert [
        message.id for message in chinese if message.id and (not message.string or message.fuzzy)
    ] == []


def test_a_translation_has_the_places_of_its_text(chinese: Catalog) -> None:
    for message in chinese:
        if message.id and "python-brace-format" in message.flags:
            assert positions(str(message.string)) == positions(str(message.id)), message.id


def test_a_text_with_places_is_marked_as_one(source: dict[str, str], chinese: Catalog) -> None:
    for message in chinese:
        if message.id and "\n" not in str(message.id):
            assert bool(positions(str(message.id))) == ("python-brace-format" in message.flags), (
                message.id
            )


def test_both_languages_render_every_text(source: dict[str, str]) -> None:
    class Anything(dict[str, object]):
        def __missing__(self, name: str) -> int:
            return 1

    for lang in ("en", "zh"):
        with use_language(lang):
            for text in source:
                if positions(text):
                    assert translate(text).format_map(Anything())


def test_the_compiled_catalogue_is_that_of_the_source(chinese: Catalog) -> None:
    with (LOCALE_DIR / "zh" / "LC_MESSAGES" / "seismograd.mo").open("rb") as file:
        compiled = read_mo(file)
    assert {message.id: message.string for message in compiled if message.id} == {
        message.id: message.string for message in chinese if message.id
    }
