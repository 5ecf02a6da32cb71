"""Decide whether all processes of a training see the same gradients, and so judge an update alike.

Nothing is exchanged for it: what `DistributedDataParallel` has averaged is the same everywhere.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.tensors.dtensor import distributed_tensor

# hooks of torch that average over all processes, in another form
AVERAGING = frozenset(
    {
        "allreduce_hook",
        "fp16_compress_hook",
        "bf16_compress_hook",
        "powerSGD_hook",
        "batched_powerSGD_hook",
        "_reducer_allreduce_and_upcast_hook",
    }
)
REPLICATING = "torch.nn.parallel.distributed"
SHARDING = "torch.distributed.optim.zero_redundancy_optimizer"


class SameGradients:
    """Knows which gradients are the same on every process."""

    def __init__(self) -> None:
        self._replicas: list[weakref.ref[Any]] = []
        self._averaged: frozenset[int] = frozenset()  # ids of parameters
        self._num_asked = 0
        self._has_looked = self._is_synced = False

    def backward_begins(self) -> None:
        """Note whether the gradients of this backward are averaged: not those within `no_sync`."""
        if not self._has_looked and (size := _num_processes()) > 1:
            self._look(size)
        if self._replicas:
            self._is_synced = all(
                replica.require_backward_grad_sync
                for each in self._replicas
                if (replica := each()) is not None
            )

    def hold(self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> bool:
        """Return whether all processes are about to make the same update with these parameters."""
        size = _num_processes()
        if size < 2:
            return True
        sharding: Any = sys.modules.get(SHARDING)
        if sharding is not None and isinstance(optimizer, sharding.ZeroRedundancyOptimizer):
            return False
        if any(distributed_tensor(p) is not None for p in parameters):
            return False
        trained = {id(p) for p in parameters if p.requires_grad}
        if not trained <= self._averaged:
            self._num_asked += 1
            if is_looked_at(self._num_asked):
                self._look(size)
        return trained <= self._averaged and self._is_synced and not self._is_joining()

    def _look(self, size: int) -> None:
        """Find the models that average their gradients over all processes."""
        module: Any = sys.modules.get(REPLICATING)
        if module is None:
            return
        kind = module.DistributedDataParallel
        found = [
            each
            for each in gc.get_objects()
            if issubclass(type(each), kind) and _averages(each, size)
        ]
        self._replicas = [weakref.ref(each) for each in found]
        self._averaged = frozenset(
            id(p)
            for each in found
            for name, p in each.module.named_parameters()
            if name not in each.parameters_to_ignore
        )
        self._has_looked = True

    def _is_joining(self) -> bool:
        """Return whether processes may run out of data before others, and then step no more."""
        return any(
            each._join_config.enable
            for reference in self._replicas
            if (each := reference()) is not None
        )


def _averages(replica: Any, size: int) -> bool:
    names = {getattr(hook, "__name__", "") for hook, _ in replica._comm_hooks}
    return replica.process_group.size() == size and names <= AVERAGING


def _num_processes() -> int:
    distributed: Any = sys.modules.get("torch.distributed.distributed_c10d")
    group = getattr(getattr(distributed, "GroupMember", None), "WORLD", None)
    return 1 if group is None else int(group.size())
