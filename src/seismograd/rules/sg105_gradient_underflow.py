"""SG105 gradient-underflow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, site_of, updates
from seismograd.analysis.parameter_index import is_weight
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    EventKind,
    Evidence,
    Finding,
    FloatArray,
    IntArray,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)

SMALLEST_EXPONENT = -24  # of float16: 2^-24 is its smallest number above zero


@final
@dataclass
class GradientUnderflow(Rule):
    """Gradients computed in float16 fall below its range and become zero.

    What it finds
        Training in float16, with autocast or `model.half()`, where the gradients are at the lower
        end of the range of float16: because there is no `GradScaler`, because its scale is too
        small, or because the loss itself is tiny.

    Why it hurts
        Anything smaller than about 6e-8 becomes exactly zero, and anything a little larger keeps
        only one or two of its digits. Small gradients, which are the majority, are lost silently:
        there is no NaN, and the norm, which comes from the few large ones, looks normal.

    How it decides
        Half precision has no numbers between zero and its smallest one, so the histogram of a
        gradient computed in it ends there. At every tenth step, for each tensor computed in half
        precision, the rule counts the scalars in the lowest three bins of that range, after taking
        the loss scale into account. The gradient underflows if these are at least {min_share:.0%}
        of all scalars that are not zero and almost none are smaller (at most {max_below:.0%}), in
        half of the weights and in {num_samples:g} of these steps. It also underflows if all
        gradients are exactly zero although the loss is at least {min_loss:.0%} of its first value.

    False alarms
        A part of the model whose gradient is naturally tiny and does not matter. bfloat16 has the
        same range as float32 and is not checked.

    What to try
        - Scale the loss: create `scaler = torch.amp.GradScaler("cuda")`, then call
          `scaler.scale(loss).backward()`, `scaler.step(optimizer)` and `scaler.update()`.
        - Use bfloat16 if the hardware supports it; it needs no loss scaling.
        - Do not divide the loss by large numbers; taking the mean over the batch is enough.

    References
        - Micikevicius et al. (2018), Mixed precision training: loss scaling.
        - PyTorch documentation, Automatic mixed precision: gradient scaling.
    """

    code = "SG105"
    name = "gradient-underflow"
    severity = "warning"
    needs = ("exponents",)
    absorbs = ("SG106", "SG108", "SG402")

    min_share: float = 0.2  # of the scalars that are not zero
    max_below: float = 0.01
    num_samples: int = 2  # steps
    min_loss: float = 0.01  # of the first
    min_evaluated: int = 2  # sampled steps

    _parameters: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    _columns: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _num_samples: int = field(default=0, init=False, repr=False)
    _has_half: bool = field(default=False, init=False, repr=False)
    _tracks: dict[int, _UnderflowTrack] = field(
        default_factory=dict[int, "_UnderflowTrack"], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        if block.parameters is not self._parameters:
            self._parameters = block.parameters
            half = [
                column
                for column, each in enumerate(block.parameters)
                if (each.compute_dtype or each.dtype) == "float16"
            ]
            self._columns = np.array(half, np.int64)
            self._has_half |= bool(half)
        sampled = as_list(block.sample_rows)
        self._num_samples += len(sampled)
        if not len(self._columns):
            return ()
        new = updates(block)
        for sample, row in enumerate(sampled):
            if new[row]:
                self._look(block, sample, row)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for optimizer, track in self._tracks.items():
            if (
                track.finding is not None
                and optimizer not in self.found
                and track.num >= min(track.count, self.num_samples)
            ):
                self.found.add(track.finding)
        return self.found.take()

    def shortfall(self) -> Message | None:
        if not self._has_half:
            return say("needs gradients computed in float16, has {has}", has=0)
        if self._num_samples < self.min_evaluated:
            return say(
                "needs {needed} sampled steps, has {has}",
                needed=self.min_evaluated,
                has=self._num_samples,
            )
        return None

    def _look(self, block: RowBatch, sample: int, row: int) -> None:
        columns = self._columns[
            np.isin(block.state[row, self._columns], (State.ZERO, State.FINITE))
        ]
        if not len(columns):
            return
        step = block.steps[row]
        loss = math.nan if int(step["flags"]) & int(StepFlag.NO_LOSS) else float(step["loss"])
        track = self._tracks.setdefault(int(step["optimizer"]), _UnderflowTrack(loss))
        weight = np.array(
            [is_weight(block.parameters[column]) for column in as_list(columns)], np.bool_
        )
        share, known = self._shares(block, sample, columns, float(step["scale"]))
        gone = (
            bool((block.state[row, columns] == State.ZERO).all())
            and abs(loss) >= self.min_loss * abs(track.first_loss) > 0
        )
        shown = gone or _most(share >= self.min_share, weight & known)
        track.count += 1
        track.num = track.num + 1 if shown else track.num
        if not shown:
            return
        if track.finding is None:
            affected = columns if gone else columns[share >= self.min_share]
            track.finding = self._finding(
                block, row, affected, share[share >= self.min_share], gone
            )
        track.finding = replace(track.finding, last_step=int(step["iteration"]))
        if track.num >= self.num_samples:
            self.found.add(track.finding)

    def _shares(
        self, block: RowBatch, sample: int, columns: IntArray, scale: float
    ) -> tuple[FloatArray, BoolArray]:
        """Return the share of scalars at the lower end of float16, 0 where some lie below it; and
        where there are any scalars at all.
        """
        count = np.asarray(block.samples["exponents"][sample], np.float64)[columns]  # (columns, W)
        exponent = SMALLEST_EXPONENT - math.log2(
            scale if scale > 0 and math.isfinite(scale) else 1.0
        )
        edge = min(
            max(math.floor((exponent - HISTOGRAM_FIRST_EXPONENT) / HISTOGRAM_EXPONENTS_PER_BIN), 0),
            count.shape[1] - 3,
        )
        total = count.sum(axis=1)
        known = total > 0
        below = count[:, :edge].sum(axis=1) > self.max_below * total
        share = np.where(
            known & ~below, count[:, edge : edge + 3].sum(axis=1) / np.maximum(total, 1), 0
        )
        return share, known

    def _finding(
        self, block: RowBatch, row: int, columns: IntArray, share: FloatArray, gone: bool
    ) -> Finding:
        step, scale = int(block.steps["iteration"][row]), float(block.steps["scale"][row])
        names = tuple(block.parameters[column].name for column in as_list(columns))
        zeros = np.asarray(block.values["zeros"][row], np.float64)[columns]
        numel = np.array(
            [block.parameters[column].numel for column in as_list(columns)], np.float64
        )
        largest = int(np.argmax(zeros / numel if gone else share))
        values: dict[str, str | int | float] = {
            "step": step,
            "parameter": names[largest],
            "percent": 100 * float(1 if gone else share[largest]),
            "zeros": 100 * float(zeros[largest] / numel[largest]),
            "scale": scale,
        }
        evidence = [Evidence("zeros", names[largest], step, float(zeros[largest]), 0.0)]
        if gone:
            cause = say(
                "all gradients are exactly zero at step {step}, but the loss is not: float16 "
                "cannot represent numbers below 6e-8",
                **values,
            )
        else:
            evidence.insert(
                0,
                Evidence(
                    "share_at_smallest", names[largest], step, float(share[largest]), self.min_share
                ),
            )
            cause = say(
                "gradients fall below the range of float16: at step {step}, with the loss scaled "
                "by {scale:g}, {percent:.3g}% of the non-zero gradients of {parameter} are at the "
                "lower end of that range, and {zeros:.3g}% of all are exactly zero",
                **values,
            )
        return self.finding(
            optimizer=int(block.steps["optimizer"][row]),
            first_step=step,
            parameters=names,
            evidence=tuple(evidence),
            cause=cause,
            advice=say(
                "scale the loss with torch.amp.GradScaler before backward, or compute in "
                "bfloat16, which has a wider range"
            ),
            where=site_of(block, EventKind.BACKWARD, step),
            excerpt="scaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.update()",
        )


def _most(shown: BoolArray, among: BoolArray) -> bool:
    """Return whether at least half of these, and at least one, show it."""
    return bool(among.any()) and 2 * int((shown & among).sum()) >= int(among.sum())


@dataclass(slots=True)
class _UnderflowTrack:
    """The state of one optimizer."""

    first_loss: float
    count: int = 0  # sampled steps
    num: int = 0  # of those that show it
    finding: Finding | None = None  # the finding it would be, from the first step that shows it
