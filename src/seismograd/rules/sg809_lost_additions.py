"""SG809 lost-additions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.accumulated_index import with_accumulation
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class LostAdditions(FactRule):
    """Of several additions to the same place by an index only one is kept.

    What it finds
        `total[index] += x` where the index names a place several times, as the nodes at the ends of
        the edges of a graph, the segments of a sum, or the experts of tokens.

    Why it hurts
        It reads all places, adds, and writes them back: of those to the same place the last one
        written stays, and which one that is torch leaves open. The sum lacks all others, and the
        backward gives gradients to them nevertheless. Nothing raises an error.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later. It looks for values that are written by an index without being
        accumulated, are a sum, and have a gradient, where at least two places are named more than
        once. One check is enough, from step number {min_evaluated} on, where the graph shows that
        the sum is one with what stood at these very places, or the script has one such statement.

    False alarms
        A single place that is named again and again does not count: it may be where padding goes.
        Where what is added to a place is always the same, nothing is lost but a factor.

    What to try
        - `total.index_add_(0, index, x)`, or `scatter_add_`, or
          `index_put_((index,), x, accumulate=True)`.
        - Check that `total.sum()` is `x.sum()`.

    References
        - PyTorch documentation, torch.Tensor.index_put_ and torch.Tensor.index_add_.
    """

    code: ClassVar[str] = "SG809"
    name: ClassVar[str] = "lost-additions"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LOST_ADDITIONS,)

    min_evaluated: int = 1  # steps

    def judge(self, fact: Fact) -> None:
        num, lost = int(fact.number("num")), int(fact.number("lost"))
        text = fact.text("text")
        self.found.add_or_extend(
            self.finding_of_fact(
                fact,
                say(
                    "{statement} names the same places several times: of {num} additions {lost} "
                    "are lost, because each reads what was there before all of them, and the last "
                    "one that is written stays",
                    statement=text or "total[index] += x",
                    num=num,
                    lost=lost,
                ),
                say(
                    "accumulate: index_add_, scatter_add_, or index_put_ with accumulate=True; "
                    "then the sum of the result is that of what was added"
                ),
                with_accumulation(text) or "total.index_add_(0, index, x)",
                evidence=(Evidence("lost_additions", "", fact.iteration, float(lost), 0.0),),
            )
        )
