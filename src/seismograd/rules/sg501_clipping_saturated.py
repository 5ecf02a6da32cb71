"""SG501 clipping-saturated."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    numbers,
    site_of,
    statistic,
    weight_norms,
)
from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.medians import median
from seismograd.analysis.script_names import BY_VALUE, clip_of, optimizer_kind, optimizer_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_counter import StepCounter
from seismograd.diagnosis.rule import Rule, memory
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Fact, Finding, RowBatch


@final
@dataclass
class ClippingSaturated(Rule):
    """Nearly every step is clipped by a large factor: the limit, and not the gradient, sets the
    size of the step.

    What it finds
        Clipping by norm or by value with a limit far below the usual size of the gradients, so that
        nearly every step is clipped.

    Why it hurts
        Clipping is meant for the rare large gradient. If every step is clipped, every step has the
        same length, learning rate times limit, whatever the gradient is: steps do not become
        smaller near a minimum, and with SGD the effective learning rate is lower by the same factor
        by which the limit is below the norm. Training becomes very slow. Adam divides by the size
        of the gradients and hides the factor, until the clipped gradients come close to its
        epsilon, or weight decay that is added to them is larger than they are: then the weights
        only shrink.

    How it decides
        The rule looks at the last {window} steps with a clip: at least {min_share:.0%} of them were
        clipped, and, for SGD, the median norm was at least {min_ratio:g} times the limit (with
        clipping by value: times the norm after clipping) while the median update, where it was
        measured, was less than {max_update:g} of the weights. For optimizers that divide by the
        size of the gradients, the ratio must be at least {min_adaptive_ratio:g}, and the finding is
        info, unless less than {max_scalar:g} per scalar is left after clipping. Whatever the
        updates, it is a warning where the weight decay that is added to the gradient is at least
        {min_pull:g} times the norm after clipping.

    False alarms
        Clipping that happens often but only by a small factor, as in reinforcement learning, is not
        reported, nor is a low limit with a high learning rate. To this rule, normalising every
        gradient on purpose looks the same as clipping.

    What to try
        - Set the limit above the usual norm: use a high percentile of the norms that `seismograd
          show` lists for the first steps.
        - Check what the limit refers to: a limit for a mean loss is wrong for a summed loss, and a
          limit for single values is wrong for a norm.
        - With mixed precision, make sure that `scaler.unscale_` comes before the clip.
        - If every step should have the same length, use an optimizer that normalises, so that the
          intention is clear.

    References
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
        - Zhang, He, Sra, Jadbabaie (2020), Why gradient clipping accelerates training.
    """

    code: ClassVar[str] = "SG501"
    name: ClassVar[str] = "clipping-saturated"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG106", "SG108")
    absorbs_as_usual: ClassVar[tuple[str, ...]] = ("SG107", "SG111")

    window: int = 30  # steps
    min_share: float = 0.95
    min_ratio: float = 20.0  # median norm / limit
    max_update: float = 1e-3  # norm of the update / norm of the weights
    min_adaptive_ratio: float = 100.0
    max_scalar: float = 1e-6
    min_pull: float = 1.0  # weight decay / norm after the clip

    # the last of each optimizer
    _steps: dict[int, deque[_ClippedStep]] = field(
        default_factory=dict[int, "deque[_ClippedStep]"], init=False, repr=False
    )
    _settings: KnownSettings = field(default_factory=KnownSettings, init=False, repr=False)
    _counter: StepCounter = memory(StepCounter)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._settings.learn(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._counter.add(block)
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
        for row, optimizer, iteration, ratio, factor, applied in clips:
            clipped = factor < 1
            if optimizer in self.found:
                if clipped:
                    self.found.extend(iteration, optimizer)
                continue
            steps = self._steps.get(optimizer)
            if steps is None:
                steps = self._steps[optimizer] = deque(maxlen=self.window)
            update = self._update(block, row) if clipped and ratio >= self.min_ratio else math.nan
            pull = self._pull(block, row, optimizer) / applied if clipped and applied else math.nan
            steps.append(_ClippedStep(iteration, clipped, ratio, factor, update, applied, pull))
            if len(steps) == self.window and clipped:
                finding = self._judge(block, row, optimizer, list(steps), bool(by_value[row]))
                if finding is not None:
                    self.found.add(finding)
        return self.found.take()

    def shortfall(self) -> Message | None:
        return self._counter.shortfall(self.window)

    def _update(self, block: RowBatch, row: int) -> float:
        """Return the median of the update ratios of a row, NaN where none was measured."""
        if "update_ratio" not in block.values:
            return math.nan
        update = statistic(block, "update_ratio")[row]
        return median(update)

    def _pull(self, block: RowBatch, row: int, optimizer: int) -> float:
        """Return the norm of what weight decay adds to the gradient of this optimizer, NaN where it
        is not known; decoupled decay adds nothing.
        """
        norms = weight_norms(block, row)
        if norms is None:
            return math.nan
        square, iteration = 0.0, int(block.steps["iteration"][row])
        for column, parameter in enumerate(block.parameters):
            fact = None
            if parameter.optimizer == optimizer:
                fact = self._settings.at(iteration, parameter)
            if fact is None or fact.number("decoupled") or math.isnan(norms[column]):
                continue
            decay = fact.number("weight_decay")
            square += 0.0 if math.isnan(decay) else float(decay * norms[column]) ** 2
        return square**0.5

    def _judge(
        self, block: RowBatch, row: int, optimizer: int, steps: list[_ClippedStep], by_value: bool
    ) -> Finding | None:
        share = sum(step.clipped for step in steps) / len(steps)
        ratio = median([step.ratio for step in steps])
        if share < self.min_share or ratio < min(self.min_ratio, self.min_adaptive_ratio):
            return None
        kind = optimizer_kind(block, optimizer)
        # a decay that wins makes the weights small, and with them itself
        pull = max((step.pull for step in steps if math.isfinite(step.pull)), default=math.nan)
        severity = self._severity(block, steps, ratio, kind.upper().endswith("SGD"), pull)
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
            "pull": f"{pull:.2g}",
            "effective": f"{lr * median([step.coefficient for step in steps]):.2g}",
        }
        if by_value:
            cause = say(
                "in {percent} of the steps of {optimizer}, values are clipped at {limit:g}, and "
                "the median norm before clipping is {ratio} times the norm after it: nearly all "
                "values are at the limit",
                **values,
            )
        elif pull >= self.min_pull:
            cause = say(
                "{percent} of the steps of {optimizer} are clipped, and the median norm is {ratio} "
                "times the limit of {limit:g}: what weight_decay adds after that is up to "
                "{pull} times the gradient, so the weights follow the decay",
                **values,
            )
        elif kind.upper().endswith("SGD"):
            cause = say(
                "{percent} of the steps of {optimizer} are clipped, and the median norm is {ratio} "
                "times the limit of {limit:g}: the learning rate of {lr:g} is effectively "
                "{effective}",
                **values,
            )
        else:
            cause = say(
                "{percent} of the steps of {optimizer} are clipped, and the median norm is {ratio} "
                "times the limit of {limit:g}: the limit, and not the gradient, sets the size of "
                "what the optimizer gets",
                **values,
            )
        usual = float(f"{1.5 * ratio * limit:.1g}")
        clipped_norm = Evidence("clip_norm", "", iteration, norm, limit)
        if by_value:
            applied, ready = (
                float(block.steps[name][row]) for name in ("applied_norm", "grad_norm")
            )
            clipped_norm = Evidence("applied_norm", "", iteration, applied, ready)
        return self.finding(
            severity=severity,
            optimizer=optimizer,
            first_step=next(step.iteration for step in steps if step.clipped),
            last_step=iteration,
            evidence=(
                Evidence("clipped_share", "", iteration, share, self.min_share),
                clipped_norm,
                *(
                    (Evidence("decay_ratio", "", iteration, pull, self.min_pull),)
                    if pull >= self.min_pull
                    else ()
                ),
            ),
            cause=cause,
            advice=say(
                "set the limit above the usual norm, so that only unusual gradients are clipped"
            ),
            where=site_of(block, EventKind.CLIP, iteration),
            excerpt=clip_of(block, optimizer, BY_VALUE if by_value else 0, usual),
        )

    def _severity(
        self,
        block: RowBatch,
        steps: list[_ClippedStep],
        ratio: float,
        is_sgd: bool,
        pull: float,
    ) -> str | None:
        """Return the severity for this optimizer; `None`: no finding."""
        if pull >= self.min_pull and ratio >= (
            self.min_ratio if is_sgd else self.min_adaptive_ratio
        ):
            return self.severity
        if is_sgd:
            known = [step.update for step in steps if not math.isnan(step.update)]
            slow = not known or median(known) < self.max_update
            return self.severity if ratio >= self.min_ratio and slow else None
        if ratio < self.min_adaptive_ratio:
            return None
        numel = sum(
            parameter.numel for parameter in block.parameters if parameter.optimizer is not None
        )
        scalar = median([step.applied for step in steps]) / max(numel, 1) ** 0.5
        return self.severity if scalar < self.max_scalar else "info"


@dataclass(frozen=True, slots=True)
class _ClippedStep:
    """A step with a clip; `update` and `pull` are NaN where they were not measured or do not
    matter.
    """

    iteration: int
    clipped: bool
    ratio: float  # norm / limit
    coefficient: float
    update: float
    applied: float
    pull: float  # weight decay / applied
