"""Make the widget of a run that is recorded here, or of one on the disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views.widget.run_follower import GrowingRun

if TYPE_CHECKING:
    from seismograd.views.widget.run_widget import RunWidget


def make_widget(run: GrowingRun, on_failure: Callable[[BaseException], None]) -> RunWidget:
    """Return the widget of a run; `on_failure` is called on its thread, when it follows no more.

    Raises:
        SeismogradError: anywidget is not installed, or the run cannot be read.
    """
    try:
        from seismograd.views.widget.run_widget import RunWidget
    except ModuleNotFoundError as missing:
        raise SeismogradError(
            say("a widget needs {package}, which is not installed", package=str(missing.name)),
            say("pip install 'seismograd[{extra}]'", extra="widget"),
        ) from missing
    return RunWidget(run, on_failure)


def widget_of_record(path: Path) -> RunWidget:
    """Return the widget of the run in this directory, which another process may be recording;
    raises as `make_widget`.
    """
    return make_widget(GrowingRun.on_disk(path), _say_that_it_stays)


def _say_that_it_stays(error: BaseException) -> None:
    reason = f"{type(error).__name__}: {error}"
    message = say("the widget does not follow the run any more: {reason}", reason=reason)
    print(f"seismograd: {message.render()}", file=sys.stderr)
