"""What the state of one parameter in an optimizer shows, found by the names that torch's optimizers
give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from seismograd.capture.names.parameter_groups import setting
from seismograd.measure.native import moments, one_tensor
from seismograd.tensors.dtensor import distributed_tensor, held_part
from seismograd.tensors.freed_memory import is_readable

MAX_SLICE = 1 << 14  # scalars that are looked at of each
MAX_MATRIX = 1 << 22  # scalars of which a whole norm is computed
OF = "of "  # before the name of a number: of how many scalars it is, or in relation to what
SECOND_MOMENTS = ("max_exp_avg_sq", "exp_avg_sq", "square_avg", "sum")

Entry = Mapping[str, Any]
Numbers = dict[str, Tensor | float]  # a tensor of one element where it may be on a device


def numbers_of(
    parameter: Tensor, group: Any, entry: Entry, *, turn: int, scale: float, is_made: bool
) -> Numbers:
    """Return what the state of one parameter shows, as far as it has what is needed for it.

    Args:
        turn: which of its rows are looked at, others in each.
        scale: that the gradient is multiplied by.
        is_made: whether the step has been made already.
    """
    found: Numbers = {}
    made = entry.get("step")
    if isinstance(made, int | float):
        found["age"] = float(made)
    elif isinstance(made, Tensor) and made.numel() == 1 and is_readable(made):
        found["age"] = float(made.item()) if made.is_cpu else made.detach().reshape(())
    gradient = parameter.grad
    if gradient is None or not _is_plain(gradient):
        return found
    if found_quickly := _adaptive(gradient, group, entry, found.get("age"), turn, scale):
        return found | found_quickly
    of_second, second = _named(entry, gradient, *SECOND_MOMENTS)
    _, first = _named(entry, gradient, "exp_avg")
    _, buffer = _named(entry, gradient, "momentum_buffer")
    g = _sliced(gradient, turn)
    if second is not None:
        biases = _biases(group, found.get("age"), is_averaged=of_second in SECOND_MOMENTS[:2])
        kept = None if first is None else _sliced(first, turn)
        found |= _moments(g, _sliced(second, turn), kept, scale, biases, setting(group, "eps"))
    if buffer is not None:
        found |= _momentum(g, _sliced(buffer, turn), scale)
        if _is_muon(group) and gradient.dim() == 2 and parameter.numel() <= MAX_MATRIX:
            norm = _newton_schulz_norm(gradient, buffer, group, scale=scale, is_made=is_made)
            found |= {} if norm is None else {"newton_schulz_norm": norm}
    return found


def _adaptive(
    gradient: Tensor, group: Any, entry: Entry, age: Tensor | float | None, turn: int, scale: float
) -> Numbers:
    """Return the numbers of a state that is nothing but averages of the gradient and of its
    squares, plain tensors on the CPU: those of Adam, with one call; nothing of another one.
    """
    squares, averages, eps = entry.get("exp_avg_sq"), entry.get("exp_avg"), setting(group, "eps")
    if squares is None or "max_exp_avg_sq" in entry or "momentum_buffer" in entry:
        return {}
    bias_1, bias_2 = _biases(group, age, is_averaged=True)
    if not (isinstance(bias_1, float) and isinstance(bias_2, float)):
        return {}
    has_eps = isinstance(eps, int | float)
    ratios = moments.measure_rows(
        gradient,
        squares,
        averages,
        turn=turn,
        most=MAX_SLICE,
        scale=scale,
        biases=(bias_1, bias_2),
        eps=float(eps) if has_eps else 0.0,
    )
    return {} if ratios is None else _numbers(ratios, averages is not None, has_eps)


def _numbers(ratios: moments.MomentRatios, has_average: bool, has_eps: bool) -> Numbers:
    found: Numbers = {
        "gradient_to_state": ratios.gradient,
        OF + "gradient_to_state": ratios.places,
    }
    if has_average:
        found |= {"momentum_to_root": ratios.average, OF + "momentum_to_root": ratios.places}
    if has_eps:
        found["below_eps"] = ratios.below_eps
    return found


def _moments(
    gradient: Tensor,
    second: Tensor,
    first: Tensor | None,
    scale: float,
    biases: tuple[Tensor | float, Tensor | float],
    eps: Any,
) -> Numbers:
    """Return how a gradient stands to the averages that are remembered of it and of its squares."""
    has_eps = isinstance(eps, int | float)
    bias_1, bias_2 = biases
    if (
        moments.takes(gradient, second, first)
        and isinstance(bias_1, float)
        and isinstance(bias_2, float)
    ):
        ratios = moments.measure(
            gradient,
            second,
            first,
            scale=scale,
            biases=(bias_1, bias_2),
            eps=float(eps) if has_eps else 0.0,
        )
        return _numbers(ratios, first is not None, has_eps)
    root = (second / bias_2).sqrt()
    there = root > 0
    num = there.sum()
    to_state = _rms_of_ratio(gradient / scale, root, there, num)
    found: Numbers = {"gradient_to_state": to_state, OF + "gradient_to_state": num}
    if first is not None:
        to_root = _rms_of_ratio(first / bias_1, root, there, num)
        found |= {"momentum_to_root": to_root, OF + "momentum_to_root": num}
    if has_eps:
        found["below_eps"] = (root < eps).double().mean()
    return found


def _momentum(gradient: Tensor, buffer: Tensor, scale: float) -> Numbers:
    """Return how what is remembered of the gradients stands to this one."""
    measured, kept = one_tensor.measure(gradient), one_tensor.measure(buffer)
    of: Tensor | float = gradient.numel()
    ratio: Tensor | float
    if measured is None or kept is None or not measured.norm:
        of = gradient.count_nonzero()
        ratio = _norm(buffer) / _norm(gradient) * scale
    else:
        of -= measured.zeros
        ratio = kept.norm / measured.norm * scale
    return {"momentum_to_gradient": ratio, OF + "momentum_to_gradient": of}


def _is_plain(tensor: Tensor) -> bool:
    held = held_part(tensor)
    if one_tensor.takes(held):
        return True
    return (
        held.layout is torch.strided
        and held.is_floating_point()
        and held.dtype.itemsize > 1
        and held.numel() > 0
        and is_readable(held)
    )


def _named(entry: Entry, like: Tensor, *names: str) -> tuple[str, Tensor | None]:
    """Return the first of these tensors that the state has, if it has a number for each of the
    gradient's.
    """
    for name in names:
        kept = entry.get(name)
        if isinstance(kept, Tensor):
            same = kept.shape == like.shape and held_part(kept).shape == held_part(like).shape
            return name, kept if same and _is_plain(kept) else None
    return "", None


def _sliced(tensor: Tensor, turn: int) -> Tensor:
    """Return some rows of what is held of a tensor, others in each turn; in single precision at
    least.
    """
    held = held_part(tensor)
    if held.dim():
        num_rows = held.shape[0]
        rows = min(num_rows, max(1, MAX_SLICE * num_rows // held.numel()))
        start = (turn * rows) % num_rows
        held = held.narrow(0, min(start, num_rows - rows), rows)
    return held if held.dtype is torch.float64 else held.float()


def _biases(
    group: Any, age: Tensor | float | None, *, is_averaged: bool
) -> tuple[Tensor | float, Tensor | float]:
    """Return what the averages of the gradients and of their squares are divided by, because they
    began with zeros; 1 where the optimizer does not divide.
    """
    betas = setting(group, "betas")
    known = isinstance(betas, tuple | list) and all(
        isinstance(each, int | float) for each in cast("list[Any]", betas)
    )
    if not is_averaged or age is None or not known:
        return 1.0, 1.0
    first, second = cast("list[float]", betas)[:2]
    return 1 - first**age, 1 - second**age


def _rms_of_ratio(numbers: Tensor, root: Tensor, there: Tensor, num: Tensor) -> Tensor:
    """Return the root mean square of the ratios where there is something to divide by: so many."""
    ratio = torch.where(there, numbers / root, 0.0).double()
    return (ratio.square().sum() / num).sqrt()


def _is_muon(group: Any) -> bool:
    return setting(group, "ns_steps") is not None


def _newton_schulz_norm(
    gradient: Tensor, buffer: Tensor, group: Any, *, scale: float, is_made: bool
) -> Tensor | None:
    """Return the norm of the matrix that the iteration orthogonalises, as Muon computes it; `None`
    where this process has only a part of it.
    """
    momentum = setting(group, "momentum")
    if distributed_tensor(gradient) is not None or not isinstance(momentum, int | float):
        return None
    g, average = gradient.detach() / scale, buffer.detach()
    if not is_made:
        average = average.lerp(g.to(average.dtype), 1 - momentum)
    nesterov = setting(group, "nesterov")
    update = g.to(average.dtype).lerp(average, momentum) if nesterov else average
    return _norm(update)


def _norm(tensor: Tensor) -> Tensor:
    return cast("Tensor", tensor.double().norm())
