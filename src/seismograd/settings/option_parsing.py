"""The options of `watch` as a program writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seismograd.settings.elements import parse_element
from seismograd.settings.levels import NORMAL, check_budget, check_every, check_level
from seismograd.settings.record_settings import RecordSettings, check_sync, parse_keep, parse_size
from seismograd.settings.recording_options import RecordingOptions
from seismograd.settings.resume_request import parse_resume
from seismograd.settings.rule_selection import select_rules
from seismograd.settings.snapshot_plan import parse_snapshots
from seismograd.settings.tracker_options import parse_trackers


def parse_options(
    *,
    elements: Sequence[str] = (),
    level: str = NORMAL,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    halt_on: Sequence[str] = (),
    budget: float | None = None,
    replay: bool = True,
    sync: float | None = None,
    max_size: str | None = None,
    keep: str | None = None,
    guard: bool = False,
    snapshot: Sequence[str] = (),
    to: Sequence[str] = (),
    every: int = 1,
    resume: str | Path | None = None,
) -> RecordingOptions:
    """Check the options that `seismograd.watch` describes, and return them parsed.

    Raises:
        SeismogradError: one of them is not well formed.
    """
    return RecordingOptions(
        level=check_level(level),
        budget=check_budget(budget),
        record=RecordSettings(check_sync(sync), parse_size(max_size), parse_keep(keep)),
        selection=select_rules(select, ignore, halting=halt_on),
        snapshots=parse_snapshots((snapshot,) if isinstance(snapshot, str) else snapshot),
        elements=tuple(parse_element(text) for text in elements),
        replay=replay,
        guard=guard,
        trackers=parse_trackers((to,) if isinstance(to, str) else to),
        every=check_every(every, guard),
        resume=parse_resume(resume),
    )
