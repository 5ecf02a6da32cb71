"""Remember where non-finite numbers arose, by the iteration in which they were seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.schema import Fact, FactKind


@dataclass(slots=True)
class Births:
    """The first fact of each kind of number in each iteration; capture bounds how many there
    are.
    """

    _facts: dict[tuple[str, int], Fact] = field(default_factory=dict[tuple[str, int], Fact])

    def learn(self, fact: Fact) -> None:
        """Take a fact of any kind."""
        if fact.kind == FactKind.BIRTH:
            self._facts.setdefault((fact.text("of"), fact.iteration), fact)

    def of_loss(self, step: int) -> Fact | None:
        """Return where a loss of this iteration became non-finite."""
        return self._facts.get(("loss", step))

    def of_gradient(self, step: int) -> Fact | None:
        """Return where a gradient of this iteration became non-finite while its loss was finite."""
        return self._facts.get(("gradient", step))
