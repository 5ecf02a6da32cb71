"""The blocks of code of a document, for tests that do what it says."""

from __future__ import annotations

from pathlib import Path

from tools.documents.page_blocks import blocks_of

DOCS = Path(__file__).parent.parent / "docs"


def code_in(document: str, language: str) -> list[str]:
    """Return the blocks of a language in a page of `docs/`, in order."""
    return [each.body for each in blocks_of(DOCS / document) if each.language == language]
