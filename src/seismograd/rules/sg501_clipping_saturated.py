"""SG501 clipping-saturated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.block_rows import site_of, statistic
from seismograd.analysis.clipped_steps import ClippedStep, RecentClips, clipped_steps
from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.medians import median
from seismograd.analysis.script_names import BY_VALUE, clip_of, optimizer_kind, optimizer_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_counter import StepCounter
from seismograd.diagnosis.rule import Rule, known, memory
from seismograd.i18n import Message, Values, say
from seismograd.schema import EventKind, Evidence, Fact, FactKind, Finding

NORMALISED = (
    "mean, deviation = target.mean(), target.std()  # of the training data\n"
    "target = (target - mean) / deviation"
)


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
        {min_pull:g} times the norm after clipping. If the loss is a sum of terms and one of them
        was at least {min_times:g} times as large as the next in each of the backward passes that
        were looked at, {num_looks} or more, the finding says so: what remains of the others after
        the clip is inferred.

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
    absorbs: ClassVar[tuple[str, ...]] = ("SG106", "SG108")
    absorbs_as_usual: ClassVar[tuple[str, ...]] = ("SG107", "SG111")

    window: int = 30  # steps
    min_share: float = 0.95
    min_ratio: float = 20.0  # median norm / limit
    max_update: float = 1e-3  # norm of the update / norm of the weights
    min_adaptive_ratio: float = 100.0
    max_scalar: float = 1e-6
    min_pull: float = 1.0  # weight decay / norm after the clip
    min_times: float = 1e3  # of one term of the loss against the next
    num_looks: int = 3

    _recent: dict[int, RecentClips] = memory(dict[int, RecentClips])
    _terms: list[Fact] = memory(list[Fact])
    _settings: KnownSettings = memory(KnownSettings)
    _counter: StepCounter = memory(StepCounter)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._settings.learn(fact)
        if fact.kind == FactKind.TERM_SIZES:
            self._terms.append(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._counter.add(block)
        for step in clipped_steps(block):
            if step.optimizer not in self.found:
                self._look(block, step)
            elif step.is_clipped:
                self.found.extend(step.iteration, step.optimizer)
        return self.found.take()

    def shortfall(self) -> Message | None:
        return self._counter.shortfall(self.window)

    def _look(self, block: SharedBlock, step: ClippedStep) -> None:
        update = pull = math.nan
        if step.is_clipped and step.ratio >= self.min_ratio and "update_ratio" in block.values:
            update = median(statistic(block, "update_ratio")[step.row])
        if step.is_clipped and step.applied:
            pull = self._settings.decay_norm(block, step.row, step.optimizer) / step.applied
        recent = self._recent.setdefault(step.optimizer, RecentClips(self.window))
        recent.add(step, update, pull)
        if len(recent.steps) == self.window and step.is_clipped and recent.share >= self.min_share:
            is_sgd = optimizer_kind(block, step.optimizer).upper().endswith("SGD")
            severity = self._severity(block, recent, is_sgd)
            if severity is not None:
                self.found.add(self._finding(block, recent, is_sgd, severity))

    def _severity(self, block: SharedBlock, recent: RecentClips, is_sgd: bool) -> str | None:
        """Return the severity for this optimizer; `None`: no finding."""
        if recent.ratio < (self.min_ratio if is_sgd else self.min_adaptive_ratio):
            return None
        if recent.pull >= self.min_pull:
            return self.severity
        if is_sgd:
            return None if recent.update >= self.max_update else self.severity
        numel = sum(each.numel for each in block.parameters if each.optimizer is not None)
        return self.severity if recent.applied / max(numel, 1) ** 0.5 < self.max_scalar else "info"

    def _dominant(self, step: ClippedStep) -> Fact | None:
        """Return what shows that one term of the loss is many times any other, where there is only
        one line with a loss of several terms.
        """
        known = [fact for fact in self._terms if fact.iteration <= step.iteration]
        if len(known) < self.num_looks or len({fact.where for fact in known}) > 1:
            return None
        is_one = all(
            fact.number("largest") >= self.min_times * fact.number("next") > 0 for fact in known
        )
        return known[-1] if is_one else None

    def _finding(
        self, block: SharedBlock, recent: RecentClips, is_sgd: bool, severity: str
    ) -> Finding:
        step, ratio, pull = recent.steps[-1], recent.ratio, recent.pull
        row = block.steps[step.row]
        lr, limit = float(row["lr"]), float(row["clip_limit"])
        values: Values = {
            "optimizer": optimizer_name(block, step.optimizer),
            "percent": f"{recent.share:.0%}",
            "ratio": f"{ratio:.3g}",
            "limit": limit,
            "lr": lr,
            "pull": f"{pull:.2g}",
            "effective": f"{lr * recent.coefficient:.2g}",
        }
        dominant = None if step.by_value or pull >= self.min_pull else self._dominant(step)
        if step.by_value:
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
        elif dominant is not None:
            cause = say(
                "{percent} of the steps of {optimizer} are clipped, and the median norm is {ratio} "
                "times the limit of {limit:g}: of the {terms} terms of the loss at {line}, {large} "
                "is {largest:.3g} and {small} is {following:.3g}, so that {large} probably makes "
                "the norm, and after the clip hardly anything is left of the gradient of {small}",
                **values,
                **_values_of(dominant),
            )
        elif is_sgd:
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
        names = ("applied_norm", "grad_norm") if step.by_value else ("clip_norm", "clip_limit")
        clipped = (float(row[name]) for name in names)
        decay = pull if pull >= self.min_pull else math.nan
        usual = float(f"{1.5 * ratio * limit:.1g}")
        return self.finding(
            cause,
            say("set the limit above the usual norm, so that only unusual gradients are clipped")
            if dominant is None
            else say(
                "bring the terms to one unit before anything else: normalise the targets of "
                "{large} (mean 0, deviation 1), or divide it; then choose the limit anew",
                **_values_of(dominant),
            ),
            clip_of(block, step.optimizer, BY_VALUE if step.by_value else 0, usual)
            if dominant is None
            else NORMALISED,
            severity=severity,
            optimizer=step.optimizer,
            first_step=next(each.iteration for each in recent.steps if each.is_clipped),
            last_step=step.iteration,
            evidence=(
                Evidence("clipped_share", "", step.iteration, recent.share, self.min_share),
                Evidence(names[0], "", step.iteration, *clipped),
                *known(Evidence("decay_ratio", "", step.iteration, decay, self.min_pull)),
            ),
            where=site_of(block, EventKind.CLIP, step.iteration),
        )


def _values_of(fact: Fact) -> Values:
    return {
        "terms": int(fact.number("terms")),
        "line": fact.where or "?",
        "large": fact.text("of_largest"),
        "small": fact.text("of_next"),
        "largest": fact.number("largest"),
        "following": fact.number("next"),
    }
