"""SG202 nonfinite-loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers, site_of
from seismograd.analysis.loss_origin import origin_of, site_of_loss, what_made_it
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, RowBatch, StepFlag


@final
@dataclass
class NonfiniteLoss(Rule):
    """A loss is NaN or infinite.

    What it finds
        The first step whose loss is NaN or infinite, even where no gradient shows it: because the
        step was skipped, because what went wrong was masked on the way back, or because a logarithm
        of zero has an infinite value.

    Why it hurts
        Most often the gradient is NaN too, and the weights are after the next step; then that is
        reported, and this is part of it. Where it is not, the number that tells how training goes
        is lost, with every mean it enters: a scheduler or an early stop that waits for the loss to
        fall waits for ever.

    How it decides
        One loss is enough. In steps that `GradScaler` skipped an infinite loss may come from the
        scale, and does not count before there are more than {max_skips} of them in a row; a NaN
        always counts. Losses that could not be read are not taken for NaN.

    False alarms
        A loss that is infinite on purpose, as the negative logarithm of a probability of zero, and
        is never averaged.

    What to try
        - Look at the batch of that step with `torch.isfinite`, inputs and targets.
        - Use losses that take logits, `F.cross_entropy` or `F.binary_cross_entropy_with_logits`, in
          place of `log(softmax(x))`.
        - A mean over no elements is NaN: an empty batch, a mask that is all zero, targets that are
          all `ignore_index`.

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
    _finding: Finding | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        flags, loss = integers(block.steps, "flags"), numbers(block.steps, "loss")
        known = (flags & int(StepFlag.NO_LOSS)) == 0
        self._num_losses += int(known.sum())
        bad = known & ~np.isfinite(loss)
        if not bad.any() and not self._num_skips:
            return
        skipped = (flags & int(StepFlag.SKIPPED)) != 0
        for row in as_list(np.flatnonzero(known)):
            excused = bool(bad[row] and skipped[row]) and not math.isnan(loss[row])
            self._num_skips = self._num_skips + 1 if excused else 0
            if bad[row] and not (excused and self._num_skips <= self.max_skips):
                step = int(block.steps["iteration"][row])
                self._finding = (
                    replace(self._finding, last_step=step)
                    if self._finding
                    else self._found(block, row, step, float(loss[row]))
                )
        if self._finding is not None and bad.any():
            yield self._finding

    def shortfall(self) -> Message | None:
        return (
            None
            if self._num_losses
            else say("needs {needed} loss that could be read, has {has}", needed=1, has=0)
        )

    def _found(self, block: RowBatch, row: int, step: int, loss: float) -> Finding:
        cause, advice, excerpt = what_made_it(
            origin_of(block, row), {"step": step, "loss": f"{loss:.4g}"}
        )
        is_nan = math.isnan(loss)
        evidence = (
            Evidence("nonfinite_losses", "", step, 1.0, 0.0)
            if is_nan
            else Evidence("loss", "", step, loss, math.inf)
        )
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=int(block.steps["optimizer"][row]),
            first_step=step,
            last_step=step,
            parameters=(),
            evidence=(evidence,),
            cause=cause,
            advice=advice,
            where=site_of_loss(block, row) or site_of(block, EventKind.BACKWARD, step),
            excerpt=excerpt,
        )
