"""SG504 clip-governed-by-one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import site_of, statistic
from seismograd.analysis.medians import median
from seismograd.analysis.norm_clips import NormClip, clips_shortfall, norm_clips
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, State


@final
@dataclass
class ClipGovernedByOne(Rule):
    """The norm by which all gradients are clipped is nearly that of a single parameter.

    What it finds
        Clipping by norm in which one parameter makes up nearly all of the total norm for a long
        time, often an embedding, an output layer, or a layer near the input.

    Why it hurts
        The factor that the large one calls for multiplies all of them. The others, whose own norm
        may be below the limit, learn more slowly whenever the large one is clipped, and their steps
        follow its outliers.

    How it decides
        In at least {min_share:.0%} of the last {window} steps that were clipped, the same parameter
        had at least {min_part:.0%} of the total norm, and at least {min_others:g} other parameters
        had a gradient.

    False alarms
        With optimizers that divide by the size of the gradients, such as Adam, a common factor that
        hardly changes makes no difference.

    What to try
        - Clip the large parameter by itself, or give it a group with a lower learning rate.
        - Find out why its gradient is so large: a sum where others have a mean, an input that is
          not normalised, an initialisation that is too large.

    References
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
        - Brock, De, Smith, Simonyan (2021), High-performance large-scale image recognition without
          normalization: adaptive gradient clipping.
    """

    code: ClassVar[str] = "SG504"
    name: ClassVar[str] = "clip-governed-by-one"
    severity: ClassVar[str] = "info"

    window: int = 100  # steps that were clipped
    min_share: float = 0.9
    min_part: float = 0.9
    min_others: int = 3

    # the last clips: the parameter that governs it, empty for none, and the norm of the others
    _clips: list[tuple[NormClip, str, float]] = memory(list[tuple[NormClip, str, float]])
    _num_clips: int = memory(int)

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for clip in norm_clips(block):
            self._num_clips += 1
            if clip.factor < 1:
                self._look(block, clip)
        return self.found.take()

    def shortfall(self) -> Message | None:
        return clips_shortfall(self.window, self._num_clips)

    def _look(self, block: SharedBlock, clip: NormClip) -> None:
        norms = statistic(block, "grad_norm")[clip.row]
        there = block.state[clip.row] == State.FINITE
        there &= np.array([clip.touches(each.optimizer) for each in block.parameters], np.bool_)
        if np.count_nonzero(there) <= self.min_others or not np.isfinite(norms[there]).all():
            return
        squares = np.where(there, norms, 0.0) ** 2
        largest, whole = int(np.argmax(squares)), float(squares.sum())
        others = math.sqrt(max(0.0, whole - float(squares[largest])))
        governs = float(norms[largest]) >= self.min_part * math.sqrt(whole)
        name = block.parameters[largest].name if governs else ""
        self._clips = [*self._clips[1 - self.window :], (clip, name, others)]
        found = self.found.get()
        if found is not None:
            if name in found.parameters:
                self.found.extend(clip.iteration, -1)
        elif len(self._clips) == self.window and name:
            self._judge(block, clip, float(norms[largest]) / math.sqrt(whole))

    def _judge(self, block: SharedBlock, clip: NormClip, part: float) -> None:
        name, num = Counter(name for _, name, _ in self._clips if name).most_common(1)[0]
        if num < self.min_share * self.window:
            return
        governed = [each for each, by, _ in self._clips if by == name]
        factor = median([each.factor for each in governed])
        num_below = sum(by == name and rest <= clip.limit for _, by, rest in self._clips)
        self.found.add(
            self.finding(
                say(
                    "{name} has at least {part} of the total norm in {num} of the last {all} "
                    "clipped steps: it sets the factor for all others, {factor} in the median; "
                    "the norm of these was below the limit of {limit:g} in {below} of them",
                    name=name,
                    part=f"{self.min_part:.0%}",
                    num=num,
                    all=self.window,
                    factor=f"{factor:.2g}",
                    limit=clip.limit,
                    below=num_below,
                ),
                say("clip {name} by itself, or find out why its gradient is so large", name=name),
                f"torch.nn.utils.clip_grad_norm_([model.{name}], {clip.limit:g})",
                first_step=governed[0].iteration,
                last_step=clip.iteration,
                parameters=(name,),
                evidence=(
                    Evidence("share_of_norm", name, clip.iteration, part, self.min_part),
                    clip.evidence(),
                ),
                where=site_of(block, EventKind.CLIP, clip.iteration),
            )
        )
