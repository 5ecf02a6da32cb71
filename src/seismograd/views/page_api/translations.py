"""Texts that a page holds in every language at once, so that it can change its language without
asking again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from seismograd.i18n import LANGUAGES, Message, translate, use_language


def in_all_languages(text: Callable[[], str]) -> dict[str, str]:
    """Return what `text` returns in each language."""
    found: dict[str, str] = {}
    for lang in LANGUAGES:
        with use_language(lang):
            found[lang] = text()
    return found


def rendered(message: Message) -> dict[str, str]:
    """Return a message in each language."""
    return in_all_languages(message.render)


def catalogue(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return marked templates by key, in each language: `{"en": {key: text}, "zh": …}`."""
    by_language: dict[str, dict[str, str]] = {}
    for lang in LANGUAGES:
        with use_language(lang):
            by_language[lang] = {key: translate(text) for key, text in texts.items()}
    return by_language
