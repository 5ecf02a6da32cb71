"""SG202 nonfinite-loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.births import Births
from seismograd.analysis.block_rows import as_list, integers, numbers, site_of, skipped_by_scaler
from seismograd.analysis.loss_origin import origin_of, site_of_loss, what_made_it
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Fact, Finding, RowBatch, StepFlag


@final
@dataclass
class NonfiniteLoss(Rule):
    """A loss is NaN or infinite.

    What it finds
        The first step whose loss is NaN or infinite, even if no gradient shows it: because the step
        was skipped, because the failing part was masked in the backward pass, or because the
        logarithm of zero is infinite.

    Why it hurts
        Usually the gradient is NaN too, and so are the weights after the next step; then the rule
        for gradients reports it, and this finding is part of it. Otherwise what is lost is the
        number that shows how training is going, along with every mean that includes it: a scheduler
        or early stopping that waits for the loss to fall waits forever.

    How it decides
        One loss is enough. In steps that `GradScaler` skipped, an infinite loss may come from the
        scale and counts only if more than {max_skips} of them occur in a row; a NaN always counts.
        Losses that could not be read are not treated as NaN. The graph behind the loss, which is
        still there, shows the first operation whose result is not finite, and what it was given;
        where the model can be called once more with the same input, that names the line, the module
        and the samples of the batch.

    False alarms
        A loss that is infinite on purpose, such as the negative logarithm of a probability of zero,
        and is never averaged.

    What to try
        - Check the batch of that step, inputs and targets, with `torch.isfinite`.
        - Use losses that take logits, `F.cross_entropy` or `F.binary_cross_entropy_with_logits`,
          instead of `log(softmax(x))`.
        - The mean of no elements is NaN: check for an empty batch, a mask that is all zeros, or
          targets that are all `ignore_index`.

    References
        - PyTorch documentation, CrossEntropyLoss: what `ignore_index` and `reduction` do.
        - Blanchard, Higham, Higham (2021), Accurately computing the log-sum-exp and softmax
          functions.
    """

    code: ClassVar[str] = "SG202"
    name: ClassVar[str] = "nonfinite-loss"
    severity: ClassVar[str] = "error"
    early: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG203",)

    max_skips: int = 20  # steps in a row

    _num_losses: int = field(default=0, init=False, repr=False)
    _num_skips: int = field(default=0, init=False, repr=False)  # in a row, with an infinite loss
    _births: Births = field(default_factory=Births, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        flags, loss = integers(block.steps, "flags"), numbers(block.steps, "loss")
        known = (flags & int(StepFlag.NO_LOSS)) == 0
        self._num_losses += int(known.sum())
        bad = known & ~np.isfinite(loss)
        if not bad.any() and not self._num_skips:
            return ()
        skipped = skipped_by_scaler(block.steps)
        for row in as_list(np.flatnonzero(known)):
            excused = bool(bad[row] and skipped[row]) and not math.isnan(loss[row])
            self._num_skips = self._num_skips + 1 if excused else 0
            if bad[row] and not (excused and self._num_skips <= self.max_skips):
                step = int(block.steps["iteration"][row])
                if self.found:
                    self.found.extend(step)
                else:
                    self.found.add(self._describe(block, row, step, float(loss[row])))
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._births.learn(fact)
        return ()

    def shortfall(self) -> Message | None:
        return (
            None
            if self._num_losses
            else say("needs {needed} loss that could be read, has {has}", needed=1, has=0)
        )

    def _describe(self, block: RowBatch, row: int, step: int, loss: float) -> Finding:
        birth = self._births.of_loss(step)
        cause, advice, excerpt = what_made_it(
            origin_of(block, row), {"step": step, "loss": f"{loss:.4g}"}, birth
        )
        is_nan = math.isnan(loss)
        evidence = (
            Evidence("nonfinite_losses", "", step, 1.0, 0.0)
            if is_nan
            else Evidence("loss", "", step, loss, math.inf)
        )
        return self.finding(
            optimizer=int(block.steps["optimizer"][row]),
            first_step=step,
            evidence=(evidence,),
            cause=cause,
            advice=advice,
            where=(birth.where if birth else "")
            or site_of_loss(block, row)
            or site_of(block, EventKind.BACKWARD, step),
            seen_only=not (birth and birth.where),
            excerpt=excerpt,
        )
