"""The report as one HTML file, which opens from disk and asks nobody anything."""

from __future__ import annotations

from seismograd.views.page.document import document
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.report.bundle import bundle


def render(source: RunSource) -> str:
    """The page with its data in it."""
    return document("report", f"{source.run.path.name} · seismograd", bundle(source))
