"""SG105 gradient-underflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, columns_where
from seismograd.analysis.float16_range import shares_at_smallest
from seismograd.analysis.parameter_index import is_weight
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark, say
from seismograd.rules.sg105.underflow import Underflow
from seismograd.schema import Finding, IntArray, Parameter, RowBatch, State


@dataclass(slots=True)
class _UnderflowTrack:
    """The state of one optimizer."""

    first_loss: float
    count: int = 0  # sampled steps
    num: int = 0  # of those that show it
    finding: Finding | None = None  # the finding it would be, from the first step that shows it


@final
@dataclass
class GradientUnderflow(Rule):
    """Gradients computed in float16 fall below its range and become zero.

    What it finds
        Training in float16, with autocast or `model.half()`, where the gradients are at the lower
        end of the range of float16: because there is no `GradScaler`, because its scale is too
        small, or because the loss itself is tiny.

    Why it hurts
        Anything smaller than about 6e-8 becomes exactly zero. Small gradients, which are the
        majority, are lost silently: the norm, which comes from the few large ones, looks normal.

    How it decides
        Half precision has no numbers between zero and its smallest one, so the histogram of a
        gradient computed in it ends there. At every tenth step, for each tensor computed in half
        precision, the rule counts the scalars in the lowest three bins of that range, after taking
        the loss scale into account. The gradient underflows if these are at least {min_share:.0%}
        of all scalars that are not zero and almost none are smaller (at most {max_below:.0%}), in
        half of the weights and in {num_samples:g} of these steps. It also underflows if all
        gradients are exactly zero although the loss is at least {min_loss:.0%} of its first value.

    False alarms
        A part of the model whose gradient is tiny and does not matter. bfloat16 is not checked.

    What to try
        - Scale the loss: create `scaler = torch.amp.GradScaler("cuda")`, then call
          `scaler.scale(loss).backward()`, `scaler.step(optimizer)` and `scaler.update()`.
        - Use bfloat16 if the hardware supports it; it needs no loss scaling.

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

    _parameters: tuple[Parameter, ...] | None = memory(lambda: None)
    _columns: IntArray = memory(lambda: np.zeros(0, np.int64))  # of those in float16
    _has_half: bool = memory(bool)
    _num_samples: int = memory(int)
    _tracks: dict[int, _UnderflowTrack] = memory(dict[int, _UnderflowTrack])

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if block.parameters is not self._parameters:
            self._parameters = block.parameters
            self._columns = columns_where(
                block.parameters, lambda each: (each.compute_dtype or each.dtype) == "float16"
            )
            self._has_half |= len(self._columns) > 0
        self._num_samples += len(block.sample_rows)
        for sample, row in enumerate(as_list(block.sample_rows) if len(self._columns) else []):
            if block.updates[row]:
                self._look(block, sample, row)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for optimizer, track in self._tracks.items():
            is_enough = track.num >= min(track.count, self.num_samples)
            if track.finding is not None and is_enough and optimizer not in self.found:
                self.found.add(track.finding)
        return self.found.take()

    def shortfall(self) -> Message | None:
        if not self._has_half:
            return say("needs gradients computed in float16, has {has}", has=0)
        template = mark("needs {needed} sampled steps, has {has}")
        return too_few(template, self._num_samples, self.min_evaluated)

    def _look(self, block: RowBatch, sample: int, row: int) -> None:
        state = block.state[row, self._columns]
        columns = self._columns[(state == State.ZERO) | (state == State.FINITE)]
        if not len(columns):
            return
        step, loss = block.steps[row], float(block.steps["loss"][row])
        track = self._tracks.setdefault(int(step["optimizer"]), _UnderflowTrack(loss))
        share, is_known = shares_at_smallest(
            block.samples["exponents"][sample][columns], float(step["scale"]), self.max_below
        )
        weight = np.array([is_weight(block.parameters[at]) for at in as_list(columns)], np.bool_)
        is_gone = bool((block.state[row, columns] == State.ZERO).all())
        is_gone &= abs(loss) >= self.min_loss * abs(track.first_loss) > 0
        is_shown = is_gone or _most(share >= self.min_share, weight & is_known)
        track.count += 1
        track.num += int(is_shown)
        if not is_shown:
            return
        if track.finding is None:
            affected = (share >= self.min_share) | is_gone
            shown = Underflow(columns[affected], share[affected], is_gone, self.min_share)
            track.finding = shown.finding(self, block, row)
        track.finding = replace(track.finding, last_step=int(step["iteration"]))
        if track.num >= self.num_samples:
            self.found.add(track.finding)


def _most(shown: BoolArray, among: BoolArray) -> bool:
    """Return whether at least half of these, and at least one, show it."""
    return bool(among.any()) and 2 * int((shown & among).sum()) >= int(among.sum())
