"""Which scalars of each gradient DeepSpeed's ZeRO has left on this process, once it has reduced
them: they are read where its optimizer keeps them, without any communication.

Stages 1 and 2 lay the parameters of a group behind each other and cut that into one partition for
each process; stage 3 cuts every parameter.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed

from seismograd.capture.names.zero_optimizer import (
    attributes,
    is_bf16,
    is_stage_3,
    is_without_zero,
)
from seismograd.i18n import Message, say
from seismograd.tensors.tensor_part import TensorPart, make_part, whole_shape


@dataclass(frozen=True, slots=True)
class HeldRange:
    """What this process holds of a parameter: `numel` scalars that begin at `start`; `gradient`
    and `weight` are these, `None` where they are elsewhere.
    """

    start: int
    numel: int
    gradient: torch.Tensor | None
    weight: torch.Tensor | None


class ZeroPartition:
    """Reads the partition of one ZeRO optimizer, which it refers to weakly."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._has_reported = False

    def parts(
        self, parameters: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor | None], list[torch.Tensor]]:
        """Return what is held of the gradients and the weights of these parameters. What is not
        known has no memory, and so cannot be measured.
        """
        if is_without_zero(self._own()):
            return [p.grad for p in parameters], list(parameters)
        ranges = self._ranges()
        gradients: list[torch.Tensor | None] = []
        weights: list[torch.Tensor] = []
        for parameter in parameters:
            shape = whole_shape(parameter)
            held = ranges.get(id(parameter), HeldRange(0, math.prod(shape), None, None))
            gradients.append(_part(held.gradient, held, shape))
            weights.append(_part(held.weight, held, shape).as_subclass(torch.Tensor))
        return gradients, weights

    def loss_scale(self) -> float:
        """Return what the gradients are still multiplied by."""
        own = self._own()
        scaler = own.get("loss_scaler", own.get("loss_scale_config"))
        scale: object = getattr(scaler, "__dict__", {}).get("cur_scale", 1.0)
        return float(scale) if isinstance(scale, int | float) else math.nan

    def is_skipped(self) -> bool:
        """Return whether the last step was left out because a gradient was not finite."""
        return bool(self._own().get("overflow", False))

    def was_reached(self) -> bool:
        """Return whether the backward that has just ended has reached its parameters."""
        own = self._own()
        hooks = None if is_bf16(own) or is_without_zero(own) else own.get("_backward_hook_state")
        return bool(getattr(hooks, "__dict__", {}).get("hooks_fired_this_backward", True))

    def _own(self) -> dict[str, Any]:
        """Return the attributes of the optimizer; none when it is gone."""
        optimizer = self._optimizer()
        return {} if optimizer is None else attributes(optimizer)

    def take_problem(self) -> Message | None:
        """Return once why nothing can be measured, if that is so."""
        if self._has_reported or self._is_over_all():
            return None
        self._has_reported = True
        return say(
            "DeepSpeed partitions these gradients over some of the processes only, as those of "
            "experts: they are not measured"
        )

    def _is_over_all(self) -> bool:
        """Return whether every group of parameters is partitioned over all processes."""
        own = self._own()
        groups = own.get("real_dp_process_group") or [own.get("dp_process_group")]
        size = torch.distributed.get_world_size()
        return own.get("mpu") is None and all(
            torch.distributed.get_world_size(group) == size for group in groups
        )

    def _ranges(self) -> dict[int, HeldRange]:
        """Return what is held of each parameter, by its id; nothing where that is not known."""
        own = self._own()
        if not own or not self._is_over_all():
            return {}
        if is_bf16(own):
            return dict(_of_bf16(own))
        return dict(_of_stage_3(own) if is_stage_3(own) else _of_stages_1_and_2(own))


def _part(held: torch.Tensor | None, where: HeldRange, shape: tuple[int, ...]) -> TensorPart:
    known = torch.empty(where.numel, device="meta") if held is None else held
    return make_part(known, shape, where.start)


def _of_bf16(own: dict[str, Any]) -> Iterator[tuple[int, HeldRange]]:
    """Every process has the whole reduced gradients, and updates a part of the weights."""
    for parameters, gradients in zip(own["bf16_groups"], own["fp32_groups_gradients"], strict=True):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            whole = HeldRange(0, parameter.numel(), gradient, parameter)
            yield id(parameter), whole


def _of_stages_1_and_2(own: dict[str, Any]) -> Iterator[tuple[int, HeldRange]]:
    rank = torch.distributed.get_rank(own.get("dp_process_group"))
    for number, parameters in enumerate(own["round_robin_bit16_groups"]):
        size = int(own["partition_size"][number])
        begins = _offsets(own, number, parameters)
        flat = _FlatGradient(own, number)
        for parameter, begin in zip(parameters, begins, strict=True):
            first = min(max(0, rank * size - begin), parameter.numel())
            last = min(max(0, (rank + 1) * size - begin), parameter.numel())
            gradient = flat.taken(begin + first - rank * size, last - first)
            weight = parameter.detach().reshape(-1)[first:last]
            yield id(parameter), HeldRange(first, last - first, gradient, weight)


def _offsets(own: dict[str, Any], number: int, parameters: Sequence[torch.Tensor]) -> list[int]:
    """Return where each parameter begins in what its group is laid out to."""
    known: Any = own.get("round_robin_bit16_offsets")
    if known is not None:
        return [int(each) for each in known[number]]
    begins = [0]
    for parameter in parameters:
        begins.append(begins[-1] + parameter.numel())
    return begins[:-1]


class _FlatGradient:
    """The reduced gradient of a partition: in one buffer, or in pieces, one behind the other."""

    def __init__(self, own: dict[str, Any], number: int) -> None:
        if own.get("cpu_offload"):
            flat: Any = own["single_partition_of_fp32_groups"][number].grad
            pieces: Any = None
        else:
            pieces = own["averaged_gradients"].get(number)
            flat = getattr(pieces, "__dict__", {}).get("flat_partition")
        self._flat = None if flat is None else cast(torch.Tensor, flat).detach().reshape(-1)
        self._pieces: dict[int, torch.Tensor] = {}
        begin = 0
        for piece in pieces or () if flat is None else ():
            if piece.numel():
                self._pieces[begin] = piece.detach().reshape(-1)
            begin += piece.numel()

    def taken(self, begin: int, numel: int) -> torch.Tensor | None:
        """Return these scalars; `None` where they are not there."""
        if not numel:
            return torch.empty(0)
        if self._flat is not None:
            return self._flat[begin : begin + numel]
        piece = self._pieces.get(begin)
        return piece if piece is not None and piece.numel() == numel else None


def _of_stage_3(own: dict[str, Any]) -> Iterator[tuple[int, HeldRange]]:
    rank = torch.distributed.get_rank(own.get("dp_process_group"))
    for number, parameters in enumerate(own["fp16_groups"]):
        pieces = _pieces_of_stage_3(own, number, parameters)
        for parameter, piece in zip(parameters, pieces, strict=True):
            whole, cut = int(parameter.ds_numel), parameter.ds_tensor
            size = int(cut.ds_numel)  # the same on every process; the last has some left over
            first = min(rank * size, whole)
            numel = min(size, whole - first)
            weight = cut.detach().reshape(-1)[:numel] if cut.numel() >= numel else None
            gradient = None if piece is None else piece.detach().reshape(-1)[:numel]
            yield id(parameter), HeldRange(first, numel, gradient, weight)


def _pieces_of_stage_3(
    own: dict[str, Any], number: int, parameters: Sequence[Any]
) -> Sequence[torch.Tensor | None]:
    """Return the reduced gradient of each parameter of a group that this process has."""
    if not own.get("offload_optimizer"):
        return own["averaged_gradients"].get(number) or [None] * len(parameters)
    flat: torch.Tensor | None = own["fp32_partitioned_groups_flat"][number].grad
    if flat is None:
        return [None] * len(parameters)
    pieces: list[torch.Tensor | None] = []
    begin = 0
    for parameter in parameters:
        size = int(parameter.ds_tensor.ds_numel)
        pieces.append(flat[begin : begin + size])
        begin += size
    return pieces
