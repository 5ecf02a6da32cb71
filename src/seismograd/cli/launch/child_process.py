"""Watch a process that the script starts like the script itself, into the same record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seismograd.import_hook import when_imported
from seismograd.settings.recording_options import RecordingOptions


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """The data that a new process needs; it is pickled."""

    path: Path
    script: str
    options: RecordingOptions

    def __call__(self) -> Callable[[], None]:
        """Start watching as soon as torch is imported. Returns a function that stops it."""
        ends: list[Callable[[], None]] = []

        def begin() -> None:
            from seismograd.recording import Recording

            made = Recording(self.path, self.script, options=self.options, child=True)
            ends.append(made.close)

        def end() -> None:
            for each in ends:
                each()

        when_imported("torch", begin)
        return end
