"""The collectives of `torch.distributed`, under both names that torch gives them: the patch, and
what a call means: gradients that are reduced by hand are ready only after it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import wraps
from importlib import import_module
from typing import Any, cast

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.loop.gradient_reductions import MAX_SCALARS, GradientReductions
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.gradient_reader import GradientReader

# Not `isend` and `irecv`: torch compares them with what a script may have imported before.
NAMES = (
    "all_reduce",
    "all_reduce_coalesced",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_single",
    "reduce_scatter_tensor",
    "all_gather",
    "all_gather_single",
    "all_gather_into_tensor",
    "all_to_all",
    "all_to_all_single",
    "send",
    "batch_isend_irecv",
)
# Since torch 2.13 the old name calls the new one, which is heard then.
RENAMED = {
    "reduce_scatter_tensor": "reduce_scatter_single",
    "all_gather_into_tensor": "all_gather_single",
}


class CollectiveHooks:
    """Handles collectives: remembers them, and reads gradients that were reduced before a norm of
    them is.
    """

    def __init__(
        self, registry: OptimizerRegistry, reader: GradientReader, reductions: GradientReductions
    ) -> None:
        self._registry, self._reader, self._reductions = registry, reader, reductions

    def collective_ends(
        self, thread_state: ThreadState, name: str, tensors: list[torch.Tensor], numel: int
    ) -> None:
        """Handle a collective outside of a backward.

        A few scalars after the gradients were reduced are perhaps a norm to clip by hand with, so
        the gradients are ready now.
        """
        if 0 < numel <= MAX_SCALARS and thread_state.loss is None:
            for window in self._registry.windows:
                if (
                    window.num_backwards
                    and not (window.stepping or window.clips)
                    and window.thread_state in (None, thread_state)
                    and not self._reductions.are_gradients(window, tensors)
                    and self._reader.take_reduction(window)
                ):
                    self._reader.read(thread_state, window)
        self._reductions.collective_ends(name, tensors, numel, in_backward=False)


def _tensors(given: Any) -> Iterator[torch.Tensor]:
    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for each in given:  # pyright: ignore[reportUnknownVariableType]
            yield from _tensors(each)
    elif isinstance(tensor := getattr(given, "tensor", None), torch.Tensor):
        yield tensor  # of a P2POp


def _wrap(hub: EventHub, original: Any, name: str) -> Any:
    @wraps(original)
    def collective(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        is_heard = hub.listening and threading.get_ident() not in hub.unscaling
        if is_heard and not torch.compiler.is_compiling():
            given = [list(_tensors(each)) for each in (*args[:2], *kwargs.values())]
            hub.collective_ends(
                name,
                [tensor for each in given for tensor in each],
                max((sum(tensor.numel() for tensor in each) for each in given), default=0),
                torch._C._current_graph_task_id() != -1,  # pyright: ignore
            )
        return result

    return collective


def install(hub: EventHub) -> Undo:
    """Report every collective to the hub, once it has been called."""
    if not torch.distributed.is_available():
        return undo_all([])
    distributed: Any = sys.modules["torch.distributed.distributed_c10d"]
    functions = cast(dict[str, Any], vars(distributed))
    if distributed.GroupMember.WORLD is not None or os.environ.get("WORLD_SIZE", "1") != "1":
        # It notes the functions that dynamo may compile, which must be torch's own.
        import_module("torch.distributed._functional_collectives")
    undos: list[Undo] = []
    for name in NAMES:
        original = functions.get(name)
        if original is None or RENAMED.get(name) in functions:
            continue
        wrapper = _wrap(hub, original, name)
        undos += [
            replace(owner, name, wrapper)
            for owner in (distributed, torch.distributed)
            if vars(owner).get(name) is original
        ]
    return undo_all(undos)
