"""SG411 same-random-numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class SameRandomNumbers(FactRule):
    """The seed is set again before each step, so every step draws the same random numbers.

    What it finds
        `torch.manual_seed`, or a function such as `seed_everything` that calls it, within the loop
        that trains, with the same seed each time.

    Why it hurts
        Every step draws the same numbers: the same indices of samples, the same noise and time
        steps, the same dropout masks. The network only ever sees one of them and learns it by
        heart. The loss falls well, far below what it is for other numbers.

    How it decides
        At the first steps of an optimizer, and at every tenth, the rule looks at the seeds that
        were set since the look before. A look counts where there was at least one for each step,
        all of them the same, nothing has set the state of the generator to another one since, and
        more numbers were drawn than a DataLoader draws when it begins. The rule reports
        {min_looks} such looks in a row. Seeds that are set where gradients are off, or in a
        function that evaluates, do not count.

    False alarms
        A training that is meant to see the same random numbers at each step, such as the same
        points of a domain.

    What to try
        - Set the seed once, before the loop.
        - Where one part needs its own numbers, give it `torch.Generator().manual_seed(…)`, or use
          `torch.random.fork_rng()`, which puts the state back.

    References
        - PyTorch documentation, Reproducibility.
    """

    code: ClassVar[str] = "SG411"
    name: ClassVar[str] = "same-random-numbers"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.RESEEDED,)

    min_looks: int = 8
    min_evaluated: int = 9  # steps

    def judge(self, fact: Fact) -> None:
        times = fact.number("times")
        if times < self.min_looks:
            return
        if len(self.found):
            self.found.extend(fact.iteration)
            return
        since, seed = int(fact.number("since")), fact.text("seed")
        text = fact.text("text") or f"torch.manual_seed({seed})"
        self.found.add(
            self.finding_of_fact(
                fact,
                say(
                    "since step {since} the seed of torch's random numbers has been set to {seed} "
                    "before each step, at {line}: every step draws the same numbers, such as "
                    "indices of samples, noise or dropout masks",
                    since=since,
                    seed=seed,
                    line=fact.where or "?",
                ),
                say("set the seed once, before the loop"),
                f"{text}  # once, before the loop",
                first_step=since,
                evidence=(Evidence("looks", "", fact.iteration, times, float(self.min_looks)),),
            )
        )
