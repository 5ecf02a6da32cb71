"""Report facts: what is known for certain, reported only when it is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from seismograd.capture.loop.call_sites import CallSites
from seismograd.schema import Fact, FactKind

MAX_OF_A_KIND = 512


class Facts:
    """Reports facts, of each kind the first `MAX_OF_A_KIND`. `number` returns the current
    iteration's number.
    """

    def __init__(
        self, emit: Callable[[Fact], None], call_sites: CallSites, number: Callable[[], int]
    ) -> None:
        self._emit, self._call_sites, self._number = emit, call_sites, number
        self._num_reported: Counter[str] = Counter()

    @property
    def iteration(self) -> int:
        """The current iteration's number."""
        return self._number()

    def report(
        self,
        kind: FactKind,
        *,
        site: int = -1,
        optimizer: int = -1,
        parameters: Sequence[str] = (),
        **values: float | str,
    ) -> None:
        """Report a fact of this moment. The caller makes sure that it is new: nothing is compared
        here.
        """
        self._report(kind, values, site, optimizer, parameters)

    def report_values(
        self,
        kind: FactKind,
        values: Mapping[str, float | str],
        site: int = -1,
        parameters: Sequence[str] = (),
        optimizer: int = -1,
    ) -> None:
        """Report a fact likewise, whose values are at hand."""
        self._report(kind, values, site, optimizer, parameters)

    def _report(
        self,
        kind: FactKind,
        values: Mapping[str, float | str],
        site: int,
        optimizer: int,
        parameters: Sequence[str],
    ) -> None:
        if self._num_reported[kind] >= MAX_OF_A_KIND:
            return
        self._num_reported[kind] += 1
        where = str(self._call_sites.sites[site]) if site >= 0 else ""
        self._emit(Fact(str(kind), self._number(), where, optimizer, tuple(parameters), values))

    def has_room(self, kind: FactKind) -> bool:
        """Return whether more facts of this kind would be reported; otherwise there is no need to
        search for them.
        """
        return self._num_reported[kind] < MAX_OF_A_KIND
