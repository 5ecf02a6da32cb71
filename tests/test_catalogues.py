"""Everything a user reads exists in both languages: a text that is not in the catalogue, or whose
translation has other places, fails here. One without its Chinese is a warning, so that whoever does
not write it can add a text all the same; a release (`SEISMOGRAD_RELEASE=1`) fails.
"""

from __future__ import annotations

import os
import re
import string
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

import seismograd
from seismograd.i18n import LOCALE_DIR, fill, translate, use_language

ROOT = Path(__file__).parent.parent
PACKAGE = Path(seismograd.__file__).parent
GUIDE = (ROOT / "docs" / "chinese.md").read_text(encoding="utf-8")
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
    """The places of a template: name, format, conversion; how often each occurs does not matter.
    Words that go with a number or a name are those of one language.
    """
    return sorted(
        {
            (name, form, conversion)
            for _, name, form, conversion in string.Formatter().parse(template)
            if name is not None and "|" not in str(form)
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


class MissingTranslation(UserWarning):
    """Texts that a release would not be made with."""


def untranslated(catalog: Catalog) -> list[str]:
    """Texts without a translation, or with one that is doubtful."""
    return [
        str(message.id)
        for message in catalog
        if message.id and (not message.string or message.fuzzy)
    ]


def hold(missing: Sequence[str], is_release: bool) -> None:
    """Fail in a release, else warn."""
    assert not (is_release and missing), missing
    if missing:
        warnings.warn(
            f"{len(missing)} texts without Chinese, the first: {missing[0]}",
            MissingTranslation,
            stacklevel=2,
        )


@pytest.mark.filterwarnings("default::tests.test_catalogues.MissingTranslation")
def test_every_text_of_a_release_is_translated_and_none_is_doubtful(chinese: Catalog) -> None:
    hold(untranslated(chinese), is_release=os.environ.get("SEISMOGRAD_RELEASE") == "1")


def test_a_text_without_chinese_fails_a_release_and_warns_elsewhere() -> None:
    catalog = Catalog(locale="zh")
    catalog.add("a gradient", "\u68af\u5ea6")
    hold(untranslated(catalog), is_release=True)
    catalog.add("a new text")
    with pytest.raises(AssertionError, match="a new text"):
        hold(untranslated(catalog), is_release=True)
    with pytest.warns(MissingTranslation, match="1 texts without Chinese"):
        hold(untranslated(catalog), is_release=False)


def test_a_translation_has_the_places_of_its_text(chinese: Catalog) -> None:
    for message in chinese:
        if message.id and message.string and "python-brace-format" in message.flags:
            assert positions(str(message.string)) == positions(str(message.id)), message.id


def test_a_translation_says_its_text_once(chinese: Catalog) -> None:
    """Merging two changes line by line would stack both translations of a long text."""
    for message in chinese:
        lines = str(message.string).strip().splitlines()
        assert message.id == "" or lines[:1] not in [[line] for line in lines[1:]], message.id


def terms() -> list[list[str]]:
    """The table of terms in docs/chinese.md: English, Chinese, and what is not used for it."""
    table = GUIDE.split("## ")[1]
    rows = [line.strip("| ").split("|") for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_one_of_a_thing_is_said_in_the_singular(source: dict[str, str]) -> None:
    class Ones(dict[str, object]):
        def __missing__(self, name: str) -> int:
            return 1

    wrong = re.compile(
        r"1 NaN or infinite numbers|1 times, to|\b1th\b|\(1 (?:parameters|rows)|expected 1 indices"
        r"|1 of the 1 (?:results|targets|gradient scalars|micro-batches)[^,:;]* (?:are|were) "
        r"|1 of (?:1 )?parameters have"
    )
    for text in source:
        if positions(text):
            assert not wrong.search(fill(text, Ones())), text


def test_chinese_has_one_word_for_one_thing(chinese: Catalog) -> None:
    retired = [word for row in terms() if len(row) > 2 for word in row[2].split(", ")]
    assert "界限" in retired
    assert len(retired) > 10
    for message in chinese:
        assert not any(word in str(message.string) for word in retired), message.string


def test_chinese_is_set_as_chinese(chinese: Catalog) -> None:
    """A space between Chinese and Latin, and punctuation of full width beside Chinese."""
    wrong = re.compile(
        r"[\u4e00-\u9fff][A-Za-z0-9`]|[A-Za-z0-9`%][\u4e00-\u9fff]"
        r"|[\u4e00-\u9fff][,;:!?()]|[,;:!?()][\u4e00-\u9fff]|[\u4e00-\u9fff]\.\.\."
    )
    as_scripts_print_it = "parameter: {name:<20}"
    for message in chinese:
        if message.id and not str(message.id).startswith(as_scripts_print_it):
            assert not wrong.search(str(message.string)), message.string


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
                    assert fill(translate(text), Anything())


def test_the_compiled_catalogue_is_that_of_the_source(chinese: Catalog) -> None:
    with (LOCALE_DIR / "zh" / "LC_MESSAGES" / "seismograd.mo").open("rb") as file:
        compiled = read_mo(file)
    assert {message.id: message.string for message in compiled if message.id} == {
        message.id: message.string for message in chinese if message.id
    }
