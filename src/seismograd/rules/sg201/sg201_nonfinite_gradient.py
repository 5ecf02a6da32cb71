"""SG201 nonfinite-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.births import Births
from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    by_optimizer,
    flagged,
    iteration_at,
    numbers,
    skipped_by_scaler,
)
from seismograd.diagnosis.rule import Rule, memory, per_optimizer, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg201.nonfinite_step import nonfinite_step_finding
from seismograd.schema import Fact, Finding, RowBatch, State, StepFlag


@dataclass(slots=True)
class _Skips:
    """Non-finite steps of one optimizer that were skipped in a row."""

    num: int = 0  # those that no scale explains
    scale: float = math.inf  # of the last one
    first: Finding | None = None  # about the first one


@final
@dataclass
class NonfiniteGradient(Rule):
    """A gradient is NaN or infinite.

    What it finds
        The first step whose gradient contains a NaN or an infinity, and the parameter where it
        first appeared: the first one in the order of the backward pass, from the loss to the input.

    Why it hurts
        The optimizer writes it into the weights and its moving averages. From the next step on
        everything is NaN, and nothing recovers. Clipping turns every gradient into NaN.

    How it decides
        One scalar that is not finite is enough. Steps that `GradScaler` skipped do not count,
        because skipping is how it searches for its scale, unless it skipped more than {max_skips}
        in a row, at a scale of {max_scale:g} (with which it begins by default) or lower, or with a
        loss of NaN: if the scale were the problem, that many halvings would have fixed it. A new
        scaler, which begins with a higher scale, searches anew. The loss shows where the number
        came from. If the loss is finite, the backward pass produced it, through an undefined
        derivative. If not, the operations behind the loss show the origin: the model input, the
        weights, an operation whose operands were finite, or the loss itself. The graph shows which
        operation, and what it was given; where the model can be called once more with the same
        input, that names the line, the module and the samples of the batch.

    False alarms
        None known, except NaN that a program puts into gradients and removes before the step.

    What to try
        - If it came from the backward pass: look for a square root, a norm, a power or a logarithm
          at 0, or a division, in a branch that `torch.where` hides. Fix its input instead of its
          output, `torch.sqrt(torch.where(x > 0, x, 1.0))`, or add a small number to it.
        - If it came from the loss: check inputs and targets with `torch.isfinite`, and use
          `log_softmax` and losses that take logits. An exploding gradient ends here, too.
        - `torch.autograd.set_detect_anomaly(True)` stops at the operation whose backward pass
          produced a NaN and shows where the operation was called.

    References
        - PyTorch documentation, Automatic differentiation: anomaly detection; pytorch/pytorch#68425
          on `torch.where`.
    """

    code = "SG201"
    name = "nonfinite-gradient"
    severity = "error"
    early = True
    needs = ("nonfinite",)
    absorbs = ("SG103", "SG202", "SG203")

    max_skips: int = 20  # steps of an optimizer in a row
    max_scale: float = 2.0**16  # what overflows above it may be the scale's

    _num_rows: int = memory(int)  # that were measured and not skipped
    _skips: dict[int, _Skips] = per_optimizer(_Skips)
    _births: Births = memory(Births)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        nonfinite = (block.state == State.NONFINITE).any(axis=1)
        skipped = skipped_by_scaler(block.steps)
        self._num_rows += int((~skipped & (block.state >= State.ZERO).any(axis=1)).sum())
        if nonfinite.any() or self._skips:
            bad = nonfinite & ~skipped
            given_up = self._follow_skips(block, nonfinite & skipped)
            bad[list(given_up)] = True
            hits = as_list(np.flatnonzero(bad))
            if hits and not self.found:
                self.found.add(given_up.get(hits[0]) or self._finding(block, hits[0]))
            if hits:
                self.found.extend(iteration_at(block, hits[-1]))
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._births.learn(fact)
        return ()

    def shortfall(self) -> Message | None:
        return too_few(mark("needs {needed} step with gradients, has {has}"), self._num_rows, 1)

    def _follow_skips(self, block: RowBatch, skipped: BoolArray) -> dict[int, Finding]:
        """Return the rows in which an optimizer was skipped more than `max_skips` times in a row
        at scales that do not explain it, and the finding for the first skip.
        """
        given_up: dict[int, Finding] = {}
        scale, loss = numbers(block.steps, "scale"), numbers(block.steps, "loss")
        is_nan = np.isnan(loss) & ~flagged(block.steps, StepFlag.NO_LOSS)
        for optimizer, rows in by_optimizer(block, np.ones(len(block), np.bool_)):
            if not skipped[rows].any() and optimizer not in self._skips:
                continue
            skips = self._skips[optimizer]
            for row in as_list(rows):
                if not skipped[row]:
                    skips.num, skips.scale, skips.first = 0, math.inf, None
                    continue
                if scale[row] > skips.scale and not is_nan[row]:
                    skips.num, skips.first = 0, None
                skips.scale = float(scale[row])
                skips.num += int(is_nan[row] or not scale[row] > self.max_scale)
                skips.first = skips.first or self._finding(block, row)
                if skips.num > self.max_skips:
                    given_up[row] = skips.first
        return given_up

    def _finding(self, block: RowBatch, row: int) -> Finding:
        return nonfinite_step_finding(self, self._births, block, row)
