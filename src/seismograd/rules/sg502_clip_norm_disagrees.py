"""SG502 clip-norm-disagrees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers, runs, site_of, statistic
from seismograd.analysis.norm_clips import NormClip, norm_clips
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    AnyArray,
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
    FloatArray,
    RankFlag,
    RowBatch,
    State,
)

EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_


@final
@dataclass
class ClipNormDisagrees(Rule):
    """The norm by which gradients are clipped is not the norm of the gradients.

    What it finds
        Clips whose total norm is that of a part: of the experts, shards or pipeline stage that one
        process holds, of experts whose norms were averaged instead of added in squares, of
        gradients that were not reduced yet, or of some parameters of the optimizer only. Also clips
        in which different processes use different norms.

    Why it hurts
        All gradients must be multiplied by the same factor: by one factor here and another there,
        the update no longer points where the gradient does, and replicas drift apart. A norm that
        is too small lets through what the limit should have stopped.

    How it decides
        With several processes, the factor that follows from the norm of the clip on each of them is
        compared with the one that follows from the whole norm, which is measured independently. It
        is reported if one of them differs by more than {tolerance:.0%} in {num_steps:g} steps, and
        in {min_share:.0%} of the steps in which any of them clips. A reduction after the clip is
        reported when it is seen. Parameters that the clip leaves out are reported if the
        norm of what it leaves out is above the limit in {min_missing_steps:g} steps: a warning if
        the clip covers at least {min_covered:.0%} of the parameters, otherwise info.

    False alarms
        Processes that train different models side by side, each with a clip of its own. A clip that
        is meant for a part of the model, such as a recurrent layer, is reported as info at most, if
        the part is small.

    What to try
        - Add the squares of the norms of experts, shards and stages over the processes that hold
          different ones, count what is replicated once, and pass the root to
          `torch.nn.utils.clip_grads_with_norm_` on every process.
        - Clip after the last reduction and after `scaler.unscale_`.
        - Clip the parameters that the optimizer has, not those of one of the modules.

    References
        - PyTorch documentation, `torch.nn.utils.clip_grads_with_norm_`.
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
    """

    code: ClassVar[str] = "SG502"
    name: ClassVar[str] = "clip-norm-disagrees"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG701",)

    tolerance: float = 0.05
    num_steps: int = 3
    min_share: float = 0.5
    min_missing_steps: int = 10
    min_covered: float = 0.5  # of the optimizer's parameters

    _num_clips: int = field(default=0, init=False, repr=False)
    _num_binding: int = field(default=0, init=False, repr=False)
    _num_wrong: int = field(default=0, init=False, repr=False)
    _first_wrong: int = field(default=-1, init=False, repr=False)
    _worst: _Clip | None = field(default=None, init=False, repr=False)
    _is_own: bool = field(default=True, init=False, repr=False)  # rank 0's norm, in all of them
    _missing: dict[int, _Missing] = field(
        default_factory=dict[int, "_Missing"], init=False, repr=False
    )
    _left_out: list[Fact] = field(default_factory=list[Fact], init=False, repr=False)
    _ownership: list[Fact] = field(default_factory=list[Fact], init=False, repr=False)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.CLIP_LEAVES_OUT:
            self._left_out.append(fact)
        elif fact.kind == FactKind.OWNERSHIP:
            self._ownership.append(fact)
        elif fact.kind == FactKind.REDUCED_AFTER_CLIP:
            self.found.add_or_extend(self._reduced_late(fact))
        return self.found.take()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        ranks = {
            iteration: block.ranks[position]
            for iteration, position in runs(integers(block.ranks, "iteration"))
        }
        clips = {clip.row: clip for clip in norm_clips(block)}
        clipped = np.isfinite(numbers(block.steps, "clip_coefficient"))
        factors = numbers(block.ranks, "clip_coefficient")
        if not clips and not np.isfinite(factors).any():
            return self.found.take()
        for row in as_list(np.flatnonzero(block.updates)):
            iteration = int(block.steps["iteration"][row])
            processes = ranks.get(iteration, block.ranks[:0])
            reported = (integers(processes, "flags") & int(RankFlag.REPORTED)) != 0
            processes = processes[reported]
            if row in clips:
                self._look(block, clips[row], processes)
            elif not clipped[row] and len(processes) > 1:
                self._compare(block, row, iteration, processes, math.nan)
        return self.found.take()

    def shortfall(self) -> Message | None:
        if not self._num_clips:
            return say("needs {needed} steps with a clip by norm, has {has}", needed=1, has=0)
        return None

    def _look(self, block: SharedBlock, clip: NormClip, processes: AnyArray) -> None:
        """Judge a row with a clip by norm."""
        self._num_clips += 1
        row, iteration, limit = clip.row, clip.iteration, clip.limit
        norms = np.where(block.state[row] >= State.ZERO, statistic(block, "grad_norm")[row], 0.0)
        if not np.isfinite(norms).all() or (block.state[row] == State.NOT_MEASURED).any():
            return
        names = self._names_left_out(iteration)
        covered = np.array(
            [
                p.name not in names and (p.optimizer is None or clip.touches(p.optimizer))
                for p in block.parameters
            ],
            bool,
        )
        if names:
            self._look_at_missing(block, iteration, norms, limit)
        if len(processes) > 1 and limit > 0:
            whole = min(_norm(norms[covered]), float(block.steps["grad_norm"][row]))
            self._compare(block, row, iteration, processes, whole)

    def _names_left_out(self, iteration: int) -> frozenset[str]:
        latest = {f.optimizer: f.parameters for f in self._left_out if f.iteration <= iteration}
        return frozenset(name for names in latest.values() for name in names)

    # Several processes ----------------------------------------------------------------------------

    def _compare(
        self, block: RowBatch, row: int, iteration: int, processes: AnyArray, whole: float
    ) -> None:
        """Compare what the clip of each process has used; with NaN for the whole norm, only with
        each other.
        """
        known = [f for f in self._ownership if f.iteration <= iteration]
        if known and known[-1].number("unsynced"):
            return
        used = numbers(processes, "clip_norm")
        factors = numbers(processes, "clip_coefficient")
        limit = float(block.steps["clip_limit"][row])
        right = math.nan
        if not math.isnan(whole):
            right = min(1.0, limit / (whole + EPSILON))
            if not np.isfinite(used).any():  # each of them has a part, which were put together
                used = numbers(block.steps[row : row + 1], "clip_norm")
                factors = numbers(block.steps[row : row + 1], "clip_coefficient")
        there = np.isfinite(factors)
        if not there.any() or (math.isnan(right) and np.count_nonzero(there) < 2):
            return
        used, factors = used[there], factors[there]
        numbers_of = integers(processes, "rank")[there] if len(used) > 1 else np.zeros(1, np.int64)
        all_factors = factors if math.isnan(right) else np.append(factors, right)
        if all_factors.min() >= 1:
            return
        self._num_binding += 1
        if all_factors.max() <= (1 + self.tolerance) * all_factors.min():
            return
        self._num_wrong += 1
        if self._first_wrong < 0:
            self._first_wrong = iteration
        clip = _Clip(iteration, limit, whole, used, factors, numbers_of)
        worst = self._worst
        worst = clip if worst is None or clip.spread() > worst.spread() else worst
        self._worst = worst
        own = float(processes["grad_norm"][0])
        self._is_own &= bool(abs(used[0] - own) <= 1e-3 * own)
        if -1 in self.found:
            self.found.extend(iteration, -1)
        elif self._num_wrong >= max(self.num_steps, self.min_share * self._num_binding):
            where = site_of(block, EventKind.CLIP, iteration)
            self.found.add(self._disagrees(worst, iteration, where))

    def _disagrees(self, clip: _Clip, last: int, where: str) -> Finding:
        low, high = int(np.argmin(clip.factors)), int(np.argmax(clip.factors))
        differ = clip.spread() > 1 + self.tolerance
        values: dict[str, str | int | float] = {
            "step": clip.iteration,
            "whole": f"{clip.whole:.3g}",
            "norm": f"{clip.used[0]:.3g}",
            "limit": clip.limit,
            "low": int(clip.ranks[low]),
            "high": int(clip.ranks[high]),
            "low_norm": f"{clip.used[low]:.3g}",
            "high_norm": f"{clip.used[high]:.3g}",
            "low_factor": f"{clip.factors[low]:.3g}",
            "high_factor": f"{clip.factors[high]:.3g}",
        }
        if differ and np.isfinite(clip.used).all():
            cause = say(
                "at step {step}, rank {low} clips by a norm of {low_norm} and rank {high} by one "
                "of {high_norm}, while the norm of all gradients is {whole}: they are multiplied "
                "by different factors ({low_factor} and {high_factor})",
                **values,
            )
        elif differ:
            cause = say(
                "at step {step}, rank {low} multiplies all gradients by {low_factor} and rank "
                "{high} by {high_factor}: they clip by different norms",
                **values,
            )
        elif self._is_own:
            cause = say(
                "at step {step}, the clip uses a norm of {norm}, which is that of what one rank "
                "holds; the norm of all gradients is {whole}, with a limit of {limit:g}",
                **values,
            )
        else:
            cause = say(
                "at step {step}, the clip uses a norm of {norm} on all ranks, but the norm of all "
                "gradients is {whole}, with a limit of {limit:g}: norms of experts, shards or "
                "stages are averaged, left out, or counted several times",
                **values,
            )
        return self.finding(
            first_step=self._first_wrong,
            last_step=last,
            evidence=(
                Evidence("clip_norm", "", clip.iteration, float(clip.used[low]), clip.whole),
                Evidence(
                    "clip_coefficient",
                    "",
                    clip.iteration,
                    float(clip.factors[high]),
                    float(clip.factors[low])
                    if math.isnan(clip.whole)
                    else min(1.0, clip.limit / (clip.whole + EPSILON)),
                ),
            ),
            cause=cause,
            advice=say(
                "add the squares of the norms over the ranks that hold different parameters, count "
                "replicated ones once, and clip with that norm on every rank"
            ),
            where=where,
            excerpt="square = own_norm**2\ndist.all_reduce(square)\n"
            "torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, square.sqrt())",
        )

    def _reduced_late(self, fact: Fact) -> Finding:
        norm, limit = fact.number("norm"), fact.number("limit")
        return self.finding(
            optimizer=fact.optimizer,
            first_step=fact.iteration,
            evidence=(Evidence("clip_norm", "", fact.iteration, norm, limit),),
            cause=say(
                "gradients are clipped before they are reduced over the ranks: each rank clips its "
                "own by its own norm ({norm} on rank 0), and their average is neither clipped nor "
                "the gradient",
                norm=f"{norm:.3g}",
            ),
            advice=say("move the clip behind the reduction, right before the step"),
            where=fact.where,
            excerpt="dist.all_reduce(parameter.grad, op=dist.ReduceOp.AVG)\n"
            "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)",
        )

    # Parameters that are left out -----------------------------------------------------------------

    def _look_at_missing(
        self, block: RowBatch, iteration: int, norms: FloatArray, limit: float
    ) -> None:
        facts = {f.optimizer: f for f in self._left_out if f.iteration <= iteration}
        for optimizer, fact in facts.items():
            known = [c for c, p in enumerate(block.parameters) if p.name in fact.parameters]
            missing = _norm(norms[known])
            if not known or missing <= limit:
                continue
            seen = self._missing.setdefault(optimizer, _Missing(iteration))
            seen.num += 1
            if optimizer in self.found:
                self.found.extend(iteration, optimizer)
            elif seen.num >= self.min_missing_steps:
                where = site_of(block, EventKind.CLIP, iteration)
                self.found.add(self._leaves_out(fact, seen.first, iteration, missing, limit, where))

    def _leaves_out(
        self, fact: Fact, first: int, last: int, missing: float, limit: float, where: str
    ) -> Finding:
        num, held = int(fact.number("num")), int(fact.number("held"))
        return self.finding(
            optimizer=fact.optimizer,
            severity="warning" if held - num >= self.min_covered * held else "info",
            first_step=first,
            last_step=last,
            parameters=fact.parameters,
            evidence=(Evidence("missing_norm", fact.parameters[0], last, missing, limit),),
            cause=say(
                "the clip covers {covered} of the {held} {held:parameter|parameters} that the "
                "optimizer updates; "
                "those that it leaves out (first {name}) have a norm of {missing} at step {step}, "
                "above the limit of {limit:g}",
                covered=held - num,
                held=held,
                name=fact.parameters[0],
                missing=f"{missing:.3g}",
                step=last,
                limit=limit,
            ),
            advice=say("clip all parameters that the optimizer has"),
            where=where,
            excerpt="torch.nn.utils.clip_grad_norm_(\n"
            '    [p for group in optimizer.param_groups for p in group["params"]], '
            f"{limit:g}\n)",
        )


@dataclass(frozen=True, slots=True)
class _Clip:
    """The clips of several processes in one iteration  # (R,) each; one of all where each had a
    part of the norm.
    """

    iteration: int
    limit: float
    whole: float
    used: FloatArray
    factors: FloatArray
    ranks: AnyArray

    def spread(self) -> float:
        """Return the ratio of the largest factor to the smallest."""
        with np.errstate(divide="ignore"):
            return float(np.max(self.factors) / np.min(self.factors))


@dataclass(slots=True)
class _Missing:
    """How often the norm of what a clip leaves out was above its limit."""

    first: int
    num: int = 0


def _norm(norms: FloatArray) -> float:
    return math.hypot(*norms.tolist()) if len(norms) else 0.0
