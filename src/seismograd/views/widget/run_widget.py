"""The widget of a run. Imported only when one is asked for: it needs anywidget."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import traitlets

from seismograd.i18n import language
from seismograd.views.page.widget_script import widget_script
from seismograd.views.widget.run_follower import GrowingRun, RunFollower


class RunWidget(anywidget.AnyWidget):
    """A run in a notebook: its heat map, its norms and its loss, and what the rules have found. It
    grows while the training goes on; what it shows last stays in the notebook.
    """

    _esm = widget_script()
    answers = traitlets.Bytes(b"").tag(sync=True)
    lang = traitlets.Unicode("en").tag(sync=True)

    def __init__(self, run: GrowingRun, on_failure: Callable[[BaseException], None]) -> None:
        super().__init__(lang=language())
        self._follower = RunFollower(run, self._take, on_failure)
        self._follower.begin()

    def finish(self) -> None:
        """Wait until the end of the run is shown."""
        self._follower.finish()

    def close(self) -> None:
        """Take the widget out of the notebook. The training goes on, and so does its record."""
        self._follower.stop()
        super().close()

    def _take(self, answers: bytes) -> None:
        self.set_trait("answers", answers)
