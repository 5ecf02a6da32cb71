"""Combine the gradients of one model over processes: it is trained by this one alone, replicated
(DDP) or sharded (FSDP2).

Shapes: k numbers, P parameters of the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.tensors.dtensor import distributed_tensor


class Replicas(Protocol):
    """The copies or shards of a model, one in each of `size` processes."""

    @property
    def size(self) -> int:
        """Return how many processes train it together."""
        ...

    @property
    def always_together(self) -> bool:
        """Return whether every forward pass needs all processes."""
        ...

    @property
    def reduces_each(self) -> bool:
        """Return whether each backward has to reduce when nobody knows which is the last."""
        ...

    def prepare(self, last: bool) -> None:
        """Prepare a forward pass; `last`: the gradients are reduced over the processes after its
        backward.
        """
        ...

    def part(self) -> None:
        """Prepare a window in which not every process has a forward pass, so that none waits in one
        for the others.
        """
        ...

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return each number summed over the processes  # k."""
        ...

    def reduce(self) -> None:
        """Sum the gradients over the processes, for a window in which no backward has done it."""
        ...

    def take_part(self) -> None:
        """Run the backward of an empty micro-batch, because other processes may wait for it."""
        ...

    def restore(self) -> None:
        """Restore the model to the state it was found in."""
        ...


class SingleProcess:
    """A model trained by one process."""

    size = 1
    always_together = False
    reduces_each = False

    def prepare(self, last: bool) -> None:
        """Do nothing."""

    def part(self) -> None:
        """Do nothing."""

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers themselves."""
        return list(numbers)

    def reduce(self) -> None:
        """Do nothing."""

    def take_part(self) -> None:
        """Do nothing."""

    def restore(self) -> None:
        """Do nothing."""


class ReplicatedModel:
    """`DistributedDataParallel`: the last backward of a window averages the gradients over the
    processes.
    """

    always_together = False
    reduces_each = False

    def __init__(self, model: Any) -> None:
        self._model, self._group = model, model.process_group
        self._before = bool(model.require_backward_grad_sync)
        self.size = int(self._group.size())

    def prepare(self, last: bool) -> None:
        """Set the flag that `no_sync` sets; the forward pass reads it."""
        self._model.require_backward_grad_sync = last

    def part(self) -> None:
        """Prevent the broadcasts of a forward pass: skip that of the buffers, and do that of the
        bucket order, needed once, now.
        """
        self._model.require_forward_param_sync = False
        self._model.reducer._rebuild_buckets()

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return each number summed over the processes  # k."""
        packed = torch.tensor(
            list(numbers), dtype=torch.float64, device=next(self._model.parameters()).device
        )
        torch.distributed.all_reduce(packed, group=self._group)
        return _listed(packed)

    @torch.no_grad()
    def reduce(self) -> None:
        """Sum the gradients over the processes; a parameter without one counts as zero where
        another process has one.
        """
        parameters: list[Tensor] = [p for p in self._model.parameters() if p.requires_grad]
        present = self.total([float(p.grad is not None) for p in parameters])
        alike: defaultdict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
        for parameter, count in zip(parameters, present, strict=True):
            if count:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                alike[parameter.grad.dtype, parameter.grad.device].append(parameter.grad)
        for gradients in alike.values():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            torch.distributed.all_reduce(flat, group=self._group)
            start = 0
            for gradient in gradients:
                gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
                start += gradient.numel()

    def take_part(self) -> None:
        """Add zeros to every gradient."""
        nothing = (
            torch.stack(
                [p.sum().double() for p in self._model.parameters() if p.requires_grad]
            ).sum()
            * 0.0
        )
        torch.autograd.backward(nothing)

    def restore(self) -> None:
        """Average in every backward again, if it did before."""
        self._model.require_backward_grad_sync = self._before


class ShardedModel:
    """`fully_shard` (FSDP2): every process takes part in every forward pass, unless the weights
    stay gathered within the window.
    """

    reduces_each = True

    def __init__(self, model: Any, keep_unsharded: bool) -> None:
        self._model, self._keep = model, keep_unsharded
        self._parameters = [p for p in model.parameters() if distributed_tensor(p) is not None]
        self._mesh = distributed_tensor(self._parameters[0]).device_mesh  # type: ignore[union-attr]
        self.size = int(self._mesh.size())
        self.always_together = not keep_unsharded
        if keep_unsharded:
            model.set_reshard_after_forward(False)

    def prepare(self, last: bool) -> None:
        """Reduce in this backward or later."""
        self._model.set_requires_gradient_sync(last)
        if self._keep:
            self._model.set_reshard_after_backward(last)

    def part(self) -> None:
        """Raise: this is not possible.

        Raises:
            SeismogradError: always.
        """
        raise SeismogradError(
            say(
                "a process has no micro-batch for this window, but FSDP2 needs one from every "
                "process"
            ),
            say("give every process the same number of micro-batches, as DistributedSampler does"),
        )

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return each number summed over the processes  # k."""
        from torch.distributed.tensor import DTensor, Partial

        local = torch.tensor(list(numbers), dtype=torch.float64, device=self._mesh.device_type)
        return _listed(
            DTensor.from_local(
                local, self._mesh, [Partial("sum")] * self._mesh.ndim, run_check=False
            ).full_tensor()
        )

    def reduce(self) -> None:
        """Do nothing: without a known last backward, every one has reduced."""

    def take_part(self) -> None:
        """Raise: FSDP2 reduces what comes from its own forward pass.

        Raises:
            SeismogradError: always.
        """
        raise SeismogradError(
            say("a micro-batch has weight 0, but FSDP2 needs a loss from every micro-batch"),
            say("remove micro-batches without a target from the data"),
        )

    def restore(self) -> None:
        """Reduce in every backward again, as FSDP2 does by default."""
        self._model.set_requires_gradient_sync(True)
        if self._keep:
            self._model.set_reshard_after_backward(True)
            self._model.set_reshard_after_forward(True)


def _listed(packed: Tensor) -> list[float]:
    return [float(number) for number in packed.cpu().numpy()]


def replicas_of(model: torch.nn.Module | None, keep_unsharded: bool) -> list[Replicas]:
    """Return the parts of a model that several processes train together; `SingleProcess` when there
    is none.

    Raises:
        SeismogradError: the wrapper is unknown.
    """
    found: list[Replicas] = []
    inside: set[int] = set()
    for module in () if model is None else model.modules():
        if id(module) in inside:
            continue
        if isinstance(module, torch.nn.parallel.DistributedDataParallel):
            found.append(ReplicatedModel(module))
        elif any(c.__qualname__ == "FSDPModule" for c in type(module).__mro__):
            found.append(ShardedModel(module, keep_unsharded))
        elif any(c.__qualname__ == "FullyShardedDataParallel" for c in type(module).__mro__):
            raise SeismogradError(
                say("accumulate() does not support FullyShardedDataParallel"),
                say("use its successor, fully_shard"),
            )
        else:
            continue
        inside.update(id(each) for each in module.modules())
    return found or [SingleProcess()]
