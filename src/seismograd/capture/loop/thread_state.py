"""What is under way in one thread of the training: two threads may train two models at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import torch

from seismograd.capture.loop.iteration import CapturedEvent, GradientReading, Iteration
from seismograd.schema import EventFlag
from seismograd.tensors.device_scalars import Scalar


@dataclass(frozen=True, slots=True)
class RunningClip:
    """A clip that is running: the ids of its parameters, what is special about it, what the
    gradients are still multiplied by.
    """

    ids: frozenset[int] = frozenset()
    flags: EventFlag = EventFlag.NONE
    scale: Scalar | None = None
    # made just now, before it changes anything
    readings: list[GradientReading] = field(default_factory=list[GradientReading])


@dataclass(slots=True)
class ThreadState:
    """The iteration of a thread, and the call that it is inside of."""

    iteration: Iteration = field(default_factory=Iteration)
    loss: Scalar | None = None  # of the backward that is running
    captured: CapturedEvent | None = None  # its event
    last_operation: int = -1  # number of the last operation of its graph
    loss_scale: Scalar | None = None  # told by GradScaler.scale, for the next backward
    clipping: RunningClip = field(default_factory=RunningClip)  # the clip that is running
    now_s: float = 0.0  # when the call that is being dealt with was heard, by `time.perf_counter`
    turned_s: float = 0.0  # when its last iteration was over, by the same

    def broken_off(self) -> None:
        """The program left the call that is running by an exception."""
        self.loss = self.captured = self.loss_scale = None
        self.clipping = RunningClip()


class ThreadStates:
    """The lanes by thread. A hook that autograd runs on a thread of its own belongs to the
    backward that runs it.
    """

    def __init__(self) -> None:
        self._by_thread: dict[int, ThreadState] = {}

    def here(self) -> ThreadState:
        """The lane of the calling thread."""
        thread = threading.get_ident()
        thread_state = self._by_thread.get(thread)
        if thread_state is None:
            thread_state = self._running() or self._by_thread.setdefault(
                thread, ThreadState(turned_s=time.perf_counter())
            )
        return thread_state

    def all(self) -> list[ThreadState]:
        """Every lane there has been."""
        return list(self._by_thread.values())

    def num_at_work(self, thread_state: ThreadState) -> int:
        """How many threads have trained during the iteration of this lane, which is over now:
        their times run side by side.
        """
        since, thread_state.turned_s = thread_state.turned_s, thread_state.now_s
        return max(1, sum(each.now_s >= since for each in self._by_thread.values()))

    def _running(self) -> ThreadState | None:
        """Inside a backward but on a thread that never called one: autograd's own, so the lane
        is that of the one backward that runs.
        """
        if torch._C._current_graph_task_id() == -1:  # pyright: ignore
            return None
        running = [
            thread_state
            for thread_state in self._by_thread.values()
            if thread_state.loss is not None
        ]
        return running[0] if len(running) == 1 else None
