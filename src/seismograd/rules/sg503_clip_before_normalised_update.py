"""SG503 clip-before-normalised-update."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import site_of, statistic
from seismograd.analysis.norm_clips import NormClip, clips_shortfall, norm_clips
from seismograd.analysis.script_names import optimizer_kind, optimizer_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
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
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG501",)

    window: int = 30  # clips
    min_share: float = 0.5

    _clips: dict[int, deque[tuple[bool, bool]]] = field(
        default_factory=dict[int, "deque[tuple[bool, bool]]"], init=False, repr=False
    )
    _first: dict[int, int] = field(default_factory=dict[int, int], init=False, repr=False)
    _eps: list[Fact] = field(default_factory=list[Fact], init=False, repr=False)
    _num_clips: int = field(default=0, init=False, repr=False)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.GROUP_SETTINGS and fact.number("eps") > 0:
            self._eps.append(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        kinds = {o.index: o.kind for o in block.optimizers if _normalises(o.kind)}
        for clip in norm_clips(block):
            self._num_clips += 1
            for optimizer in kinds:
                if clip.touches(optimizer):
                    self._look(block, clip, optimizer)
        return self.found.take()

    def shortfall(self) -> Message | None:
        return clips_shortfall(self.window, self._num_clips)

    def _look(self, block: SharedBlock, clip: NormClip, optimizer: int) -> None:
        eps = self._eps_of(optimizer, clip.iteration)
        applied = statistic(block, "applied_norm")[clip.row]
        ready = statistic(block, "grad_norm")[clip.row]
        matrices = np.array(
            [p.optimizer == optimizer and len(p.shape) > 1 for p in block.parameters], bool
        )
        is_below = bool((matrices & (applied < eps) & (ready >= eps)).any())
        binds = clip.factor < 1
        if binds:
            self._first.setdefault(optimizer, clip.iteration)
        clips = self._clips.setdefault(optimizer, deque(maxlen=self.window))
        clips.append((binds, is_below))
        if optimizer in self.found:
            if binds:
                self.found.extend(clip.iteration, optimizer)
            return
        num, num_below = sum(b for b, _ in clips), sum(b for _, b in clips)
        if binds and len(clips) == self.window and num >= self.min_share * self.window:
            vanishes = num_below >= self.min_share * self.window
            self.found.add(self._finding(block, clip, optimizer, num, eps if vanishes else 0.0))

    def _eps_of(self, optimizer: int, iteration: int) -> float:
        known = [f for f in self._eps if f.optimizer == optimizer and f.iteration <= iteration]
        return known[-1].number("eps") if known else math.nan

    def _finding(
        self, block: SharedBlock, clip: NormClip, optimizer: int, num: int, eps: float
    ) -> Finding:
        values: dict[str, str | int | float] = {
            "optimizer": optimizer_name(block, optimizer),
            "kind": optimizer_kind(block, optimizer),
            "num": num,
            "all": self.window,
            "limit": clip.limit,
            "eps": eps,
        }
        cause = say(
            "{num} of the last {all} steps were clipped at {limit:g} before {optimizer} ({kind}) "
            "normalised the update: the clip does not change the size of its steps",
            **values,
        )
        if eps:
            cause = say(
                "{num} of the last {all} steps were clipped at {limit:g} before {optimizer} "
                "({kind}) normalised the update, and what is left of a matrix has a norm below its "
                "eps of {eps:g}: its update vanishes",
                **values,
            )
        return self.finding(
            optimizer=optimizer,
            severity="warning" if eps else self.severity,
            first_step=self._first[optimizer],
            last_step=clip.iteration,
            evidence=(
                Evidence("clip_norm", "", clip.iteration, clip.norm, clip.limit),
                Evidence("clip_coefficient", "", clip.iteration, clip.factor, 1.0),
            ),
            cause=cause,
            advice=say(
                "leave the parameters of {optimizer} out of the clip",
                optimizer=optimizer_name(block, optimizer),
            ),
            where=site_of(block, EventKind.CLIP, clip.iteration),
            excerpt="torch.nn.utils.clip_grad_norm_(\n"
            '    [p for group in adamw.param_groups for p in group["params"]], '
            f"{clip.limit:g}\n)",
        )


def _normalises(kind: str) -> bool:
    return "muon" in kind.lower() or kind.lower() in NORMALISING
