"""Adaptive gradient clipping (AGC): limit each unit's gradient to a share of the norm of its own
weights.

Shapes: U units, the rows of a parameter of two or more dimensions; a parameter with fewer is one
unit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seismograd.capture.hub import HUB
from seismograd.control.clip.gradient_norms import norms_of, total_of
from seismograd.control.clip.nonfinite_policy import Policy, act, check_policy
from seismograd.control.clip.norm_clipping import as_tensor
from seismograd.control.parameter_list import Parameters, parameter_list
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.tensors.dtensor import distributed_tensor, held_part

UNIT = 3  # the kind of the clip, beside `NORM` and `VALUE`


@torch.no_grad()
def clip_grad_unit_(
    parameters: Parameters,
    clip_factor: float = 0.01,
    eps: float = 1e-3,
    *,
    nonfinite: Policy = "torch",
) -> Tensor:
    """Scale each unit's gradient down, in place, to at most `clip_factor` times the norm of its
    weights.

    The authors exclude the last linear layer. Brock et al., High-Performance Large-Scale Image
    Recognition Without Normalization, 2021.

    Args:
        parameters: as for `clip_grad_norm_`.
        clip_factor: the largest share.
        eps: the smallest norm that a unit's weights count as, so that zero weights can be learned.
        nonfinite: as for `clip_grad_norm_`. Under `"torch"` a unit that is not finite stays as it
            is, and the others are clipped.

    Returns:
        The largest share before the clip, float64; NaN when a unit is not finite.

    Raises:
        NonFiniteGradientError: a gradient is not finite and `nonfinite` is `"raise"`.
        SeismogradError: a gradient is sparse.
    """
    check_policy(nonfinite)
    given = parameter_list(parameters)
    concerned = given.with_gradient()
    gradients = concerned.gradients()
    if any(gradient.layout is not torch.strided for gradient in gradients):
        raise SeismogradError(
            say("a sparse gradient has no rows to clip"),
            say("leave its parameter out of the clipping"),
        )
    HUB.clip_begins(list(given.tensors))
    norms = norms_of(gradients)
    if not math.isfinite(total_of(norms)) and act(nonfinite, concerned, norms):
        result = as_tensor(math.nan, gradients)
    else:
        largest = [
            _clip(weight, gradient, clip_factor, eps)
            for weight, gradient in zip(concerned.tensors, gradients, strict=True)
        ]
        shares = [float(each) for each in largest]
        result = as_tensor(
            math.nan if any(map(math.isnan, shares)) else max(shares, default=0.0), gradients
        )
    HUB.clip_ends(UNIT, clip_factor, result, True)
    return result


def _clip(weight: Tensor, gradient: Tensor, clip_factor: float, eps: float) -> Tensor:
    """Clip one gradient; return the largest share of its units that this process holds."""
    of_gradient, of_weight = unit_norms(gradient), unit_norms(weight).clamp(min=eps)
    shares = of_gradient / of_weight
    factors = torch.where(shares > clip_factor, clip_factor / shares, 1.0)
    part = _rows(gradient)
    if part.dtype in (torch.float32, torch.float64):
        part.mul_(factors.to(part.dtype).unsqueeze(1))
    else:  # a factor may be below the range of half precision
        part.copy_(part.float() * factors.float().unsqueeze(1))
    return shares.max() if shares.numel() else shares.new_zeros(())


def unit_norms(tensor: Tensor) -> Tensor:
    """Return the norm of each unit of which this process holds anything, in double precision
    # (U,).
    """
    rows = _rows(tensor).abs()
    largest = rows.amax(1) if rows.shape[1] else rows.new_zeros(rows.shape[0])
    scale = (
        torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0).double()
        if rows.dtype is torch.float64
        else None
    )
    squares = (rows / scale.unsqueeze(1) if scale is not None else rows.double()).square().sum(1)
    if scale is not None and distributed_tensor(tensor) is None:
        return squares.sqrt() * scale
    return _over_ranks(tensor, squares if scale is None else squares * scale.square()).sqrt()


def _rows(tensor: Tensor) -> Tensor:
    """Return what this process holds, one row per unit; a view  # (U, N)."""
    part = held_part(tensor)
    part = torch.view_as_real(part) if part.is_complex() else part
    return part.view(1, -1) if tensor.dim() < 2 else part.flatten(1)


def _over_ranks(tensor: Tensor, squares: Tensor) -> Tensor:
    """Return the sums of squares of units whose scalars lie on several processes."""
    distributed = distributed_tensor(tensor)
    if distributed is None:
        return squares
    split = [p.is_shard() and (tensor.dim() < 2 or p.dim != 0) for p in distributed.placements]
    if not any(split):
        return squares
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Partial("sum") if cut else Replicate() for cut in split]
    spread = DTensor.from_local(squares, distributed.device_mesh, placements, run_check=False)
    whole: Tensor = spread.redistribute(placements=[Replicate()] * len(placements)).to_local()
    return whole
