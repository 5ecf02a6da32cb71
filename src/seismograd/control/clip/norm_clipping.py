"""Clip with the signatures and the results of `torch.nn.utils`, with norms in double precision and
a report of what is not finite.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seismograd.capture.hooks.clip_grad import NORM
from seismograd.capture.hub import HUB
from seismograd.capture.rows.applied_norm import clip_coefficient
from seismograd.control.clip.gradient_norms import norms_of, total_of
from seismograd.control.clip.nonfinite_policy import Policy, act, check_policy
from seismograd.control.clip.norm_reuse import norms_just_read
from seismograd.control.parameter_list import ParameterList, Parameters, multiply_, parameter_list
from seismograd.measure.transfer import wide_dtype


def clip_grad_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
    *,
    nonfinite: Policy = "torch",
) -> Tensor:
    """Scale gradients down, in place, so that their total norm is at most `max_norm`:
    `torch.nn.utils.clip_grad_norm_` to rounding.

    The norm is summed in double precision, so it neither overflows nor underflows; gradients are
    read once, and written only where the limit binds. The numbers come to the host once per call,
    also from a GPU.

    Args:
        parameters: a parameter, or an iterable of them or of (name, parameter), as
            `model.named_parameters()` gives.
        max_norm: the largest total norm.
        norm_type: the order of the norm; `math.inf` for the largest magnitude.
        error_if_nonfinite: as in torch; the same as `nonfinite="raise"`.
        foreach: accepted for compatibility with torch's signature, and ignored.
        nonfinite: what to do when a gradient is NaN or infinite. `"torch"`: a warning that names
            the parameter, then what torch does (the NaN spreads to every gradient); `"raise"`;
            `"skip"`: a warning, and all gradients are cleared, so that there is nothing to step on;
            a `seismograd.Skips()`: the same, counted in it.

    Returns:
        The total norm before the clip, float64, on the device of the first gradient; not finite
        when a
        gradient is not.

    Raises:
        NonFiniteGradientError: a `RuntimeError` that names the parameters.
    """
    del foreach
    policy: Policy = "raise" if error_if_nonfinite else nonfinite
    check_policy(policy)
    given = parameter_list(parameters)
    return limit_norm(given, float(max_norm), float(norm_type), policy)[0]


def limit_norm(
    given: ParameterList, max_norm: float, norm_type: float = 2.0, policy: Policy | None = "torch"
) -> tuple[Tensor, bool]:
    """Clip as `clip_grad_norm_` does; return the total norm before, and whether the gradients were
    cleared instead.

    Without a policy: torch's behavior, and no report of what is not finite.
    """
    HUB.clip_begins(list(given.tensors))
    concerned = given.with_gradient()
    gradients = concerned.gradients()
    norms = norms_of(
        gradients, norm_type, norms_just_read(concerned.tensors) if norm_type == 2.0 else None
    )
    total = total_of(norms, norm_type)
    skipped = policy is not None and not math.isfinite(total) and act(policy, concerned, norms)
    if not skipped:
        multiply_(gradients, clip_coefficient(total, max_norm))
    result = as_tensor(total, gradients)
    HUB.clip_ends(NORM, max_norm, result, True)
    return result, skipped


def as_tensor(number: float, gradients: list[Tensor]) -> Tensor:
    """Return a number as torch's functions do: a tensor on the gradients' device."""
    device = gradients[0].device if gradients else torch.device("cpu")
    return torch.tensor(number, dtype=wide_dtype(device), device=device)


def clip_grad_value_(
    parameters: Parameters,
    clip_value: float,
    foreach: bool | None = None,
    *,
    nonfinite: Policy = "torch",
) -> None:
    """Clamp every scalar of the gradients, in place, to [-clip_value, clip_value], as
    `torch.nn.utils.clip_grad_value_` does.

    Args:
        parameters: as for `clip_grad_norm_`.
        clip_value: the largest magnitude.
        foreach: as in torch.
        nonfinite: as for `clip_grad_norm_`. `"torch"` reads nothing and reports nothing: an
            infinity becomes the limit, NaN stays.

    Raises:
        NonFiniteGradientError: a gradient is not finite and `nonfinite` is `"raise"`.
    """
    check_policy(nonfinite)
    given = parameter_list(parameters)
    if nonfinite != "torch":
        concerned = given.with_gradient()
        norms = norms_of(concerned.gradients(), math.inf)
        if not math.isfinite(total_of(norms, math.inf)):
            # so that the gradients are read before they are cleared
            HUB.clip_begins(list(given.tensors))
            if act(nonfinite, concerned, norms):
                return
    torch.nn.utils.clip_grad_value_(given.tensors, clip_value, foreach)
