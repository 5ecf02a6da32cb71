"""Tells facts: what is known for certain and is told only when it is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from seismograd.capture.loop.call_sites import CallSites
from seismograd.schema import Fact, FactKind

MAX_OF_A_KIND = 512


class Facts:
    """Hands facts on; of each kind the first `MAX_OF_A_KIND`. `number` gives the iteration that
    is in the making.
    """

    def __init__(
        self, emit: Callable[[Fact], None], call_sites: CallSites, number: Callable[[], int]
    ) -> None:
        self._emit, self._call_sites, self._number = emit, call_sites, number
        self._num_told: Counter[str] = Counter()

    def tell(
        self,
        kind: FactKind,
        *,
        site: int = -1,
        optimizer: int = -1,
        parameters: Sequence[str] = (),
        **values: float | str,
    ) -> None:
        """Tell a fact of this moment. Whoever calls it sees to it that it is new: nothing is
        compared here.
        """
        if self._num_told[kind] >= MAX_OF_A_KIND:
            return
        self._num_told[kind] += 1
        where = str(self._call_sites.sites[site]) if site >= 0 else ""
        self._emit(Fact(str(kind), self._number(), where, optimizer, tuple(parameters), values))

    def has_room(self, kind: FactKind) -> bool:
        """Whether more of this kind would be handed on; what finds them need not look otherwise."""
        return self._num_told[kind] < MAX_OF_A_KIND
