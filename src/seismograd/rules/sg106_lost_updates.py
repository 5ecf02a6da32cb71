"""SG106 lost-updates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.i18n import Message, say
from seismograd.rules.rows import as_list
from seismograd.rules.rule import Rule
from seismograd.rules.shared import Readers, SharedBlock
from seismograd.rules.ten import EPSILON, Ten
from seismograd.rules.tens import Tens
from seismograd.schema import Evidence, Finding, FloatArray, IntArray


@final
@dataclass
class LostUpdates(Rule):
    """Updates are so small against the weights that rounding takes them back: the weights do not move.

    What it finds
        Weights kept in bfloat16 or float16 whose update mostly disappears in the last digit, although gradient and learning rate are fine.

    Why it hurts
        bfloat16 has eight bits for the digits: from 1.0 the next number is 1.0078, and whatever adds less than half of that adds nothing.
        An update of a thousandth of the weight, which is a usual one, is lost in most scalars. The loss stays where it is, or falls much
        more slowly than it would, and nothing in the gradient tells.

    How it decides
        Of the scalars that had a gradient it takes the share that an update left exactly as it was, the median over the weights of two
        or more dimensions that are kept in sixteen bits, in groups of ten steps. When that is at least {min_unmoved:.0%} in each of the
        first {num_groups:g} groups (in a run that ends earlier, in all), the learning rate is neither zero nor on its way up, and the loss
        has not fallen by {min_fall:.0%}, the updates are lost.

    False alarms
        An optimizer that rounds at random on purpose moves few scalars in each step, and the right ones in the mean.

    What to try
        - Keep the weights in float32 and compute in sixteen bits: `torch.autocast("cuda", dtype=torch.bfloat16)` around the forward pass,
          without `model.bfloat16()`.
        - Or let the optimizer keep a float32 copy of the weights, or round at random (stochastic rounding).
        - A larger learning rate moves the weights, and is seldom what the model needs.

    References
        - Micikevicius et al. (2018), Mixed precision training: why a master copy of the weights is kept.
        - Zamirai et al. (2020), Revisiting BFloat16 training.
    """

    code: ClassVar[str] = "SG106"
    name: ClassVar[str] = "lost-updates"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("unmoved",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG108",)

    min_unmoved: float = 0.9
    num_groups: int = 2
    min_fall: float = 0.2  # of the first loss
    min_evaluated: int = 10  # steps

    _tens: Tens = field(default_factory=Tens, init=False, repr=False)
    _tracks: dict[int, _Track] = field(default_factory=dict[int, "_Track"], init=False, repr=False)

    def read_with(self, readers: Readers) -> None:
        self._tens = readers.tens

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        for ten in block.read_by(self._tens):
            yield from self._judge(ten, self.num_groups)

    def finish(self) -> Iterator[Finding]:
        for ten in self._tens.rest(self.min_evaluated):
            yield from self._judge(ten, self.num_groups)
        for track in self._tracks.values():
            if track.finding is None and track.ten is not None and track.ten.number + 1 < self.num_groups:
                yield from self._decide(track, track.ten, track.ten.number + 1)

    def shortfall(self) -> Message | None:
        steps = self._tens.num_steps
        if steps < self.min_evaluated:
            return say("needs {needed} steps with an update, has {has}", needed=self.min_evaluated, has=steps)
        return None

    def _judge(self, ten: Ten, needed: int) -> Iterator[Finding]:
        track = self._tracks.get(ten.optimizer)
        if track is None:
            track = self._tracks[ten.optimizer] = _Track(ten.first_step, ten.loss_level, ten.first_lr)
        track.ten, track.lost = ten, False
        short = ten.batch.weights.in_few_digits
        if not len(short):
            return
        unmoved = ten.batch.unmoved_shares[ten.index, short]
        known = np.isfinite(unmoved)
        track.lost = bool(known.any()) and float(np.median(unmoved[known])) >= self.min_unmoved
        track.num = track.num + 1 if track.lost and track.num == ten.number else track.num
        if track.lost:
            track.places, track.unmoved = short[known], unmoved[known]
        if track.finding is None:
            yield from self._decide(track, ten, needed)
        elif track.lost:
            track.finding = replace(track.finding, last_step=ten.last_step)
            yield track.finding

    def _decide(self, track: _Track, ten: Ten, needed: int) -> Iterator[Finding]:
        fallen = track.first_loss - ten.loss_level > self.min_fall * abs(track.first_loss)
        lr = ten.last_lr
        if track.lost and track.num >= needed and not fallen and 0 < lr <= 1.001 * track.first_lr:
            track.finding = self._finding(track, ten)
            yield track.finding

    def _finding(self, track: _Track, ten: Ten) -> Finding:
        middle = int(np.argsort(track.unmoved)[len(track.unmoved) // 2])
        column = int(track.places[middle])
        row = int(np.flatnonzero(np.isfinite(ten.unmoved[:, column]))[0])
        weight, step, share = ten.weights[column], int(ten.steps[row]), float(ten.unmoved[row, column])
        evidence = [Evidence("unmoved", weight.name, step, share, self.min_unmoved)]
        if not math.isnan(ten.loss_level):
            evidence.append(Evidence("loss", "", ten.last_step, ten.loss_level, track.first_loss))
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=ten.optimizer,
            first_step=track.first_step,
            last_step=ten.last_step,
            parameters=tuple(ten.weights[place].name for place in as_list(track.places[track.unmoved >= self.min_unmoved])),
            evidence=tuple(evidence),
            cause=say(
                "the update rounds away: at step {step} it left {percent:.3g} % of the scalars of {parameter} exactly as they were, "
                "because {dtype} keeps no change of less than {epsilon:.2g} of a number",
                step=step,
                percent=100 * share,
                parameter=weight.name,
                dtype=weight.dtype,
                epsilon=EPSILON[weight.dtype],
            ),
            advice=say(
                "keep the weights in float32 and let autocast compute in {dtype}: leave out model.to(torch.{dtype})", dtype=weight.dtype
            ),
            where=ten.where,
            excerpt=f'model.float()\nwith torch.autocast("cuda", dtype=torch.{weight.dtype}):\n    loss = criterion(model(x), y)',
        )


@dataclass(slots=True)
class _Track:
    """What is remembered of one optimizer."""

    first_step: int
    first_loss: float  # median of its first group
    first_lr: float
    num: int = 0  # groups from the first on without exception
    lost: bool = False  # in the last group
    ten: Ten | None = None  # the last
    places: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # of the weights in the last group that was lost
    unmoved: FloatArray = field(default_factory=lambda: np.zeros(0))
    finding: Finding | None = None
