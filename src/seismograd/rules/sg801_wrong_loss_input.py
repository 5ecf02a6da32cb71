"""SG801 wrong-loss-input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.block_rows import integers
from seismograd.analysis.loss_input_advice import words
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.schema import Evidence, Fact, FactKind, Finding


@final
@dataclass
class WrongLossInput(FactRule):
    """A loss function gets inputs that it does not expect: it runs, but computes something else.

    What it finds
        Probabilities where logits are expected: softmax before `cross_entropy`, sigmoid before
        `binary_cross_entropy_with_logits`, or two of them in a row. `nll_loss`, `ctc_loss` or
        `kl_div` with inputs that are not log-probabilities. Targets of -1 or 255 in a binary cross
        entropy, or of 0 in `cosine_embedding_loss` and its kin, which expect 1 and -1. A regression
        loss with the shapes [N, 1] and [N], which are broadcast to [N, N]. Classes in the wrong
        dimension, after a view instead of a transpose, or a log_softmax over the batch. Logits that
        are cosines without a scale. Targets of a language model that were shifted twice, or not at
        all, so that they are the tokens of the input.

    Why it hurts
        Nothing raises an error, and the loss often falls. With one softmax too many, it cannot fall
        far, and the gradients are weak; with logits, `nll_loss` falls without limit; a broadcast
        regression learns the mean of all targets.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later: what produced the input of each loss function, through views,
        indexing, clamps and casts, and the targets that it saved, which it compares with the tokens
        that an embedding of the model looked up. If the graph alone does not show
        whether log-probabilities add up to one, the rule computes it. One check is enough, from
        step number {min_evaluated} on, because the graph is exactly what was computed.

    False alarms
        None known. A deliberate softmax before `cross_entropy`, to keep the loss flat, is reported,
        and a model that is meant to predict the token after the next one and nothing else.

    What to try
        - Let the model return logits, and apply softmax or sigmoid only for display or metrics.
        - `F.cross_entropy(logits, target)` is the same as `F.nll_loss(F.log_softmax(logits, 1),
          target)`.
        - Print the shapes of prediction and target once: in a regression they must be identical.
        - Turn PyTorch's warning about different sizes into an error:
          `warnings.simplefilter("error")`.

    References
        - PyTorch documentation, torch.nn.CrossEntropyLoss, torch.nn.NLLLoss, torch.nn.KLDivLoss,
          torch.nn.MSELoss.
        - Wang, Xiang, Cheng, Yuille (2017), NormFace.
    """

    code: ClassVar[str] = "SG801"
    name: ClassVar[str] = "wrong-loss-input"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LOSS_INPUT,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG102", "SG104", "SG107", "SG108", "SG109")

    min_evaluated: int = 1  # steps

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if self.found and len(block):
            self.found.extend(int(integers(block.steps, "iteration")[-1]))
        return super().observe(block)

    def judge(self, fact: Fact) -> None:
        if self.found:
            return
        cause, advice, excerpt = words(fact)
        self.found.add(
            self.finding(
                first_step=fact.iteration,
                evidence=(Evidence("loss_input", "", fact.iteration, fact.number("columns"), 0.0),),
                cause=cause,
                advice=advice,
                where=fact.text("place") or fact.where,
                excerpt=excerpt,
            )
        )
