"""The policies for a gradient that is NaN or infinite: the caller chooses, and learns which
parameter it belongs to.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from seismograd.control.parameter_list import ParameterList
from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.schema import FloatArray

MAX_NAMED = 3


class NonFiniteGradientError(SeismogradError, RuntimeError):
    """A gradient is NaN or infinite, so nothing was clipped. `parameters` names the parameters
    concerned.
    """

    def __init__(self, parameters: tuple[str, ...]) -> None:
        super().__init__(
            _message(parameters),
            say(
                'nonfinite="skip" skips such a step; nonfinite="torch" behaves like torch.nn.utils'
            ),
        )
        self.parameters = parameters


class Skips:
    """Counts the steps that were skipped because a gradient was not finite; `parameters` are those
    of the last time.
    """

    def __init__(self) -> None:
        self.count = 0
        self.parameters: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Skips(count={self.count}, parameters={self.parameters})"


Policy = Literal["torch", "raise", "skip"] | Skips
"""`"torch"`: go on as torch's own function does; `"raise"`; `"skip"`: clear the gradients; a
`Skips` does that, and counts.
"""


def check_policy(policy: Policy) -> None:
    """Raise for an invalid policy.

    Raises:
        SeismogradError: the policy is unknown.
    """
    if not isinstance(policy, Skips) and policy not in ("torch", "raise", "skip"):
        raise SeismogradError(
            say("nonfinite={policy} is not supported", policy=repr(policy)),
            say('use "torch", "raise", "skip" or a seismograd.Skips()'),
        )


def act(policy: Policy, concerned: ParameterList, norms: FloatArray) -> bool:
    """Apply the policy to those whose norm is not finite; return whether to skip the step
    (gradients cleared).

    Raises:
        NonFiniteGradientError: the policy is to raise.
    """
    bad = np.flatnonzero(~np.isfinite(norms))
    names = concerned.names()
    parameters = tuple(names[position] for position in bad)
    if policy == "raise":
        raise NonFiniteGradientError(parameters)
    warnings.warn(_message(parameters).render(), RuntimeWarning, stacklevel=4)
    if policy == "torch":
        return False
    for tensor in concerned.tensors:
        tensor.grad = None
    if isinstance(policy, Skips):
        policy.count += 1
        policy.parameters = parameters
    return True


def _message(parameters: tuple[str, ...]) -> Message:
    shown = ", ".join(parameters[:MAX_NAMED])
    if len(parameters) > MAX_NAMED:
        return say(
            "the gradients of {names} and {count} more are not finite",
            names=shown,
            count=len(parameters) - MAX_NAMED,
        )
    return say("the gradient of {names} is not finite", names=shown)
