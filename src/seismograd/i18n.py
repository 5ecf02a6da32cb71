"""English and Chinese: a message is a template and its values, rendered only when it is shown.

So a run recorded by an English training job reads in Chinese, and the other way round. English is
the source: a template is its own msgid in the catalogues of `locale/`.
"""

from __future__ import annotations

import contextvars
import gettext
import locale
import os
import string
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from seismograd.package_info import PACKAGE_DIR

DOMAIN = "seismograd"
LANGUAGES = ("en", "zh")
LOCALE_DIR = PACKAGE_DIR / "locale"

Value = str | int | float
Values = dict[str, Value]

_language: contextvars.ContextVar[str | None] = contextvars.ContextVar("language", default=None)


def default_language() -> str:
    """Return `zh` when the locale of the environment is a Chinese one, else `en`."""
    for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable, "")
        if value and value.split(":")[0] not in ("C", "POSIX"):
            return "zh" if value.lower().startswith("zh") else "en"
    return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


def language() -> str:
    """Return the current language: that of `use_language`, else that of the locale."""
    return _language.get() or default_language()


@contextmanager
def use_language(lang: str | None) -> Generator[None, None, None]:
    """Use `lang` (`en`, `zh`, or `None` for the locale's) inside the block."""
    token = _language.set(lang)
    try:
        yield
    finally:
        _language.reset(token)


@lru_cache(maxsize=len(LANGUAGES))
def _catalogue(lang: str) -> gettext.NullTranslations:
    if lang == "en":
        return gettext.NullTranslations()
    # English where the catalogue was not compiled
    return gettext.translation(DOMAIN, LOCALE_DIR, languages=[lang], fallback=True)


def translate(template: str) -> str:
    """Return the template in the current language."""
    return _catalogue(language()).gettext(template) if template else template


def mark(template: str) -> str:
    """Mark a text for extraction, untranslated; it is translated where it is shown."""
    return template


class _Formatter(string.Formatter):
    """Also formats `{num:step|steps}`, the word that goes with a number, and `{optimizer:the}`, the
    name of a variable, or words where it is not known or is called just that.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return one value as text."""
        if "|" in format_spec:
            one, several = format_spec.split("|")
            return one if value == 1 else several
        if format_spec == "the":
            return translate(THE_OPTIMIZER) if value == "optimizer" else str(value)
        return super().format_field(value, format_spec)


_FORMATTER = _Formatter()


def fill(template: str, values: Mapping[str, Value]) -> str:
    """Return a template, in whatever language, with values in its places."""
    return _FORMATTER.vformat(template, (), values)


THE_OPTIMIZER = mark("the optimizer")


@dataclass(frozen=True, slots=True)
class Message:
    """A template in English (a msgid, with `{named}` places) and the values that go into it."""

    template: str
    values: Mapping[str, Value | Message] = field(default_factory=dict[str, "Value | Message"])

    def render(self) -> str:
        """Return the message in the current language, and those among its values."""
        template = translate(self.template)
        if not self.values:
            return template
        values = {
            name: value.render() if isinstance(value, Message) else value
            for name, value in self.values.items()
        }
        return fill(template, values)


def say(template: str, **values: Value | Message) -> Message:
    """Make a message from a template (extracted into the catalogues) and its values."""
    return Message(template, values)
