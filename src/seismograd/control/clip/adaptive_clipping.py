"""Clippers that learn their limit from past norms, and stay robust after a NaN or an outlier.

Only finite norms enter a clipper's memory, and an outlier enters as at most `FAR` times the median
of the memory: one of them cannot move the limit away, while norms that grow for good are followed.
Limits grow and shrink with the gradients: nothing is absolute.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, final

from torch import Tensor

from seismograd.capture.hooks.clip_grad import NORM
from seismograd.capture.hub import HUB
from seismograd.control.clip.gradient_norms import norms_of, total_of
from seismograd.control.clip.nonfinite_policy import Policy, act, check_policy
from seismograd.control.clip.norm_clipping import as_tensor
from seismograd.control.clip.norm_reuse import norms_just_read
from seismograd.control.parameter_list import ParameterList, Parameters, multiply_, parameter_list
from seismograd.errors import SeismogradError
from seismograd.i18n import say

FAR = 10.0
ENTERING = 3.0  # standard deviations that an outlier enters an average as
FLOOR = 1e-3  # of the mean: even if all norms are alike, the next is no outlier


class AdaptiveClipper(ABC):
    """Call it with the parameters in place of `clip_grad_norm_`, or give it to
    `window.step(clip=…)`.

    `limit` is the limit it used last, NaN before the first; `num_clipped` and `num_skipped` count.
    Of several processes that train together each keeps one; with the same gradients they stay the
    same.
    """

    def __init__(self, nonfinite: Policy) -> None:
        check_policy(nonfinite)
        self.nonfinite: Policy = nonfinite
        self.limit = math.nan
        self.num_clipped = 0
        self.num_skipped = 0

    def __call__(self, parameters: Parameters) -> Tensor:
        """Scale the gradients down, in place, to the limit learned from the norms so far.

        Returns:
            The total norm before the clip, float64.

        Raises:
            NonFiniteGradientError: a gradient is not finite and `nonfinite` is `"raise"`.
        """
        return self.apply(parameter_list(parameters), self.nonfinite)[0]

    def apply(self, given: ParameterList, policy: Policy | None) -> tuple[Tensor, bool]:
        """Clip; return the total norm before, and whether the gradients were cleared; see
        `clip.limit_norm`.
        """
        HUB.clip_begins(list(given.tensors))
        concerned = given.with_gradient()
        gradients = concerned.gradients()
        norms = norms_of(gradients, known=norms_just_read(concerned.tensors))
        total = total_of(norms)
        skipped = False
        if math.isfinite(total):
            self.limit = self.next_limit(total)
            if total > self.limit:
                self.num_clipped += 1
                multiply_(gradients, self.limit / total)
        else:
            skipped = policy is not None and act(policy, concerned, norms)
            self.num_skipped += skipped
        result = as_tensor(total, gradients)
        HUB.clip_ends(NORM, self.limit, result, True)
        return result, skipped

    @abstractmethod
    def next_limit(self, norm: float) -> float:
        """Learn from a finite norm; return the limit to compare it with."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, as plain numbers and lists."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            SeismogradError: the state is invalid.
        """

    def _counts(self) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "num_clipped": self.num_clipped,
            "num_skipped": self.num_skipped,
        }

    def _load_counts(self, state: Mapping[str, Any]) -> None:
        self.limit = float(state["limit"])
        self.num_clipped, self.num_skipped = int(state["num_clipped"]), int(state["num_skipped"])


@final
class AutoClip(AdaptiveClipper):
    """The limit is a percentile of the last norms, this one among them.

    Seetharaman et al., AutoClip: Adaptive Gradient Clipping for Source Separation Networks, 2020;
    there over all norms of the training.

    Args:
        percentile: above 0 and at most 100; at 10, nine of ten steps are clipped.
        window: how many norms are remembered.
        nonfinite: as for `clip_grad_norm_`.
    """

    def __init__(
        self, percentile: float = 10.0, window: int = 1000, *, nonfinite: Policy = "skip"
    ) -> None:
        super().__init__(nonfinite)
        if not 0 < percentile <= 100 or window < 1:
            raise SeismogradError(
                say(
                    "AutoClip does not accept percentile={percentile}, window={window}",
                    percentile=percentile,
                    window=window,
                ),
                say("use a percentile above 0 and at most 100, and a window of at least 1"),
            )
        self.percentile = percentile
        self._norms: deque[float] = deque(maxlen=window)

    def next_limit(self, norm: float) -> float:
        """Learn from a finite norm; return the limit to compare it with: one of the remembered
        norms.
        """
        self._norms.append(winsorised(norm, self._norms))
        ordered = sorted(self._norms)
        return ordered[max(0, math.ceil(self.percentile / 100 * len(ordered)) - 1)]

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, as plain numbers and lists."""
        return {"kind": "AutoClip", "norms": list(self._norms), **self._counts()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            SeismogradError: the state is invalid.
        """
        _check_kind(state, "AutoClip")
        self._norms = deque(map(float, state["norms"]), maxlen=self._norms.maxlen)
        self._load_counts(state)


@final
class ZClip(AdaptiveClipper):
    """A norm that lies more than `z` standard deviations above the mean is an outlier, and is
    clipped the more the farther it is off.

    One that lies z' of them off is clipped to mean + z²/z' standard deviations. Mean and variance
    are exponential averages; an outlier enters them as mean + 3 standard deviations. In the first
    `warm_up` steps nothing is clipped. Kumar et al., ZClip: Adaptive Spike Mitigation for LLM
    Pre-Training, 2025; there an outlier enters as what it was clipped to, which would never follow
    norms that rise for good.

    Args:
        z: how many standard deviations.
        alpha: how much of the averages each step keeps.
        warm_up: how many norms the first averages are taken of.
        nonfinite: as for `clip_grad_norm_`.
    """

    def __init__(
        self, z: float = 2.5, alpha: float = 0.97, warm_up: int = 25, *, nonfinite: Policy = "skip"
    ) -> None:
        super().__init__(nonfinite)
        if not z > 0 or not 0 <= alpha < 1 or warm_up < 2:
            raise SeismogradError(
                say(
                    "ZClip does not accept z={z}, alpha={alpha}, warm_up={warm_up}",
                    z=z,
                    alpha=alpha,
                    warm_up=warm_up,
                ),
                say("use z above 0, alpha at least 0 and below 1, and warm_up of at least 2"),
            )
        self.z, self.alpha, self.warm_up = z, alpha, warm_up
        self._first: list[float] = []
        self._mean = self._deviation = math.nan

    def next_limit(self, norm: float) -> float:
        """Learn from a finite norm; return the limit to compare it with, infinite while it warms
        up.
        """
        if len(self._first) < self.warm_up:
            self._first.append(norm)
            if len(self._first) == self.warm_up:
                kept = [winsorised(each, self._first) for each in self._first]
                self._mean, self._deviation = statistics.fmean(kept), statistics.pstdev(kept)
            return math.inf
        spread = max(self._deviation, FLOOR * self._mean)
        threshold = self._mean + self.z * spread
        if spread == 0:  # nothing but zeros so far
            limit, entering = norm, norm
        elif norm <= threshold:
            limit, entering = threshold, norm
        else:
            limit = self._mean + self.z**2 * spread / ((norm - self._mean) / spread)
            entering = min(norm, self._mean + max(self.z, ENTERING) * spread)
        before, self._mean = self._mean, self.alpha * self._mean + (1 - self.alpha) * entering
        # squares of very small or large norms would leave the range of floats
        scale = max(abs(entering - before), self._deviation)
        if scale:
            self._deviation = scale * math.sqrt(
                self.alpha * (self._deviation / scale) ** 2
                + (1 - self.alpha) * ((entering - before) / scale) ** 2
            )
        return limit

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, as plain numbers and lists."""
        return {
            "kind": "ZClip",
            "first": list(self._first),
            "mean": self._mean,
            "deviation": self._deviation,
            **self._counts(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            SeismogradError: the state is invalid.
        """
        _check_kind(state, "ZClip")
        self._first = [float(each) for each in state["first"]]
        self._mean, self._deviation = float(state["mean"]), float(state["deviation"])
        self._load_counts(state)


def winsorised(norm: float, others: Iterable[float]) -> float:
    """Return a norm as it enters the memory: at most `FAR` times the median of the others;
    unchanged while there are none, or only zeros.
    """
    known = [each for each in others if each > 0]
    return min(norm, FAR * statistics.median(known)) if known else norm


def _check_kind(state: Mapping[str, Any], kind: str) -> None:
    if state.get("kind") != kind:
        raise SeismogradError(
            say("this is not a state of {kind}", kind=kind),
            say("pass what its state_dict() returned"),
        )
