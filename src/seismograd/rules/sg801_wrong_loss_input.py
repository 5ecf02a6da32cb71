"""SG801 wrong-loss-input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, iteration_at, numbers
from seismograd.analysis.loss_input_advice import words
from seismograd.analysis.self_reference_words import words_of_self_reference
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import memory
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
        loss with the shapes [N, 1] and [N], which are broadcast to [N, N], or numbers of these
        shapes that are multiplied by constants, such as log-probabilities by advantages. Classes in
        the wrong dimension, after a view instead of a transpose, or a log_softmax over the batch.
        Logits that are cosines without a scale, or cosines between samples that are multiplied by
        the temperature and not divided by it. Targets of a language model that were shifted
        twice, or not at all, so that they are the tokens of the input. A sum over the whole batch
        that is added to the number of each sample before their mean is taken, such as the
        log-determinant of a normalizing flow, or a divergence. A focal loss whose weight is
        computed from the mean of a batch. A preference loss, such as DPO's, whose reference is the
        model itself, as where the adapter is still on: what it compares is always equal.

    Why it hurts
        Nothing raises an error, and the loss often falls. With one softmax too many, it cannot fall
        far, and the gradients are weak; with logits, `nll_loss` falls without limit; a broadcast
        regression learns the mean of all targets, and a broadcast policy gradient nothing.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later: what produced the input of each loss function, through views,
        indexing, clamps and casts, and the targets that it saved, which it compares with the tokens
        that an embedding of the model looked up. If the graph alone does not show
        whether log-probabilities add up to one, the rule computes it. One check is enough, from
        step number {min_evaluated} on, because the graph is exactly what was computed. Only a
        reference is judged at the end: `logsigmoid`, `softplus` or a binary cross entropy with
        logits has to be given differences of something with a graph and something without that are
        all exactly zero at every check, {min_sightings} at least and each after other updates, and
        the learning rate must have been at its highest before half of the steps: while it rises, a
        policy may not have moved yet.

    False alarms
        None known. A sum over the batch counts with a factor of a half or more: a smaller one may
        have been chosen for it. A deliberate softmax before `cross_entropy`, to keep the loss flat,
        is reported, and a model that is meant to predict the token after the next one and nothing
        else.

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
    takes_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.SELF_REFERENCE,)
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG101",
        "SG102",
        "SG104",
        "SG107",
        "SG108",
        "SG109",
        "SG602",
    )

    min_evaluated: int = 1  # steps
    min_sightings: int = 5

    _references: list[Fact] = memory(list[Fact])
    _highest: float = memory(float)  # learning rate
    _highest_at: int = memory(int)

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if self.found and len(block):
            self.found.extend(int(integers(block.steps, "iteration")[-1]))
        for row in as_list(np.flatnonzero(numbers(block.steps, "lr") > self._highest)):
            lr = float(block.steps["lr"][row])
            if lr > self._highest:
                self._highest, self._highest_at = lr, iteration_at(block, row)
        return super().observe(block)

    def finish(self) -> Iterable[Finding]:
        seen = self._references
        if len(seen) < self.min_sightings or self.found:
            return self.found.take()
        length, since = self._last_step - seen[0].iteration, seen[-1].iteration - seen[0].iteration
        # a check that shows another difference would have been the last: no fact is in the second
        # half then
        if 2 * since + 1 > length >= 2 * (self._highest_at - seen[0].iteration):
            first, last = seen[0], seen[-1]
            evidence = Evidence("difference", "", last.iteration, 0.0, 0.0)
            self.found.add(
                self.finding_of_fact(
                    last,
                    *words_of_self_reference(last),
                    evidence=(evidence,),
                    first_step=first.iteration,
                    last_step=self._last_step,
                )
            )
        return self.found.take()

    def judge(self, fact: Fact) -> None:
        if fact.kind == FactKind.SELF_REFERENCE:
            if not self._references or self._references[0].where != fact.where:
                self._references, self._highest, self._highest_at = [], 0.0, fact.iteration
            self._references.append(fact)
            return
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
