"""Keep the splits of sampled steps for the finding that they explain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from seismograd.analysis.signal_chain import chains_of
from seismograd.analysis.signal_split import SignalSplit, split_of_chain
from seismograd.schema import SampleBatch

NO_STEP = -1


@dataclass(frozen=True, slots=True)
class ChainSplit:
    """The split of one chain, and the modules that lie on it."""

    modules: frozenset[str]
    split: SignalSplit

    def leads_past(self, parameters: Iterable[str]) -> bool:
        """Return whether a module of these parameters lies on it."""
        return any(name.rpartition(".")[0] in self.modules for name in parameters)


Fits = Callable[[ChainSplit], bool]


@dataclass(slots=True)
class SampledSplits:
    """The splits of the last samples: of the block that is read, and before it the last one of each
    optimizer. What is asked of them by steps does not depend on where blocks are cut.
    """

    _kept: list[tuple[int, int, tuple[ChainSplit, ...]]] = field(
        default_factory=list[tuple[int, int, tuple[ChainSplit, ...]]]
    )

    def add(self, batch: SampleBatch) -> None:
        """Take a sample."""
        found = tuple(
            ChainSplit(frozenset(link.subject.name for link in chain), split)
            for chain in chains_of(batch)
            if (split := split_of_chain(chain, batch.step)) is not None
        )
        if found:
            self._kept.append((batch.step, batch.optimizer, found))

    def before(self, step: int, fits: Fits) -> SignalSplit | None:
        """Return the split that fits, of the last sample of an optimizer before this step."""
        last = {
            optimizer: splits for at, optimizer, splits in self._kept if at < step
        }  # later ones replace earlier ones
        found = [each.split for splits in last.values() for each in splits if fits(each)]
        return max(found, key=lambda split: split.step, default=None)

    def since(self, step: int, fits: Fits) -> SignalSplit | None:
        """Return the first split that fits, from this step on."""
        of_steps = (splits for at, _, splits in self._kept if at >= step)
        return next((each.split for splits in of_steps for each in splits if fits(each)), None)

    def forget(self, step: int) -> None:
        """Forget the samples up to this step but for the last one of each optimizer."""
        last = {optimizer: at for at, optimizer, _ in self._kept if at <= step}
        self._kept = [each for each in self._kept if each[0] > step or last[each[1]] == each[0]]


@dataclass(slots=True)
class SplitOfFinding:
    """The split that explains a finding: of the last sample before it was made. Where that is older
    than the fault, it is of the first sample after, as soon as there is one.
    """

    step: int = NO_STEP  # at which it was found
    _first_step: int = NO_STEP
    _before: SignalSplit | None = None
    _after: SignalSplit | None = None

    def look(self, splits: SampledSplits, first_step: int, step: int, fits: Fits) -> None:
        """Look among the splits for that of a fault that began and was found at these steps."""
        if self.step != step:
            self.step, self._first_step = step, first_step
            self._before, self._after = splits.before(step + 1, fits), None
        if self._after is None:
            self._after = splits.since(step + 1, fits)

    def up_to(self, last_step: int) -> SignalSplit | None:
        """Return the split of a finding that goes up to this step."""
        is_old = self._before is None or self._before.step < self._first_step
        if is_old and self._after is not None and self._after.step <= last_step:
            return self._after
        return self._before
