"""SG501 clipping-saturated."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import num_unheard, numbers, site_of, statistic, unheard
from seismograd.analysis.script_names import BY_VALUE, clip_of, optimizer_kind, optimizer_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, RowBatch


@final
@dataclass
class ClippingSaturated(Rule):
    """Nearly every step is clipped by far: the limit, and not the gradient, sets the size of the
    step.

    What it finds
        A clip, by norm or by value, whose limit lies far below what gradients usually are, so that
        it binds all the time.

    Why it hurts
        Clipping is there for the rare large gradient. When it always binds, every step has the same
        length, learning rate times limit, whatever the gradient says: steps do not become smaller
        near a minimum, and under SGD the learning rate is really as many times lower as the limit
        is below the norm. Training crawls. Adam divides by the size of the gradients and hides the
        factor, until what is left of them comes near its epsilon.

    How it decides
        From the last {window} steps with a clip: at least {min_share:.0%} of them were clipped, and
        the median norm was at least {min_ratio:g} times the limit (or, where values are clipped,
        times the norm of what is left) for SGD, with updates of less than {max_update:g} of the
        weights in the median, where that was measured. For optimizers that divide by the size of
        the gradients it takes {min_adaptive_ratio:g} times, and is a note, unless what is left per
        scalar is less than {max_scalar:g}.

    False alarms
        A clip that binds often but not by far, as in reinforcement learning, is not reported, nor a
        low limit with a high learning rate. Normalising every gradient on purpose looks the same.

    What to try
        - Set the limit above the usual norm: a high percentile of what `seismograd show` lists for
          the first steps.
        - Check its unit: a limit for a mean loss does not fit a summed one, nor one for single
          values a norm.
        - With mixed precision see that `scaler.unscale_` comes before the clip.
        - If every step is to have one length, say so with an optimizer that normalises.

    References
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
        - Zhang, He, Sra, Jadbabaie (2020), Why gradient clipping accelerates training.
    """

    code: ClassVar[str] = "SG501"
    name: ClassVar[str] = "clipping-saturated"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG106", "SG108")

    window: int = 30  # steps
    min_share: float = 0.95
    min_ratio: float = 20.0  # median norm / limit
    max_update: float = 1e-3  # norm of the update / norm of the weights
    min_adaptive_ratio: float = 100.0
    max_scalar: float = 1e-6

    _tracks: dict[int, _ClippingTrack] = field(
        default_factory=dict[int, "_ClippingTrack"], init=False, repr=False
    )
    _num_rows: int = field(default=0, init=False, repr=False)
    _num_unheard: int = field(default=0, init=False, repr=False)

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._num_rows += len(block)
        self._num_unheard += num_unheard(block)
        limit = numbers(block.steps, "clip_limit")
        if np.isnan(limit).all():
            return ()
        norm, coefficient = (
            numbers(block.steps, "clip_norm"),
            numbers(block.steps, "clip_coefficient"),
        )
        by_value = np.isnan(coefficient) & np.isfinite(limit)
        if by_value.any():
            ready, applied = numbers(block.steps, "grad_norm"), numbers(block.steps, "applied_norm")
            with np.errstate(divide="ignore", invalid="ignore"):
                coefficient = np.where(
                    by_value,
                    np.where(applied < (1 - 1e-6) * ready, applied / ready, 1.0),
                    coefficient,
                )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(by_value, 1 / coefficient, norm / limit)
        rows = np.flatnonzero(
            np.isfinite(coefficient) & np.isfinite(ratios) & (limit > 0) & block.updates
        )
        columns = (
            block.steps["optimizer"],
            block.steps["iteration"],
            ratios,
            coefficient,
            block.steps["applied_norm"],
        )
        clips = zip(rows.tolist(), *(each[rows].tolist() for each in columns), strict=True)
        changed: dict[int, Finding] = {}
        for row, optimizer, iteration, ratio, factor, applied in clips:
            track = self._tracks.get(optimizer)
            if track is None:
                track = self._tracks[optimizer] = _ClippingTrack(deque(maxlen=self.window))
            clipped = factor < 1
            if track.finding is not None:
                if clipped:
                    track.finding = changed[optimizer] = replace(track.finding, last_step=iteration)
                continue
            update = self._update(block, row) if clipped and ratio >= self.min_ratio else math.nan
            track.steps.append(_ClippedStep(iteration, clipped, ratio, factor, update, applied))
            if len(track.steps) == self.window and clipped:
                track.finding = self._judge(block, row, optimizer, track, bool(by_value[row]))
                if track.finding is not None:
                    changed[optimizer] = track.finding
        return changed.values()

    def shortfall(self) -> Message | None:
        if self._num_rows - self._num_unheard < self.window <= self._num_rows:
            return unheard(self._num_unheard)
        if self._num_rows < self.window:
            return say("needs {needed} steps, has {has}", needed=self.window, has=self._num_rows)
        return None

    def _update(self, block: RowBatch, row: int) -> float:
        """The median of the update ratios of a row, NaN where none was measured."""
        if "update_ratio" not in block.values:
            return math.nan
        update = statistic(block, "update_ratio")[row]
        known = update[np.isfinite(update)]
        return float(np.median(known)) if len(known) else math.nan

    def _judge(
        self, block: RowBatch, row: int, optimizer: int, track: _ClippingTrack, by_value: bool
    ) -> Finding | None:
        steps = list(track.steps)
        share = sum(step.clipped for step in steps) / len(steps)
        ratio = _median_of([step.ratio for step in steps])
        if share < self.min_share or ratio < min(self.min_ratio, self.min_adaptive_ratio):
            return None
        kind = optimizer_kind(block, optimizer)
        severity = self._severity(block, steps, ratio, kind.upper().endswith("SGD"))
        if severity is None:
            return None
        iteration, lr = int(block.steps["iteration"][row]), float(block.steps["lr"][row])
        norm, limit = float(block.steps["clip_norm"][row]), float(block.steps["clip_limit"][row])
        values: dict[str, str | int | float] = {
            "optimizer": optimizer_name(block, optimizer),
            "percent": f"{share:.0%}",
            "ratio": f"{ratio:.3g}",
            "limit": limit,
            "lr": lr,
            "effective": f"{lr * float(np.median([step.coefficient for step in steps])):.2g}",
        }
        if by_value:
            cause = say(
                "in {percent} of the steps of {optimizer} values are clipped at {limit:g}, and "
                "the norm of the gradient is {ratio} times "
                "that of what is left in the median: nearly all values are at the limit",
                **values,
            )
        elif kind.upper().endswith("SGD"):
            cause = say(
                "{percent} of the steps of {optimizer} are clipped, and the norm is {ratio} times "
                "the limit of {limit:g} in the median: "
                "the learning rate of {lr:g} is really one of {effective}",
                **values,
            )
        else:
            cause = say(
                "{percent} of the steps of {optimizer} are clipped, and the norm is {ratio} times "
                "the limit of {limit:g} in the median: "
                "the limit, and not the gradient, sets what it is given",
                **values,
            )
        usual = float(f"{1.5 * ratio * limit:.1g}")
        clipped_norm = Evidence("clip_norm", "", iteration, norm, limit)
        if by_value:
            applied, ready = (
                float(block.steps[name][row]) for name in ("applied_norm", "grad_norm")
            )
            clipped_norm = Evidence("applied_norm", "", iteration, applied, ready)
        return Finding(
            code=self.code,
            name=self.name,
            severity=severity,
            optimizer=optimizer,
            first_step=next(step.iteration for step in steps if step.clipped),
            last_step=iteration,
            parameters=(),
            evidence=(
                Evidence("clipped_share", "", iteration, share, self.min_share),
                clipped_norm,
            ),
            cause=cause,
            advice=say(
                "set the limit above the usual norm, so that only unusual gradients are clipped"
            ),
            where=site_of(block, EventKind.CLIP, iteration),
            excerpt=clip_of(BY_VALUE if by_value else 0, usual),
        )

    def _severity(
        self, block: RowBatch, steps: list[_ClippedStep], ratio: float, is_sgd: bool
    ) -> str | None:
        """How bad it is for this optimizer; `None`: not at all."""
        if is_sgd:
            known = [step.update for step in steps if not math.isnan(step.update)]
            slow = not known or float(np.median(known)) < self.max_update
            return self.severity if ratio >= self.min_ratio and slow else None
        if ratio < self.min_adaptive_ratio:
            return None
        numel = sum(
            parameter.numel for parameter in block.parameters if parameter.optimizer is not None
        )
        scalar = float(np.median([step.applied for step in steps])) / max(numel, 1) ** 0.5
        return self.severity if scalar < self.max_scalar else "info"


def _median_of(values: list[float]) -> float:
    """The median of few finite numbers, which NumPy takes ten times as long for."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True, slots=True)
class _ClippedStep:
    """A step with a clip; `update` is NaN where it was not measured or does not matter."""

    iteration: int
    clipped: bool
    ratio: float  # norm / limit
    coefficient: float
    update: float
    applied: float


@dataclass(slots=True)
class _ClippingTrack:
    """The last steps of one optimizer."""

    steps: deque[_ClippedStep]
    finding: Finding | None = None
