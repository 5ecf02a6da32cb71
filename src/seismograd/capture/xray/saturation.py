"""Say where an activation is saturated: where its derivative is below `SATURATED`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from seismograd.measure.native import one_tensor

SATURATED = 0.01  # |f'(x)| below this passes hardly any of the signal
MAX_SCALARS = 1 << 20  # of which the share is taken, evenly spread

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

# by what the activation returned: |f'|
_BY_OUTPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: (y > 0).to(y.dtype),
    "relu6": lambda y: ((y > 0) & (y < 6)).to(y.dtype),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "softmax": lambda y: y * (1 - y),
}
# the intervals of what they return within which they are not saturated, where these are as simple
_ROOT = math.sqrt(1 - 4 * SATURATED)
_OPEN = {
    "sigmoid": ((1 - _ROOT) / 2, (1 + _ROOT) / 2),
    "tanh": (-math.sqrt(1 - SATURATED), math.sqrt(1 - SATURATED)),
    "softmax": ((1 - _ROOT) / 2, (1 + _ROOT) / 2),
}
# by what it was given
_BY_INPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: torch.where(x > 0, torch.ones_like(x), x.exp()),
    "celu": lambda x: torch.where(x > 0, torch.ones_like(x), x.exp()),
    "selu": lambda x: (
        SELU_SCALE * torch.where(x > 0, torch.ones_like(x), SELU_ALPHA * x.clamp(max=0).exp())
    ),
    "gelu": lambda x: (
        0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * (-x * x / 2).exp() / math.sqrt(2 * math.pi)
    ).abs(),
    "silu": lambda x: (torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))).abs(),
    "softplus": torch.sigmoid,
    "logsigmoid": lambda x: torch.sigmoid(-x),
    "log_sigmoid": lambda x: torch.sigmoid(-x),
    "softsign": lambda x: (1 + x.abs()).pow(-2),
    "hardtanh": lambda x: ((x > -1) & (x < 1)).to(x.dtype),
    "hardsigmoid": lambda x: ((x > -3) & (x < 3)).to(x.dtype) / 6,
    "hardswish": lambda x: torch.where(
        x >= 3, torch.ones_like(x), torch.where(x <= -3, torch.zeros_like(x), (2 * x + 3).abs() / 6)
    ),
    "mish": lambda x: _mish_derivative(x).abs(),
}


def kind_of(name: str) -> str:
    """Return the activation that a class of modules or an operation of a graph is, empty for
    anything else.
    """
    kind = name.lower()
    return kind if kind in _BY_OUTPUT or kind in _BY_INPUT else ""


def saturated_share(
    kind: str, given: Tensor | None, returned: Tensor | None
) -> Tensor | float | None:
    """Return the share of scalars at which an activation of this kind is saturated; `None` where
    that is not known.
    """
    if kind in _OPEN and returned is not None and 0 < returned.numel() <= MAX_SCALARS:
        num = one_tensor.num_outside(returned, *_OPEN[kind])
        if num is not None:
            return num / returned.numel()
    if kind in _BY_OUTPUT and returned is not None:
        derivative = _BY_OUTPUT[kind](_some(returned))
    elif kind in _BY_INPUT and given is not None:
        derivative = _BY_INPUT[kind](_some(given))
    else:
        return None
    return (derivative < SATURATED).to(torch.float32).mean()


def _some(tensor: Tensor) -> Tensor:
    """Return at most `MAX_SCALARS` of a tensor's scalars, in a dtype that can be computed with."""
    flat = tensor.detach().reshape(-1)
    step = -(-flat.numel() // MAX_SCALARS)
    some = flat[::step] if step > 1 else flat
    return some if some.dtype == torch.float64 else some.to(torch.float32)


def _mish_derivative(x: Tensor) -> Tensor:
    soft = torch.nn.functional.softplus(x).tanh()
    return soft + x * torch.sigmoid(x) * (1 - soft * soft)
