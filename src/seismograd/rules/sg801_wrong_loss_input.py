"""SG801 wrong-loss-input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from seismograd.analysis.block_rows import integers
from seismograd.analysis.loss_input_advice import words
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class WrongLossInput(Rule):
    """A loss function is given something else than it takes: it runs, and means something else.

    What it finds
        Probabilities where logits are expected: softmax before `cross_entropy`, sigmoid before
        `binary_cross_entropy_with_logits`, or two of them in a row. `nll_loss` or `kl_div` on what
        is not a log-probability. A regression loss of shapes [N, 1] and [N], which are broadcast to
        [N, N]. Classes in the wrong dimension, after a view in place of a transpose, or a
        log_softmax over the batch.

    Why it hurts
        Nothing raises, and the loss often falls. After a softmax too many it cannot fall far, and
        the gradients are weak; on logits `nll_loss` falls without end; a broadcast regression
        learns the mean of all targets.

    How it decides
        From the graph of the loss, at the first backwards of each line and ever more rarely later:
        what made the input of each loss function, through views, indices, clamps and casts. Whether
        logarithms of probabilities add up to one is computed where the graph alone does not say it.
        One look is enough, from step number {min_evaluated} on: the graph is what was computed.

    False alarms
        None are known. A softmax in front of `cross_entropy` that is meant, to keep the loss flat,
        is reported.

    What to try
        - Let the model give logits, and take softmax or sigmoid only for what is shown or measured.
        - `F.cross_entropy(logits, target)` is `F.nll_loss(F.log_softmax(logits, 1), target)`.
        - Print the shapes of prediction and target once: they have to be equal, element for
          element, in a regression.
        - Turn the warning of torch about different sizes into an error:
          `warnings.simplefilter("error")`.

    References
        - PyTorch documentation, torch.nn.CrossEntropyLoss, torch.nn.NLLLoss, torch.nn.KLDivLoss,
          torch.nn.MSELoss.
    """

    code: ClassVar[str] = "SG801"
    name: ClassVar[str] = "wrong-loss-input"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LOSS_INPUT,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG102", "SG104", "SG107", "SG108", "SG109")

    min_evaluated: int = 1  # steps

    _finding: Finding | None = field(default=None, init=False, repr=False)
    _num_rows: int = field(default=0, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        if self._finding is None or not len(block):
            return []
        self._finding = replace(
            self._finding, last_step=int(integers(block.steps, "iteration")[-1])
        )
        return [self._finding]

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.LOSS_INPUT or self._finding is not None:
            return []
        cause, advice, excerpt = words(fact)
        self._finding = Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=fact.iteration,
            last_step=fact.iteration,
            parameters=(),
            evidence=(Evidence("loss_input", "", fact.iteration, fact.number("columns"), 0.0),),
            cause=cause,
            advice=advice,
            where=fact.where,
            excerpt=excerpt,
        )
        return [self._finding]

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None
