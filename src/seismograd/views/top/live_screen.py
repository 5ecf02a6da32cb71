"""Follow a run on the terminal until `q`; without a terminal, print one picture."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from seismograd.record import layout
from seismograd.record.reader import open_run
from seismograd.record.run_activity import is_going_on
from seismograd.schema import RunState
from seismograd.views.top.screen import Screen
from seismograd.views.top.screen_state import ScreenState, listed, press
from seismograd.views.top.snapshot import RunSnapshot, read_snapshot

_INTERVAL_S = 1.0


def look(path: Path) -> RunSnapshot:
    """Return a snapshot of the run; raises `SeismogradError` when it cannot be read."""
    run = open_run(path)
    return read_snapshot(run, is_going_on(path))


def print_once(path: Path, console: Console) -> None:
    """Print one picture, with every parameter; as wide as COLUMNS, or 80, where there is no
    terminal.
    """
    if not console.is_terminal:
        console.width = shutil.get_terminal_size().columns
    console.print(Screen(look(path), ScreenState(), keys=False))


def follow(path: Path, console: Console) -> None:
    """Draw until the user quits; the record is read again when it has grown."""
    from seismograd.views.top.keyboard import single_keys

    control, snapshot, known = ScreenState(), look(path), _size(path)
    read_at = time.monotonic()
    with single_keys() as read_keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while not control.done:
            live.update(Screen(snapshot, control), refresh=True)
            for key in read_keys(_INTERVAL_S):
                control = press(control, key, listed(snapshot, control))
            if time.monotonic() - read_at >= _INTERVAL_S:
                read_at, now = time.monotonic(), _size(path)
                if now != known or snapshot.state is RunState.LIVE:
                    known, snapshot = now, look(path)


def is_terminal() -> bool:
    """Return whether there is a terminal to draw on and to read keys from."""
    streams: tuple[Callable[[], bool], ...] = (sys.stdin.isatty, sys.stdout.isatty)
    return sys.platform != "win32" and all(each() for each in streams)


def _size(path: Path) -> tuple[int, ...]:
    return tuple(
        (path / name).stat().st_size
        for name in (layout.STEPS, layout.FINDINGS, layout.END)
        if (path / name).exists()
    )
