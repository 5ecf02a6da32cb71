"""What a command leaves to do is done when the argument parser has returned, with nothing of
ours around it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from seismograd import cli
from seismograd.cli.command_entry import CommandEntry
from seismograd.errors import SeismogradError
from seismograd.i18n import language, say


@dataclass(frozen=True)
class Recorded:
    """A plan that notes what surrounds it, then does as it is told."""

    error: BaseException | int
    seen: dict[str, object]

    def execute(self) -> int:
        frame, names = sys._getframe(1), []
        while frame is not None:
            names.append(frame.f_globals.get("__name__", ""))
            frame = frame.f_back
        self.seen.update(
            language=language(),
            typer=[name for name in names if name.split(".")[0] in ("typer", "click")],
            hook=sys.excepthook,
        )
        if isinstance(self.error, int):
            return self.error
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        0,
        3,
        SystemExit(3),
        KeyboardInterrupt(),
        SeismogradError(say("x")),
        BrokenPipeError(),
        ValueError(),
    ],
)
def test_a_plan_runs_last_and_what_it_raises_is_its_own(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | int
) -> None:
    seen: dict[str, object] = {}
    hook = sys.excepthook
    monkeypatch.setattr(
        cli,
        "COMMANDS",
        (
            CommandEntry("plan", lambda: Recorded(error, seen), "x"),
            CommandEntry("other", lambda: None, "y"),
        ),
    )
    if isinstance(error, int):
        assert cli.main(["plan", "--lang", "zh"]) == error
    else:
        with pytest.raises(type(error)) as caught:
            cli.main(["plan", "--lang", "zh"])
        assert caught.value is error
    assert seen == {"language": "en", "typer": [], "hook": hook}
