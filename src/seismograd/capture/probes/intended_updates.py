"""Estimate the update that a step intended for 16-bit weights, before they were rounded.

Such weights move by whole units of their last digit or not at all: at small rates the difference
before and after is many times what the optimizer wanted, or nothing. Where the optimizer keeps a
finer copy of the weights, that copy shows it; where it is one of torch's own that are known here,
its state does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from seismograd.capture.names.parameter_groups import groups_of, setting
from seismograd.measure.transfer import wide_dtype
from seismograd.tensors.dtensor import held_part

Cut = Callable[[Tensor], Tensor]  # the probed scalars of a tensor of the weight's shape
Known = Callable[[Any, Mapping[str, Any], Tensor | None, Tensor, Cut], Tensor | None]

# of a weight: rounding may be as large as an update
COARSE = frozenset({torch.float16, torch.bfloat16})


def fine_copy(optimizer: object, parameter: Tensor, cut: Cut) -> Tensor | None:
    """Return the probed scalars of the higher-precision copy that the optimizer keeps of a weight:
    the tensor that rounds to the weight.

    It is recognized by its name or, on the CPU, where reading waits for nothing, by its values.
    """
    weight = cut(held_part(parameter))
    for name, candidate in _state(optimizer, parameter).items():
        if (
            isinstance(candidate, Tensor)
            and candidate.shape == parameter.shape
            and candidate.dtype in (torch.float32, torch.float64)
        ):
            copy = cut(held_part(candidate))
            if copy.device == weight.device and (
                _is_called_copy(name) or (weight.is_cpu and _rounds_to(copy, weight))
            ):
                return copy
    return None


def intended_update(optimizer: object, parameter: Tensor, cut: Cut) -> Tensor | None:
    """Return what the last step wanted to subtract from the probed scalars, up to its sign; `None`
    where that is unknown.
    """
    known = _KNOWN.get(type(optimizer))
    if known is None:
        return None
    group = _group_of(optimizer, parameter)
    if group is None:
        return None
    if known is _adam and "decoupled_weight_decay" not in group:  # before torch 2.7
        group = {**group, "decoupled_weight_decay": isinstance(optimizer, torch.optim.AdamW)}
    # a fused optimizer divides within its step
    scaled = isinstance(getattr(optimizer, "grad_scale", None), Tensor)
    gradient = None if parameter.grad is None or scaled else cut(held_part(parameter.grad)).float()
    return known(
        group, _state(optimizer, parameter), gradient, cut(held_part(parameter)).float(), cut
    )


def ratio(update: Tensor, weight: Tensor) -> Tensor:
    """Return the norm of the update over that of the weights  # ()."""
    wide = wide_dtype(update.device)
    return update.to(wide).square().sum().sqrt() / weight.to(wide).square().sum().sqrt()


def _is_called_copy(name: object) -> bool:
    return isinstance(name, str) and any(
        word in name.lower() for word in ("master", "fp32", "float32")
    )


def _rounds_to(copy: Tensor, weight: Tensor) -> bool:
    """Return whether nearly all of it rounds to the weight (not all, under stochastic rounding),
    and is not all zeros.
    """
    same = (copy.to(weight.dtype) == weight) & (weight != 0)
    return bool(same.any()) and int(same.sum()) > 0.5 * int((weight != 0).sum())


def _state(optimizer: object, parameter: Tensor) -> Mapping[str, Any]:
    states = getattr(optimizer, "state", None)
    found = cast("dict[Any, Any]", states).get(parameter) if isinstance(states, dict) else None
    return cast("dict[str, Any]", found) if type(found) is dict else {}


def _group_of(optimizer: object, parameter: Tensor) -> Mapping[str, Any] | None:
    for group in groups_of(optimizer):
        if any(each is parameter for each in setting(group, "params")):
            # a class of the program's own would run its code
            return dict.copy(group) if isinstance(group, dict) else group  # pyright: ignore
    return None


def _sgd(
    group: Any, state: Mapping[str, Any], gradient: Tensor | None, weight: Tensor, cut: Cut
) -> Tensor | None:
    if gradient is None:
        return None
    sign = -1.0 if group["maximize"] else 1.0
    update = sign * gradient + group["weight_decay"] * weight
    buffer = state.get("momentum_buffer")
    if group["momentum"] and isinstance(buffer, Tensor):
        momentum = cut(held_part(buffer)).float()
        update = update + group["momentum"] * momentum if group["nesterov"] else momentum
    return group["lr"] * update


def _adam(
    group: Any, state: Mapping[str, Any], _: Tensor | None, weight: Tensor, cut: Cut
) -> Tensor | None:
    mean, square, step = (
        state.get("exp_avg"),
        state.get("max_exp_avg_sq", state.get("exp_avg_sq")),
        state.get("step"),
    )
    if not (isinstance(mean, Tensor) and isinstance(square, Tensor) and isinstance(step, Tensor)):
        return None
    first, second = group["betas"]
    root = (cut(held_part(square)).float() / (1 - second**step)).sqrt() + group["eps"]
    update = cut(held_part(mean)).float() / (1 - first**step) / root
    if group["weight_decay"] and group.get("decoupled_weight_decay"):
        sign = -1.0 if group["maximize"] else 1.0
        update = update + sign * group["weight_decay"] * weight
    return group["lr"] * update


_KNOWN: dict[type, Known] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
}
