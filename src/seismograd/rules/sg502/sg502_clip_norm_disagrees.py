"""SG502 clip-norm-disagrees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    columns_where,
    flagged,
    integers,
    numbers,
    runs,
    site_of,
    statistic,
)
from seismograd.analysis.norm_clips import NormClip, clips_shortfall, norm_clips
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory
from seismograd.i18n import Message, say
from seismograd.rules.sg502.compared_clips import (
    ComparedClips,
    Disagreement,
    evidence_of,
    explanation,
)
from seismograd.rules.sg502.left_out_parameters import LargeRest, LeftOutParameters
from seismograd.schema import (
    AnyArray,
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
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
    absorbs: ClassVar[tuple[str, ...]] = ("SG701",)

    tolerance: float = 0.05
    num_steps: int = 3
    min_share: float = 0.5
    min_missing_steps: int = 10
    min_covered: float = 0.5  # of the optimizer's parameters

    _num_clips: int = memory(int)
    _disagreement: Disagreement = field(init=False, repr=False)
    _left_out: LeftOutParameters = memory(LeftOutParameters)
    _ownership: list[Fact] = memory(list[Fact])

    def __post_init__(self) -> None:
        self._disagreement = Disagreement(self.tolerance)

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
            processes = processes[flagged(processes, RankFlag.REPORTED)]
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
        row, iteration = clip.row, clip.iteration
        norms = np.where(block.state[row] >= State.ZERO, statistic(block, "grad_norm")[row], 0.0)
        if not np.isfinite(norms).all() or (block.state[row] == State.NOT_MEASURED).any():
            return
        names = self._left_out.names(iteration)
        covered = columns_where(
            block.parameters,
            lambda p: p.name not in names and (p.optimizer is None or clip.touches(p.optimizer)),
        )
        for rest in self._left_out.look(block, iteration, norms, clip.limit):
            self._leaves_out(block, rest, iteration)
        if len(processes) > 1 and clip.limit > 0:
            whole = min(math.hypot(*norms[covered].tolist()), float(block.steps["grad_norm"][row]))
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
        clip = ComparedClips.of(block, row, processes, whole)
        wrong = self._disagreement
        if clip is None or not wrong.add(clip, float(processes["grad_norm"][0])):
            return
        if -1 in self.found:
            self.found.extend(iteration, -1)
        elif wrong.worst is not None and wrong.num_wrong >= max(
            self.num_steps, self.min_share * wrong.num_binding
        ):
            self.found.add(
                self.finding(
                    *explanation(wrong.worst, self.tolerance, wrong.is_own),
                    first_step=wrong.first,
                    last_step=iteration,
                    evidence=evidence_of(wrong.worst),
                    where=site_of(block, EventKind.CLIP, iteration),
                )
            )

    def _reduced_late(self, fact: Fact) -> Finding:
        norm, limit = fact.number("norm"), fact.number("limit")
        return self.finding_of_fact(
            fact,
            say(
                "gradients are clipped before they are reduced over the ranks: each rank clips its "
                "own by its own norm ({norm} on rank 0), and their average is neither clipped nor "
                "the gradient",
                norm=f"{norm:.3g}",
            ),
            say("move the clip behind the reduction, right before the step"),
            "dist.all_reduce(parameter.grad, op=dist.ReduceOp.AVG)\n"
            "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)",
            evidence=(Evidence("clip_norm", "", fact.iteration, norm, limit),),
        )

    def _leaves_out(self, block: RowBatch, rest: LargeRest, iteration: int) -> None:
        fact = rest.fact
        if fact.optimizer in self.found:
            self.found.extend(iteration, fact.optimizer)
        elif rest.num >= self.min_missing_steps:
            covers_most = rest.num_covered >= self.min_covered * rest.num_held
            first = fact.parameters[0]
            self.found.add(
                self.finding(
                    *rest.explanation(iteration),
                    optimizer=fact.optimizer,
                    severity="warning" if covers_most else "info",
                    first_step=rest.first,
                    last_step=iteration,
                    parameters=fact.parameters,
                    evidence=(Evidence("missing_norm", first, iteration, rest.norm, rest.limit),),
                    where=site_of(block, EventKind.CLIP, iteration),
                )
            )
