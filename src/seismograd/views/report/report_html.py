"""The report as one HTML file that opens from disk and makes no request."""

from __future__ import annotations

from seismograd.views.page.document import document
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.report.bundle import bundle


def render(source: RunSource) -> str:
    """Return the page with its data in it."""
    return document("report", f"{source.run.path.name} · seismograd", bundle(source))
