"""State per thread of the training: two threads may train two models at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from seismograd.capture.loop.iteration import CapturedEvent, GradientReading, Iteration
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import EventFlag
from seismograd.tensors.device_scalars import Scalar


@dataclass(frozen=True, slots=True)
class RunningClip:
    """A running clip: the ids of its parameters, its options, and the factor the gradients are
    still multiplied by.
    """

    ids: frozenset[int] = frozenset()
    flags: EventFlag = EventFlag.NONE
    scale: Scalar | None = None
    # read just now, before the clip changes anything
    readings: list[GradientReading] = field(default_factory=list[GradientReading])

    def norms(
        self, parameters: Sequence[torch.Tensor], parameter_table: ParameterTable
    ) -> list[float | None]:
        """Return the norms of these gradients as just read, still scaled; `None` where they were
        not.
        """
        norms: dict[int, float] = {}
        for reading in self.readings:
            reading.settle()
            measured = ~np.isnan(reading.values["nonfinite"])
            norms.update(
                zip(
                    reading.columns[measured].tolist(),
                    reading.values["grad_norm"][measured].tolist(),
                    strict=True,
                )
            )
        return [
            norms.get(parameter_table.column(p)) if p in parameter_table else None
            for p in parameters
        ]


NO_CLIP = RunningClip()  # shared: nothing is read for it


@dataclass(slots=True)
class ThreadState:
    """The iteration of a thread, and the call that it is inside of."""

    iteration: Iteration = field(default_factory=Iteration)
    loss: Scalar | None = None  # of the running backward
    captured: CapturedEvent | None = None  # its event
    last_operation: int = -1  # number of the last operation of its graph
    loss_scale: Scalar | None = None  # set by GradScaler.scale, for the next backward
    clipping: RunningClip = NO_CLIP  # the running clip
    now_s: float = 0.0  # when the current call was intercepted, by `time.perf_counter`

    def broken_off(self) -> None:
        """Note that the program left the running call by an exception."""
        self.loss = self.captured = self.loss_scale = None
        self.clipping = NO_CLIP


class ThreadStates:
    """The states by thread. A hook that autograd runs on its own thread belongs to the backward
    that runs it.
    """

    def __init__(self) -> None:
        self.by_thread: dict[int, ThreadState] = {}

    def here(self) -> ThreadState:
        """Return the state of the calling thread."""
        thread = threading.get_ident()
        thread_state = self.by_thread.get(thread)
        if thread_state is None:
            thread_state = self._running() or self.by_thread.setdefault(thread, ThreadState())
        return thread_state

    def all(self) -> list[ThreadState]:
        """Return the state of every thread so far."""
        return list(self.by_thread.values())

    def _running(self) -> ThreadState | None:
        """Return the state of the one running backward, when called inside a backward on a thread
        that never started one: autograd's own.
        """
        if torch._C._current_graph_task_id() == -1:  # pyright: ignore
            return None
        running = [
            thread_state
            for thread_state in self.by_thread.values()
            if thread_state.loss is not None
        ]
        return running[0] if len(running) == 1 else None
