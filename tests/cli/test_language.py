"""`--lang` may stand before the command or among its options, but what follows the script is the
script's.
"""

from __future__ import annotations

import io

import pytest

from seismograd.cli import application
from seismograd.cli.terminal.language_option import split_language
from seismograd.cli.terminal.readable_language import readable_language
from seismograd.errors import SeismogradError


@pytest.mark.parametrize(
    ("line", "lang", "rest"),
    [
        ("show runs/x", None, "show runs/x"),
        ("--lang zh show runs/x", "zh", "show runs/x"),
        ("show --lang zh runs/x", "zh", "show runs/x"),
        ("show runs/x --lang=zh --step 3", "zh", "show runs/x --step 3"),
        ("--lang zh show runs/x --lang en", "en", "show runs/x"),
        ("run --lang zh train.py --lang fr", "zh", "run train.py --lang fr"),
        ("run --out here train.py --lang fr", None, "run --out here train.py --lang fr"),
        (
            "run --out=here -q --lang en train.py --lang fr",
            "en",
            "run --out=here -q train.py --lang fr",
        ),
        ("run -m package.train --lang fr", None, "run -m package.train --lang fr"),
        ("run -- train.py --lang fr", None, "run -- train.py --lang fr"),
        ("show --param --lang", None, "show --param --lang"),
        ("unheard-of --lang fr", None, "unheard-of --lang fr"),
        ("", None, ""),
    ],
)
def test_the_language_is_taken_out_of_our_arguments_only(
    line: str, lang: str | None, rest: str
) -> None:
    assert split_language(line.split(), application()) == (lang, rest.split())


@pytest.mark.parametrize("line", ["show --lang fr x", "--lang", "show --lang=", "show x --lang ZH"])
def test_a_language_that_we_do_not_speak_is_refused(line: str) -> None:
    with pytest.raises(SeismogradError):
        split_language(line.split(), application())


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "big5", "ascii", "latin-1"])
def test_chinese_is_not_chosen_where_it_cannot_be_read(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGUAGE", "zh_CN")
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    chosen = "en" if encoding in ("ascii", "latin-1") else None
    assert readable_language(None, io.StringIO(), stream) == chosen
    assert readable_language("zh", stream) == "zh"
    assert readable_language("en", stream) == "en"
    monkeypatch.setenv("LANGUAGE", "en")
    assert readable_language(None, stream) is None
