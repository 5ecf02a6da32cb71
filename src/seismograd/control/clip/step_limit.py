"""What `step` does to the gradients before the optimizer uses them: limit their norm, run a
clipper, handle non-finite ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from seismograd.capture.hub import HUB
from seismograd.control.clip.adaptive_clipping import AdaptiveClipper
from seismograd.control.clip.gradient_norms import norms_of, total_of
from seismograd.control.clip.nonfinite_policy import Policy, act, check_policy
from seismograd.control.clip.norm_clipping import as_tensor, limit_norm
from seismograd.control.parameter_list import ParameterList
from seismograd.errors import SeismogradError
from seismograd.i18n import say

ClipArgument = Callable[[list[Tensor]], Tensor | None]


@dataclass(frozen=True, slots=True)
class StepLimit:
    """The limit that the arguments of `step` describe."""

    max_norm: float | None = None
    norm_type: float = 2.0
    clip: ClipArgument | None = None
    nonfinite: Policy = "torch"

    def check(self) -> None:
        """Raise for invalid arguments.

        Raises:
            SeismogradError: two limits at once, or an unknown policy.
        """
        check_policy(self.nonfinite)
        if self.max_norm is not None and self.clip is not None:
            raise SeismogradError(
                say("step() was given both max_norm and clip"), say("pass only one of them")
            )

    def apply(self, held: ParameterList, quiet: bool) -> tuple[Tensor | None, bool]:
        """Apply the limit; return the total norm before, if it was measured, and whether to skip
        the step.

        `quiet`: infinities are how a GradScaler finds its scale, and it skips such a step by
        itself.
        """
        policy: Policy | None = None if quiet else self.nonfinite
        if self.max_norm is not None:
            return limit_norm(held, self.max_norm, self.norm_type, policy)
        if policy is not None and policy != "torch" and not isinstance(self.clip, AdaptiveClipper):
            concerned = held.with_gradient()
            norms = norms_of(concerned.gradients())
            if not math.isfinite(total_of(norms)):
                # so that they are read before they are cleared
                HUB.clip_begins(list(held.tensors))
                return as_tensor(total_of(norms), concerned.gradients()), act(
                    policy, concerned, norms
                )
        if self.clip is None:
            return None, False
        if isinstance(self.clip, AdaptiveClipper):
            return self.clip.apply(held, None if quiet else self.clip.nonfinite)
        return self.clip(list(held.tensors)), False
