"""Where operations, and their derivatives, are not defined: which scalars of an operand are at
fault, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.birth.operation import Operation
from seismograd.schema import BirthReason

LOGARITHMS = ("log", "log2", "log10")
ROOTS = ("sqrt", "rsqrt")
QUOTIENTS = ("div", "reciprocal", "addcdiv", "true_divide")
GROWING = ("exp", "exp2", "expm1", "sinh", "cosh")
SOFTMAXES = ("softmax", "log_softmax", "safe_softmax")
PRODUCTS = ("mul", "mm", "bmm", "addmm", "baddbmm", "linear", "matmul", "dot", "mv")
# operation: the interval on which it is defined; its derivative is not at the ends
INTERVALS = {
    "acos": (-1.0, 1.0),
    "asin": (-1.0, 1.0),
    "atanh": (-1.0, 1.0),
    "erfinv": (-1.0, 1.0),
    "logit": (0.0, 1.0),
    "acosh": (1.0, float("inf")),
    "log1p": (-1.0, float("inf")),
    "log1_p": (-1.0, float("inf")),
}


@dataclass(frozen=True, slots=True)
class DomainFault:
    """`mask` marks the scalars of `given` that are at fault; `None` where it is not a matter of
    single ones.
    """

    reason: BirthReason
    mask: Tensor | None = None
    given: Tensor | None = None


def forward_fault(operation: Operation) -> DomainFault | None:
    """Return why the result of an operation is not finite, or will not be; `None` when what it was
    given does not show that.
    """
    find = _FORWARD.get(operation.name)
    return None if find is None else find(operation)


def backward_fault(operation: Operation) -> DomainFault | None:
    """Return why the derivative of an operation is not finite at what it was given; `None` when it
    is.
    """
    name, given = operation.name, operation.operands.get("self")
    if name in INTERVALS and given is not None:
        low, high = INTERVALS[name]
        return _fault(BirthReason.OUTSIDE, (given <= low) | (given >= high), given)
    result = operation.result
    if name == "sqrt" and result is not None:
        return _first(
            _fault(BirthReason.ZERO, result == 0, result),
            # Where the loss is finite, something like torch.where hides it, and not its gradient.
            _fault(BirthReason.NEGATIVE, torch.isnan(result), result),
        )
    if name in ("rsqrt", "reciprocal") and result is not None:
        return _fault(BirthReason.ZERO, torch.isinf(result), result)
    if name in LOGARITHMS and given is not None:
        return _fault(BirthReason.ZERO, given == 0, given)
    if name in QUOTIENTS:
        return _zero_divisor(operation)
    if name == "pow" and given is not None:
        exponent = _exponent(operation)
        return _fault(BirthReason.ZERO, (given == 0) & (exponent < 1) & (exponent != 0), given)
    if name == "hypot" and result is not None:
        return _fault(BirthReason.ZERO, result == 0, result)
    if name == "xlogy" and "other" in operation.operands:
        other = operation.operands["other"]
        return _fault(BirthReason.ZERO, other == 0, other)
    if name in GROWING and result is not None:
        return _fault(BirthReason.OVERFLOW, torch.isinf(result), result)
    return None


def _fault(reason: BirthReason, mask: Tensor, given: Tensor) -> DomainFault | None:
    return DomainFault(reason, mask, given) if bool(mask.any()) else None


def _first(*faults: DomainFault | None) -> DomainFault | None:
    return next((fault for fault in faults if fault is not None), None)


def _logarithm(operation: Operation) -> DomainFault | None:
    given = operation.operands.get("self")
    if given is None:
        return None
    return _first(
        _fault(BirthReason.NEGATIVE, given < 0, given), _fault(BirthReason.ZERO, given == 0, given)
    )


def _root(operation: Operation) -> DomainFault | None:
    given = operation.operands.get("self")
    if given is not None:
        zero = _fault(BirthReason.ZERO, given == 0, given) if operation.name == "rsqrt" else None
        return _first(_fault(BirthReason.NEGATIVE, given < 0, given), zero)
    result = operation.result
    if result is None:
        return None
    return _first(
        _fault(BirthReason.NEGATIVE, torch.isnan(result), result),
        _fault(BirthReason.ZERO, torch.isinf(result), result),
    )


def _interval(operation: Operation) -> DomainFault | None:
    given = operation.operands.get("self")
    if given is None:
        return None
    low, high = INTERVALS[operation.name]
    is_open = operation.name in ("atanh", "erfinv", "logit", "log1p", "log1_p")
    outside = (given <= low) | (given >= high) if is_open else (given < low) | (given > high)
    return _fault(BirthReason.OUTSIDE, outside, given)


def _zero_divisor(operation: Operation) -> DomainFault | None:
    below = operation.operands.get("tensor2" if operation.name == "addcdiv" else "other")
    if operation.name == "reciprocal":
        below = operation.operands.get("self")
        if below is None and operation.result is not None:
            return _fault(BirthReason.ZERO, torch.isinf(operation.result), operation.result)
    if below is None:
        return DomainFault(BirthReason.ZERO) if operation.number("other", 1.0) == 0 else None
    return _fault(BirthReason.ZERO, below == 0, below)


def _exponent(operation: Operation) -> Any:
    tensor = operation.operands.get("exponent")
    return torch.tensor(operation.number("exponent", 1.0)) if tensor is None else tensor


def _power(operation: Operation) -> DomainFault | None:
    given, result = operation.operands.get("self"), operation.result
    if given is not None:
        exponent = _exponent(operation)
        fault = _first(
            _fault(BirthReason.NEGATIVE, (given < 0) & (exponent != exponent.round()), given),
            _fault(BirthReason.ZERO, (given == 0) & (exponent < 0), given),
        )
        if fault is not None:
            return fault
        result = torch.pow(given, exponent) if result is None else result
    return None if result is None else _overflow(result)


def _overflow(result: Tensor) -> DomainFault | None:
    return _fault(BirthReason.OVERFLOW, torch.isinf(result), result)


def _growing(operation: Operation) -> DomainFault | None:
    result = operation.result
    given = operation.operands.get("self")
    if result is None and given is not None:
        result = getattr(torch, operation.name)(given)
    return None if result is None else _overflow(result)


def _softmax(operation: Operation) -> DomainFault | None:
    result, given = operation.result, operation.operands.get("self")
    if result is None or not bool(torch.isnan(result).any()):
        return None
    if given is not None and bool(torch.isposinf(given).any()):
        return _fault(BirthReason.OVERFLOW, torch.isposinf(given), given)
    return _fault(BirthReason.MASKED, torch.isnan(result), result)


def _mean(operation: Operation) -> DomainFault | None:
    given = operation.operands.get("self")
    num = operation.number("self_sym_numel", 1.0) if given is None else given.numel()
    return DomainFault(BirthReason.EMPTY) if num == 0 else None


def _spread(operation: Operation) -> DomainFault | None:
    given = operation.operands.get("self")
    if given is None:
        return None
    dims: tuple[int, ...] = operation.settings.get("dim") or tuple(range(given.dim()))
    num = prod(int(given.shape[dim]) for dim in dims)
    if num > operation.number("correction", 1.0):
        return None
    return DomainFault(BirthReason.EMPTY if num == 0 else BirthReason.ONE_SAMPLE, None, given)


def _nll(operation: Operation) -> DomainFault | None:
    total = operation.operands.get("total_weight")
    is_mean = operation.number("reduction", 1.0) == 1
    if is_mean and total is not None and total.numel() == 1 and float(total) == 0:
        return DomainFault(BirthReason.NO_WEIGHT)
    given, target = operation.operands.get("self"), operation.operands.get("target")
    if given is None or target is None or given.dim() != 2 or target.dim() != 1:
        return None
    chosen = given.gather(1, target.clamp(0, given.shape[1] - 1)[:, None])[:, 0]
    ignored = target == operation.number("ignore_index", -100.0)
    return _fault(BirthReason.OVERFLOW, torch.isinf(chosen) & ~ignored, chosen)


def _ctc(operation: Operation) -> DomainFault | None:
    given, needed = (
        torch.as_tensor(operation.settings.get(name, operation.operands.get(name, ())))
        for name in ("input_lengths", "target_lengths")
    )
    if not given.numel() or given.shape != needed.shape:
        return None
    targets = operation.operands.get("targets")
    if targets is not None:
        needed = needed + _num_repeats(targets, needed)
    return _fault(BirthReason.TOO_LONG, needed > given, needed)


def _num_repeats(targets: Tensor, lengths: Tensor) -> Tensor:
    """Return how many blanks each target needs between equal neighbours  # (N,)."""
    starts = torch.cumsum(lengths, 0) - lengths
    rows = [
        targets[i, : int(n)] if targets.dim() == 2 else targets[int(start) : int(start) + int(n)]
        for i, (start, n) in enumerate(zip(starts, lengths, strict=True))
    ]
    return torch.tensor([int((row[1:] == row[:-1]).sum()) for row in rows], dtype=lengths.dtype)


def _sum(operation: Operation) -> DomainFault | None:
    one, other = operation.operands.get("self"), operation.operands.get("other")
    if one is None or other is None:
        return None
    cancelled = torch.isinf(one) & torch.isinf(other)
    return _fault(BirthReason.CANCELLED, cancelled, cancelled)


def _product(operation: Operation) -> DomainFault | None:
    one, other = operation.operands.get("self"), operation.operands.get("other")
    if operation.name != "mul" or one is None or other is None:
        return None
    cancelled = (torch.isinf(one) & (other == 0)) | (torch.isinf(other) & (one == 0))
    return _fault(BirthReason.CANCELLED, cancelled, cancelled)


_FORWARD: Mapping[str, Callable[[Operation], DomainFault | None]] = {
    **dict.fromkeys(LOGARITHMS, _logarithm),
    **dict.fromkeys(ROOTS, _root),
    **dict.fromkeys(INTERVALS, _interval),
    **dict.fromkeys(QUOTIENTS, _zero_divisor),
    **dict.fromkeys(GROWING, _growing),
    **dict.fromkeys(SOFTMAXES, _softmax),
    **dict.fromkeys(("nll_loss", "nll_loss2d", "nll_loss_forward", "nll_loss2d_forward"), _nll),
    **dict.fromkeys(("std", "var", "std_mean", "var_mean"), _spread),
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    "pow": _power,
    "mean": _mean,
    "ctc_loss": _ctc,
    "mul": _product,
}
