"""What the options of a recording mean for its parts: budget, X-rays, what the record says of
them.
"""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from seismograd.errors import SeismogradError
from seismograd.package_info import VERSION
from seismograd.schema import FactKind, RunInfo
from seismograd.settings.elements import parse_element
from seismograd.settings.levels import DEEP, LIGHT
from seismograd.settings.recording_options import RecordingOptions

if TYPE_CHECKING:
    from seismograd.capture.loop.measured_steps import MeasuredSteps
    from seismograd.capture.loop.overhead_budget import OverheadBudget
    from seismograd.capture.xray.xray import XraySchedule

SHARE_AT_DEEP = 0.1  # of the time, which may go into X-rays


def overhead_budget(budget: float | None, is_slow: bool, child: bool) -> OverheadBudget:
    """Return the budget. Where measuring is slow a single process measures at fewer steps; several
    processes compare their measurements, so all of them measure at the same steps.
    """
    from seismograd.capture.loop.overhead_budget import (
        FEWER_MEASURED,
        FEWER_SAMPLES,
        OverheadBudget,
    )

    fewer = FEWER_MEASURED if is_slow and _is_single(child) else FEWER_SAMPLES
    return OverheadBudget(budget, fewer)


def measured_steps(every: int, child: bool) -> MeasuredSteps:
    """Return at which steps gradients are measured."""
    from seismograd.capture.loop.measured_steps import MeasuredSteps

    return MeasuredSteps(every, is_single=_is_single(child))


def _is_single(child: bool) -> bool:
    """Return whether no other process trains with this one, as far as is known at the start."""
    return not child and os.environ.get("WORLD_SIZE", "1") == "1"


def xray_schedule(level: str, budget: float | None) -> XraySchedule:
    """Return how often the signals of modules are sampled: a quarter of the budget is for them."""
    from seismograd.capture.loop.overhead_budget import SHARE
    from seismograd.capture.xray.xray import FREE_STEP_S, XraySchedule

    if level == LIGHT:
        return XraySchedule(None)
    if level == DEEP:
        return XraySchedule(10, SHARE_AT_DEEP)
    share = (SHARE if budget is None else budget) / 4
    return XraySchedule(100, share, FREE_STEP_S if budget is None else 0.0)


def with_recorded_elements(options: RecordingOptions) -> RecordingOptions:
    """Return the options with the single scalars of the record that goes on, where none are asked
    for.
    """
    if options.resume is None or options.elements:
        return options
    from seismograd.record.compatibility import read_meta

    try:
        elements = read_meta(options.resume.path).info.elements
        return replace(options, elements=tuple(map(parse_element, elements)))
    except SeismogradError:  # it is told when the training begins
        return options


def about(script: str, options: RecordingOptions) -> RunInfo:
    """Return what is known of a run before its first step."""
    import torch

    return RunInfo(
        script=script,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        seismograd_version=VERSION,
        torch_version=torch.__version__,
        python_version=platform.python_version(),
        level=options.level,
        every=options.every,
        elements=tuple(map(str, options.elements)),
        fact_kinds=tuple(map(str, FactKind)),
    )
