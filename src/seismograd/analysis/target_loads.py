"""Tell at which steps a target network had just been set to other weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.schema import Fact, FactKind

SHORTEST = 5  # steps from one to the next: what is loaded more often does not stand out


@dataclass(slots=True)
class TargetLoads:
    """The steps at which one was, and the distance at which more have followed."""

    _steps: set[int] = field(default_factory=set[int])
    _last: int = -1
    _every: int = 0

    def learn(self, fact: Fact) -> None:
        """Take in a fact that may tell of one."""
        if fact.kind == FactKind.TARGET_LOADED:
            self._steps.add(fact.iteration)
            self._last, self._every = fact.iteration, int(fact.number("every"))

    def explains(self, step: int) -> bool:
        """Return whether the loss of a step is the first, or the second, after such a change."""
        if self._steps.isdisjoint((step, step - 1)):
            since = step - self._last
            return self._every >= SHORTEST and since > 0 and since % self._every <= 1
        return self._every < 0 or self._every >= SHORTEST
