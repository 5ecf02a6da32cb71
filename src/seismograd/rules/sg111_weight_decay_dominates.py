"""SG111 weight-decay-dominates."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    by_optimizer,
    site_of,
    statistic,
    updates,
    weight_norms,
)
from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.medians import median
from seismograd.analysis.parameter_index import is_weight
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Fact, FactKind, Finding, FloatArray, RowBatch

NUM_LOSSES = 10


@final
@dataclass
class WeightDecayDominates(Rule):
    """Weight decay pulls harder than the gradient: the weights shrink towards zero, and the loss
    stays where it is.

    What it finds
        A `weight_decay` that outweighs what is learned: weights that lose half of their size while
        the loss is no better than it was at the start, or goes back to that.

    Why it hurts
        The network ends up giving the same output for every input. It looks like a learning rate
        that is too high or too low, and no other learning rate helps, for it multiplies both.

    How it decides
        At the sampled steps, for each weight of two or more dimensions: the decay times the norm of
        the weight over the norm of its gradient, or, where the decay is decoupled from the
        gradient, the learning rate times the decay over the relative size of the update. Their
        median is at least {min_ratio:g} in {in_a_row} sampled steps in a row, all weights together
        have shrunk to at most {max_left:.0%} of their first norm, and the loss is at least
        {min_loss:.0%} of the first one, or {risen:g} times the lowest level that it had.

    False alarms
        A task where nothing can be learned, with a decay that would be too strong for another.

    What to try
        - Set `weight_decay` to 0 and see whether the loss falls; then begin at 5e-4 for SGD, or
          0.01 for AdamW.
        - The decay acts through the learning rate: with a rate of 0.1 and momentum 0.9 a decay of
          0.1 takes a tenth of each weight in every step.
        - Leave biases and the weights of normalisation layers out of it, in a group of their own.

    References
        - Krogh, Hertz (1991), A simple weight decay can improve generalization.
        - Loshchilov, Hutter (2019), Decoupled weight decay regularization.
    """

    code: ClassVar[str] = "SG111"
    name: ClassVar[str] = "weight-decay-dominates"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm", "weight_norm")
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.GROUP_SETTINGS,)
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG101",
        "SG103",
        "SG104",
        "SG106",
        "SG107",
        "SG108",
        "SG109",
    )

    min_ratio: float = 0.5
    in_a_row: int = 2
    max_left: float = 0.5
    min_loss: float = 0.9
    risen: float = 1.5
    min_evaluated: int = 10  # steps

    _settings: KnownSettings = field(default_factory=KnownSettings, init=False, repr=False)
    _num_steps: int = field(default=0, init=False, repr=False)
    _tracks: dict[int, _DecayTrack] = field(
        default_factory=dict[int, "_DecayTrack"], init=False, repr=False
    )

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._settings.learn(fact)
        return ()

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        for optimizer, rows in by_optimizer(block, updates(block)):
            track = self._tracks.setdefault(optimizer, _DecayTrack())
            columns = [
                column
                for column, each in enumerate(block.parameters)
                if each.optimizer == optimizer and is_weight(each)
            ]
            for row in as_list(rows):
                self._num_steps += 1
                track.add(float(block.steps["loss"][row]))
                weights = weight_norms(block, row)
                if weights is not None and columns:
                    yield from self._look(track, block, row, columns, weights[columns], optimizer)

    def shortfall(self) -> Message | None:
        if self._num_steps < self.min_evaluated:
            return say(
                "needs {needed} steps with an update, has {has}",
                needed=self.min_evaluated,
                has=self._num_steps,
            )
        return None

    def _look(
        self,
        track: _DecayTrack,
        block: RowBatch,
        row: int,
        columns: list[int],
        weights: FloatArray,
        optimizer: int,
    ) -> Iterator[Finding]:
        step = int(block.steps["iteration"][row])
        whole = float(np.sqrt(np.nansum(weights**2)))
        track.first_norm = whole if math.isnan(track.first_norm) else track.first_norm
        ratios, decay = self._ratios(block, row, columns, weights, step)
        ratio = median(ratios)
        dominated = ratio >= self.min_ratio
        if dominated:
            track.since = step if track.num == 0 else track.since
            track.num += 1
        else:
            track.num = 0
        if track.finding is not None:
            if dominated:
                track.finding = replace(track.finding, last_step=step)
                yield track.finding
            return
        if (
            track.num < self.in_a_row
            or not whole <= self.max_left * track.first_norm
            or not track.stays(self.min_loss, self.risen)
        ):
            return
        shown = columns[int(np.nanargmax(np.where(np.isfinite(ratios), ratios, -1)))]
        values: dict[str, str | int | float] = {
            "decay": decay,
            "ratio": ratio,
            "step": step,
            "before": track.first_norm,
            "norm": whole,
            "loss": median(np.array(track.recent)),
            "first_loss": median(np.array(track.first)),
        }
        track.finding = Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=optimizer,
            first_step=0,
            last_step=step,
            parameters=tuple(block.parameters[column].name for column in columns),
            evidence=(
                Evidence("decay_ratio", block.parameters[shown].name, step, ratio, self.min_ratio),
                Evidence("weight_norm", "", step, whole, self.max_left * track.first_norm),
            ),
            cause=say(
                "weight_decay={decay:g} is too strong: at step {step} it pulls {ratio:.2g} times "
                "as hard as the gradient, the weights have shrunk from a norm of {before:.3g} to "
                "{norm:.3g}, and the loss is {loss:.3g}, where it began at {first_loss:.3g}",
                **values,
            ),
            advice=say(
                "divide weight_decay by a hundred, or set it to 0 to see whether the loss falls; "
                "the learning rate is not the cause: it multiplies both"
            ),
            where=site_of(block, EventKind.STEP, step, optimizer),
            excerpt="print([group['weight_decay'] for group in optimizer.param_groups])",
        )
        yield track.finding

    def _ratios(
        self,
        block: RowBatch,
        row: int,
        columns: list[int],
        weights: FloatArray,
        step: int,
    ) -> tuple[FloatArray, float]:
        """What the decay of each weight is, over what the gradient does; and the largest decay."""
        ratios, largest = np.full(len(columns), np.nan), 0.0
        norms = statistic(block, "grad_norm")[row, columns]
        moves = (
            statistic(block, "update_ratio")[row, columns]
            if "update_ratio" in block.values
            else np.full(len(columns), np.nan)
        )
        lr = float(block.steps["lr"][row])
        for position, column in enumerate(columns):
            fact = self._settings.at(step, block.parameters[column])
            decay = math.nan if fact is None else fact.number("weight_decay")
            if fact is None or math.isnan(decay) or not weights[position] > 0:
                continue
            largest = max(largest, decay)
            above, below = (
                (lr * decay, moves[position])
                if fact.number("decoupled")
                else (decay * weights[position], norms[position])
            )
            if not math.isnan(below):
                ratios[position] = above / max(below, 1e-30) if above else 0.0
        return ratios, largest


@dataclass(slots=True)
class _DecayTrack:
    """The state of one optimizer."""

    first: list[float] = field(default_factory=list[float])
    recent: deque[float] = field(default_factory=lambda: deque[float](maxlen=NUM_LOSSES))
    lowest: float = math.inf
    first_norm: float = math.nan
    num: int = 0
    since: int = -1
    finding: Finding | None = None

    def add(self, loss: float) -> None:
        """The loss of another step."""
        if not math.isfinite(loss):
            return
        if len(self.first) < NUM_LOSSES // 2:
            self.first.append(loss)
        self.recent.append(loss)
        if len(self.recent) == NUM_LOSSES:
            self.lowest = min(self.lowest, median(np.array(self.recent)))

    def stays(self, share: float, risen: float) -> bool:
        """Whether the loss is where it began, or has gone back up."""
        if len(self.recent) < NUM_LOSSES // 2 or min(self.first) <= 0:
            return False
        now = median(np.array(self.recent))
        return now >= share * median(np.array(self.first)) or now >= risen * self.lowest > 0
