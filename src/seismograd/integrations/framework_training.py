"""The recording of the trainings that a framework runs, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seismograd.api import watch
from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record.places.place_url import is_url
from seismograd.settings.option_parsing import parse_options

if TYPE_CHECKING:
    from seismograd.recording import Recording


class FrameworkTraining:
    """Begins, tells and ends the recording of a training for a callback of a framework.

    A failure of ours is a line on stderr and never an exception in the training; so the options are
    checked when the callback is made. The second training that would be recorded in `out` goes
    beside it, with a number.

    Args:
        framework: its name, for the reader.
        options: those of `seismograd.watch`.

    Raises:
        SeismogradError: an option is not well formed.
        TypeError: there is no such option.
    """

    def __init__(self, framework: str, options: dict[str, Any]) -> None:
        parse_options(**{k: v for k, v in options.items() if k not in ("out", "quiet")})
        self._framework, self._options = framework, dict(options)
        self._num_begun = 0
        self.recording: Recording | None = None

    def begin(self, model: Any, global_step: int) -> None:
        """Begin to record this model and the optimizers of its parameters; do nothing where
        somebody records already, such as `seismograd run`.

        `global_step`: how many steps the framework has counted before, as after a checkpoint.
        """
        self.end()
        self._guarded(lambda: self._begin(model, global_step))

    def epoch(self, number: int) -> None:
        """Say that this epoch begins."""
        recording = self.recording
        if recording is not None:
            self._guarded(lambda: recording.epoch(number))

    def end(self, error: BaseException | None = None) -> None:
        """Finish the record, if there is one; `error`: what ended the training early."""
        recording, self.recording = self.recording, None
        if recording is None:
            return
        if error is not None:
            self._guarded(lambda: recording.ended_by(error))
        self._guarded(recording.close)

    def _begin(self, model: Any, global_step: int) -> None:
        from seismograd.capture.hub import HUB
        from seismograd.distributed.world import rank_of_this_process

        if HUB.listening:
            if rank_of_this_process() == 0:
                _print(say("the training is recorded already: the callback does nothing"))
            return
        options = dict(self._options)
        self._num_begun += 1
        if self._num_begun > 1 and options.get("out") is not None:
            out = str(options["out"])
            if not (is_url(out) and out.endswith("/")):  # below that each has a name of its own
                options["out"] = f"{out.rstrip('/')}-{self._num_begun}"
        recording = self.recording = watch(model, **options)
        if global_step:
            recording.note(
                "resumed",
                say(
                    "step 0 of this record is global step {step} of {framework}",
                    step=global_step,
                    framework=self._framework,
                ),
            )

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except SeismogradError as error:
            _print(say("the training is not recorded: {reason}", reason=error.line()))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            _print(say("the training is not recorded: {reason}", reason=reason))


def missing(package: str) -> str:
    """Return what to say where a framework is not installed."""
    return say("{package} is not installed: pip install {package}", package=package).render()


def _print(message: Message) -> None:
    print(f"seismograd: {message.render()}", file=sys.stderr)
