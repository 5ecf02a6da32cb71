"""SG502 clip-norm-disagrees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers, runs, site_of, statistic
from seismograd.analysis.norm_clips import NormClip, clips_shortfall, norm_clips
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg502.compared_clips import EPSILON, ComparedClips, cause_of, evidence_of
from seismograd.rules.sg502.left_out_parameters import LargeRest, LeftOutParameters
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
    _worst: ComparedClips | None = field(default=None, init=False, repr=False)
    _is_own: bool = field(default=True, init=False, repr=False)  # rank 0's norm, in all of them
    _left_out: LeftOutParameters = field(default_factory=LeftOutParameters, init=False, repr=False)
    _ownership: list[Fact] = field(default_factory=list[Fact], init=False, repr=False)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.CLIP_LEAVES_OUT:
            self._left_out.learn(fact)
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
        return clips_shortfall(1, self._num_clips)

    def _look(self, block: SharedBlock, clip: NormClip, processes: AnyArray) -> None:
        """Judge a row with a clip by norm."""
        self._num_clips += 1
        row, iteration, limit = clip.row, clip.iteration, clip.limit
        norms = np.where(block.state[row] >= State.ZERO, statistic(block, "grad_norm")[row], 0.0)
        if not np.isfinite(norms).all() or (block.state[row] == State.NOT_MEASURED).any():
            return
        names = self._left_out.names(iteration)
        covered = np.array(
            [
                p.name not in names and (p.optimizer is None or clip.touches(p.optimizer))
                for p in block.parameters
            ],
            bool,
        )
        for rest in self._left_out.look(block, iteration, norms, limit):
            self._leaves_out(block, rest, iteration)
        if len(processes) > 1 and limit > 0:
            whole = min(_norm(norms[covered]), float(block.steps["grad_norm"][row]))
            self._compare(block, row, iteration, processes, whole)

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
        clip = ComparedClips(iteration, limit, whole, used, factors, numbers_of)
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

    def _disagrees(self, clip: ComparedClips, last: int, where: str) -> Finding:
        return self.finding(
            first_step=self._first_wrong,
            last_step=last,
            evidence=evidence_of(clip),
            cause=cause_of(clip, self.tolerance, self._is_own),
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

    def _leaves_out(self, block: RowBatch, rest: LargeRest, iteration: int) -> None:
        fact = rest.fact
        if fact.optimizer in self.found:
            self.found.extend(iteration, fact.optimizer)
            return
        if rest.num < self.min_missing_steps:
            return
        covers_most = rest.num_covered >= self.min_covered * rest.num_held
        self.found.add(
            self.finding(
                optimizer=fact.optimizer,
                severity="warning" if covers_most else "info",
                first_step=rest.first,
                last_step=iteration,
                parameters=fact.parameters,
                evidence=(
                    Evidence("missing_norm", fact.parameters[0], iteration, rest.norm, rest.limit),
                ),
                cause=rest.cause(iteration),
                advice=say("clip all parameters that the optimizer has"),
                where=site_of(block, EventKind.CLIP, iteration),
                excerpt="torch.nn.utils.clip_grad_norm_(\n"
                '    [p for group in optimizer.param_groups for p in group["params"]], '
                f"{rest.limit:g}\n)",
            )
        )


def _norm(norms: FloatArray) -> float:
    return math.hypot(*norms.tolist()) if len(norms) else 0.0
