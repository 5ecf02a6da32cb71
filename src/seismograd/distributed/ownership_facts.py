"""Tell which processes hold the same parameters: a fact for the rules, and notes for the user."""

from __future__ import annotations

from collections.abc import Callable

from seismograd.distributed.ownership import Ownership
from seismograd.i18n import Message, say
from seismograd.schema import Fact, FactKind, Note

MAX_FACTS = 64
MAX_NAMES = 16


class OwnershipFacts:
    """Tells what is new in an `Ownership`; of each kind of note one."""

    def __init__(self, learn: Callable[[Fact], None], report: Callable[[Note], None]) -> None:
        self._learn, self._report_note = learn, report
        self._num_reported = 0
        self._said: set[str] = set()

    def report(self, ownership: Ownership, iteration: int) -> None:
        """Tell it all."""
        if self._num_reported >= MAX_FACTS:
            return
        self._num_reported += 1
        self._learn(
            Fact(
                str(FactKind.OWNERSHIP),
                iteration,
                parameters=ownership.forgotten()[:MAX_NAMES],
                values={
                    "same": ownership.num_same(),
                    "separate": len(ownership.separate),
                    "local": len(ownership.local),
                    "unsynced": int(ownership.is_unsynced),
                    "ambiguous": int(ownership.is_ambiguous),
                    "began_alike": int(ownership.began_alike()),
                },
            )
        )
        if ownership.separate:
            self._say(
                "separate",
                iteration,
                say(
                    "ranks hold different tensors under the same name, as experts or shards "
                    "({num} {num:parameter|parameters}, first {name}): each of them is "
                    "counted once",
                    num=len(ownership.separate),
                    name=min(ownership.separate),
                ),
            )
        if ownership.local:
            self._say(
                "local",
                iteration,
                say(
                    "the gradients of {num} {num:parameter|parameters} (first {name}) differ "
                    "between ranks while their weights stay the same: they are reduced where "
                    "seismograd does not see it, and not measured",
                    num=len(ownership.local),
                    name=min(ownership.local),
                ),
            )

    def _say(self, what: str, iteration: int, message: Message) -> None:
        if what not in self._said:
            self._said.add(what)
            self._report_note(Note("ranks", iteration, message))
