"""When gradients are read, and with what: the ready ones of a window, or what they have become since."""

from __future__ import annotations

from seismograd.listen.iteration import Reading
from seismograd.listen.lanes import Lane
from seismograd.listen.log import Log
from seismograd.listen.reading import Elements, known_plan, plan, read
from seismograd.listen.registry import Registry
from seismograd.listen.turns import Turns
from seismograd.listen.windows import Window
from seismograd.measure.backend import Backend
from seismograd.schema import SAMPLE_EVERY


class Reader:
    """Reads the gradients of one optimizer. `sampling`: with the sampled statistics, every so often."""

    def __init__(self, backend: Backend, elements: Elements, registry: Registry, log: Log, turns: Turns, sampling: bool) -> None:
        self._backend, self._elements = backend, elements
        self._registry, self._log, self._turns = registry, log, turns
        self._sampling = sampling

    def read(self, lane: Lane, window: Window) -> None:
        """Read the ready gradients of a window."""
        sample = self._sampling and window.num_steps % self._turns.thinning.sample_every == 0
        window.ready = self.reading(lane, window, sample, full=window.num_steps % self._turns.thinning.full_every == 0)

    def reading(self, lane: Lane, window: Window, sample: bool, full: bool = True) -> Reading:
        """The gradients of a window as they are now; unless `full`, only whether they are finite."""
        roster, held = self._registry.roster, window.held()
        if window.num_steps % SAMPLE_EVERY == 1:
            roster.look_for_thawed()
        planned = known_plan(window, roster, held) if window.clearing.parameters else None
        if planned is None:
            self._registry.learn(window)
            planned = plan(window, roster, held)
        window.num_parameters = len(held)
        running = [] if lane.loss is None or any(loss is lane.loss for loss in window.losses) else [lane.loss]
        if running and window.loss_scale is None:
            window.grad_scale = window.loss_scale = lane.loss_scale
        waiting = self._log.take_waiting()
        return read(window, planned, held, roster, self._backend, self._elements, waiting, running, sample, full)
