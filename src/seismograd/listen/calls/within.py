"""Which steps a call comes from within."""

from __future__ import annotations

from collections.abc import Iterable

from seismograd.listen.lanes import Lane
from seismograd.listen.patches.step import is_inside_a_step
from seismograd.listen.windows import Window


def stepping(windows: Iterable[Window], lane: Lane) -> list[Window]:
    """Those of the windows whose steps this thread is inside of. A step that raised has never said
    that it ended: it is taken for over when a call comes from outside of any step.
    """
    found = [window for window in windows if window.stepping and window.lane is lane]
    if found and not is_inside_a_step():
        for window in found:
            window.step_raised()
        return []
    return found
