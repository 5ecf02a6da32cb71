"""Texts in English; the browser of the page's tests."""

from __future__ import annotations

from tests.views.page.conftest import browse, chromium, english

__all__ = ["browse", "chromium", "english"]
