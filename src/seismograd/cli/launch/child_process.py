"""Watch a process that the script starts like the script itself, into the same record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from seismograd.cli.launch.import_hook import when_imported
from seismograd.settings.record_settings import RecordSettings
from seismograd.settings.rule_selection import RuleSelection


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """The data that a new process needs; it is pickled."""

    path: Path
    script: str
    elements: tuple[str, ...]
    level: str
    selection: RuleSelection = field(default_factory=RuleSelection)
    budget: float | None = None
    replay: bool = True
    record: RecordSettings = field(default_factory=RecordSettings)
    guard: bool = False

    def __call__(self) -> Callable[[], None]:
        """Start watching as soon as torch is imported. Returns a function that stops it."""
        ends: list[Callable[[], None]] = []

        def begin() -> None:
            from seismograd.recording import Recording
            from seismograd.settings.elements import parse_element

            elements = tuple(map(parse_element, self.elements))
            made = Recording(
                self.path,
                self.script,
                elements=elements,
                level=self.level,
                child=True,
                selection=self.selection,
                budget=self.budget,
                replay=self.replay,
                record=self.record,
                guard=self.guard,
            )
            ends.append(made.close)

        def end() -> None:
            for each in ends:
                each()

        when_imported("torch", begin)
        return end
