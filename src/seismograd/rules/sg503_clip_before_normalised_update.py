"""SG503 clip-before-normalised-update."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.block_rows import site_of, statistic
from seismograd.analysis.norm_clips import NormClip, clips_shortfall, norm_clips
from seismograd.analysis.script_names import optimizer_kind, optimizer_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, per_optimizer
from seismograd.i18n import Message, Values, say
from seismograd.schema import EventKind, Evidence, Fact, FactKind, Finding

NORMALISING = ("lion", "lars", "scion", "signsgd", "signum")  # and what has Muon in its name


@final
@dataclass
class ClipBeforeNormalisedUpdate(Rule):
    """Gradients are clipped before an optimizer that normalises its update anyway.

    What it finds
        Clipping by norm before Muon, Lion, LARS and their kind, whose update has the same size
        whatever the size of the gradient is.

    Why it hurts
        The clip does not bound the step. All that it changes is how much one gradient counts
        against others in the momentum: large ones less. If the limit is so low that the clipped
        gradient of a matrix falls below the eps of the normalisation, the update vanishes.

    How it decides
        It looks at the last {window} clips that concern such an optimizer, by the name of its
        class, and reports that at least {min_share:.0%} of them multiplied the gradients by less
        than one. The finding is a warning if a matrix of it had a smaller norm than eps after the
        clip in as many of them.

    False alarms
        A clip that is meant to keep outliers out of the momentum works as intended; then ignore the
        rule.

    What to try
        - Leave the parameters of this optimizer out of the clip, and set the size of its steps by
          the learning rate.
        - Keep the clip for the parameters that another optimizer, such as AdamW, updates.

    References
        - Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks.
        - Chen et al. (2023), Symbolic discovery of optimization algorithms.
        - You, Gitman, Ginsburg (2017), Large batch training of convolutional networks.
    """

    code: ClassVar[str] = "SG503"
    name: ClassVar[str] = "clip-before-normalised-update"
    severity: ClassVar[str] = "info"
    absorbs: ClassVar[tuple[str, ...]] = ("SG501",)

    window: int = 30  # clips
    min_share: float = 0.5

    # of the last clips: whether it binds, and whether a matrix is below eps after it
    _clips: dict[int, list[tuple[bool, bool]]] = per_optimizer(list[tuple[bool, bool]])
    _first: dict[int, int] = memory(dict[int, int])
    _eps: list[Fact] = memory(list[Fact])
    _num_clips: int = memory(int)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.GROUP_SETTINGS and fact.number("eps") > 0:
            self._eps.append(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        normalising = [each.index for each in block.optimizers if _normalises(each.kind)]
        for clip in norm_clips(block):
            self._num_clips += 1
            for optimizer in normalising:
                if clip.touches(optimizer):
                    self._look(block, clip, optimizer)
        return self.found.take()

    def shortfall(self) -> Message | None:
        return clips_shortfall(self.window, self._num_clips)

    def _look(self, block: SharedBlock, clip: NormClip, optimizer: int) -> None:
        eps = self._eps_of(optimizer, clip.iteration)
        applied, ready = (
            statistic(block, name)[clip.row] for name in ("applied_norm", "grad_norm")
        )
        is_matrix = [p.optimizer == optimizer and len(p.shape) > 1 for p in block.parameters]
        is_below = bool(((applied < eps) & (ready >= eps))[is_matrix].any())
        binds = clip.factor < 1
        clips = [*self._clips[optimizer], (binds, is_below)][-self.window :]
        self._clips[optimizer] = clips
        if not binds:
            return
        self._first.setdefault(optimizer, clip.iteration)
        num, num_below = sum(b for b, _ in clips), sum(b for _, b in clips)
        enough = self.min_share * self.window
        if optimizer in self.found:
            self.found.extend(clip.iteration, optimizer)
        elif len(clips) == self.window and num >= enough:
            vanishing = eps if num_below >= enough else 0.0
            self.found.add(self._finding(block, clip, optimizer, num, vanishing))

    def _eps_of(self, optimizer: int, iteration: int) -> float:
        known = [f for f in self._eps if f.optimizer == optimizer and f.iteration <= iteration]
        return known[-1].number("eps") if known else math.nan

    def _finding(
        self, block: SharedBlock, clip: NormClip, optimizer: int, num: int, eps: float
    ) -> Finding:
        name = optimizer_name(block, optimizer)
        values: Values = {
            "optimizer": name,
            "kind": optimizer_kind(block, optimizer),
            "num": num,
            "all": self.window,
            "limit": clip.limit,
            "eps": eps,
        }
        if eps:
            cause = say(
                "{num} of the last {all} steps were clipped at {limit:g} before {optimizer} "
                "({kind}) normalised the update, and what is left of a matrix has a norm below its "
                "eps of {eps:g}: its update vanishes",
                **values,
            )
        else:
            cause = say(
                "{num} of the last {all} steps were clipped at {limit:g} before {optimizer} "
                "({kind}) normalised the update: the clip does not change the size of its steps",
                **values,
            )
        return self.finding(
            cause,
            say("leave the parameters of {optimizer} out of the clip", optimizer=name),
            "torch.nn.utils.clip_grad_norm_(\n"
            '    [p for group in adamw.param_groups for p in group["params"]], '
            f"{clip.limit:g}\n)",
            optimizer=optimizer,
            severity="warning" if eps else self.severity,
            first_step=self._first[optimizer],
            last_step=clip.iteration,
            evidence=(
                clip.evidence(),
                Evidence("clip_coefficient", "", clip.iteration, clip.factor, 1.0),
            ),
            where=site_of(block, EventKind.CLIP, clip.iteration),
        )


def _normalises(kind: str) -> bool:
    return "muon" in kind.lower() or kind.lower() in NORMALISING
