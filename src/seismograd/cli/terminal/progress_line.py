"""Show one quiet line at the bottom of the terminal while a script runs: its step, loss and norm,
and the findings.

The last row of the terminal is excluded from scrolling (DECSTBM, as apt does), so the line never
mixes with what the script prints: that scrolls above it, and the cursor stays where the script left
it. `terminal_row_guard` restores the row when the process is killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seismograd.cli.terminal.terminal_row_guard import guard_terminal_row, release_terminal_row
from seismograd.i18n import translate, use_language
from seismograd.schema import Fact, Finding, Note, RowBatch, SampleBatch, StepFlag
from seismograd.views.text_layout import cell_width
from seismograd.views.values import number, sentences, steps

_FEWEST_ROWS = 6
_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "info": "\x1b[36m"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_MAKE_ROOM = "\x1bD\x1bM"  # down a row, scrolling at the bottom, and up again


def may_show(environment: Mapping[str, str]) -> bool:
    """Return whether both streams are a terminal that supports cursor movement, and that only we
    write to.
    """
    streams = (sys.__stdout__, sys.__stderr__)
    if any(stream is None or stream.closed or not stream.isatty() for stream in streams):
        return False
    return (
        os.name == "posix"
        and environment.get("TERM", "dumb") != "dumb"
        and environment.get("WORLD_SIZE", "1") == "1"
    )


class ProgressLine:
    """A sink that draws the line with each block, once a second at most, and removes it at the end.

    Args:
        fd: the terminal.
        lang: the language of the line.
        findings: returns the findings so far.
    """

    def __init__(self, fd: int, lang: str, findings: Callable[[], Sequence[Finding]]) -> None:
        self._fd = fd
        self._lang = lang
        self._findings = findings
        self._rows = 0  # height of the terminal when the last row was set apart; 0: it is not
        self._watched: int | None = None

    def observe(self, block: RowBatch) -> None:
        """Draw the line anew."""
        columns, rows = os.get_terminal_size(self._fd)
        if not len(block) or rows < _FEWEST_ROWS:
            return
        with use_language(self._lang):
            text = progress_text(block, self._findings(), columns - 1)
        if not self._rows:
            self._watched = guard_terminal_row(self._fd)
        room = "" if rows == self._rows else _MAKE_ROOM
        self._rows = rows
        # Set apart anew each time: a program that took the whole screen meanwhile has reset all of
        # it.
        self._write(f"{room}{_SAVE}\x1b[1;{rows - 1}r\x1b[{rows};1H\x1b[2K{text}{_PLAIN}{_RESTORE}")

    def note(self, note: Note) -> None:
        """Ignore notes: they are printed at the end."""

    def learn(self, fact: Fact) -> None:
        """Ignore facts: they are for the rules."""

    def sampled(self, batch: SampleBatch) -> None:
        """Ignore samples: they are for the record."""

    def close(self) -> None:
        """Restore the row."""
        if self._rows:
            self._write(f"{_SAVE}\x1b[r\x1b[{self._rows};1H\x1b[2K{_RESTORE}")
            self._rows = 0
            if self._watched is not None:
                release_terminal_row(self._watched)

    def abandon(self) -> None:
        """Restore the row."""
        self.close()

    def _write(self, text: str) -> None:
        os.write(self._fd, text.encode())


def progress_text(block: RowBatch, findings: Sequence[Finding], width: int) -> str:
    """Return the line, at most `width` cells: step, loss, norm, then the latest finding and how
    many more there are.
    """
    step = block.steps[-1]
    loss = (
        ""
        if int(step["flags"]) & StepFlag.NO_LOSS
        else translate("loss {loss}").format(loss=number(float(step["loss"])))
    )
    norm = float(step["grad_norm"])
    parts = [
        "seismograd",
        steps(int(step["iteration"]), int(step["iteration"])),
        loss,
        translate("norm {norm}").format(norm=number(norm))
        if np.isfinite(norm)
        else translate("norm is not finite"),
    ]
    begin = _cut(sentences(parts), width)
    if not findings:
        return f"{_DIM}{begin}"
    latest = max(findings, key=lambda finding: finding.first_step)
    more = len(findings) - 1
    said = (
        f"{latest.code} {latest.name} "
        f"({steps(latest.first_step, latest.first_step)}){f' +{more}' if more else ''}"
    )
    rest = _cut(f" · {said}", width - cell_width(begin))
    return f"{_DIM}{begin}{_PLAIN}{_COLOURS[latest.severity]}{rest}"


def _cut(text: str, width: int) -> str:
    while cell_width(text) > max(width, 0):
        text = text[:-1]
    return text
