"""The end of a program that accumulates: micro-batches whose gradients no step used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seismograd.analysis.accumulation_loop import AccumulationLoop
from seismograd.i18n import Message, Values, say
from seismograd.schema import Fact, FactKind, Note


@dataclass(slots=True)
class ProgramEnd:
    """The note about the last backwards, and what is known of the epochs of a DataLoader."""

    note: Note | None = None
    per_epoch: float = math.nan  # batches, where the program trains a single epoch

    def read_note(self, note: Note) -> None:
        """Take a note."""
        if note.kind == "tail":
            self.note = note

    def learn(self, fact: Fact) -> None:
        """Take a fact."""
        if fact.kind == FactKind.EPOCHS:
            self.per_epoch = fact.number("per_epoch") if fact.number("epochs") == 1 else math.nan

    def unused(self, loops: Mapping[int, AccumulationLoop]) -> Note | None:
        """Return the note, if what was left is a part of one of these accumulations."""
        loop = None if self.note is None else loops.get(self.note.optimizer)
        if self.note is None or loop is None or self.note.where != loop.where:
            return None
        return self.note if 0 < self.note.count < loop.whole else None

    def is_of_epoch(self, count: int, whole: int) -> bool:
        """Return whether each epoch would leave as many."""
        return self.per_epoch % whole == count

    def cause(self, count: int, whole: int) -> Message:
        """Return what to say of the last ones, of which a whole window has more."""
        values: Values = {"count": count, "whole": whole}
        if self.is_of_epoch(count, whole):
            return say(
                "the epoch has {batches} batches, and each step uses {whole}: no step uses the "
                "gradients of the last {count}, and every epoch would lose as many",
                batches=int(self.per_epoch),
                **values,
            )
        return say(
            "the program ended with micro-batches whose gradients no step used: {count} of the "
            "{whole} that make up a step",
            **values,
        )
