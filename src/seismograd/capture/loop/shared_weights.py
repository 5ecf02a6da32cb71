"""Which optimizers hold the same weights, or weights that are copies of those of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.schema import StepFlag
from seismograd.tensors.device_scalars import Scalar


def is_copy_of_stepped(
    thread_state: ThreadState, held: Sequence[torch.Tensor], windows: Iterable[OptimizerWindow]
) -> bool:
    """Return whether these are a copy of what an optimizer has just stepped on: they were given its
    weights then, as those of a worker of A3C or of a model in float16.
    """
    stepped = {
        step.optimizer
        for step in thread_state.iteration.steps
        if step.flags is not StepFlag.NO_BACKWARD
    }
    shapes = Counter(each.shape for each in held)
    return any(
        window.index in stepped and Counter(each.shape for each in window.held()) == shapes
        for window in windows
    )


def evaluated_first(window: OptimizerWindow, repeated: Sequence[OptimizerWindow]) -> Scalar | None:
    """Return the loss that a running step which evaluates again has evaluated before, where it is
    over the same parameters and so makes the step of this optimizer within its own.
    """
    for other in repeated:
        if other.losses:
            ids = set(map(id, other.held()))
            if all(id(parameter) in ids for parameter in window.held()):
                return other.losses[0]
    return None
