"""What is known of one learning rate scheduler."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.probes.schedule_plan import Plan

LOW = 1e-4  # of the highest rate


@dataclass(slots=True)
class Metric:
    """The values given to a scheduler that watches a metric."""

    mode: str
    first: float = math.nan
    last: float = math.nan
    lowest: float = math.inf
    highest: float = -math.inf
    falls: int = 0
    rises: int = 0
    reductions: int = 0

    def take(self, value: float) -> None:
        """Add another value."""
        if math.isnan(self.first):
            self.first = value
        self.falls += value < self.last
        self.rises += value > self.last
        self.last = value
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)


@dataclass(slots=True)
class Idleness:
    """Calls in a row between which its optimizer, which was stepped before, has made no step."""

    calls: int = 0
    num_steps: int = -1  # of its optimizer, at the last call
    lr: float = math.nan  # before the first of them
    # steps of the other optimizers at the first of them, by their indices
    others: dict[int, int] = field(default_factory=dict[int, int])
    # one that has stepped on the same parameters since
    successor: OptimizerWindow | None = None

    def num_steps_of(self, window: OptimizerWindow) -> int:
        """Return how many steps another optimizer has made since."""
        return window.num_steps - self.others.get(window.index, 0)

    def called(self, num_steps: int, lr: float, windows: Iterable[OptimizerWindow]) -> None:
        """Note a call; `lr` is the rate before it."""
        if num_steps != self.num_steps or not num_steps:
            self.calls, self.num_steps, self.successor = 0, num_steps, None
            return
        self.calls += 1
        if self.calls == 1:
            self.lr, self.others = lr, {each.index: each.num_steps for each in windows}


@dataclass(slots=True)
class WatchedScheduler:
    """One scheduler."""

    number: int
    kind: str
    site: int
    key: tuple[int, str, int]  # its optimizer, its class, its line
    alive: weakref.ref[Any]
    plan: Plan
    metric: Metric | None
    window: OptimizerWindow | None
    steps_before: int  # of its optimizer, while another scheduler had it
    begun_at: int  # steps of its optimizer, when it was first stepped
    done_before: int  # calls that another one made, whose state it was given
    first_backward: int  # how many there were at its first call, and at its last one
    last_backward: int = 0
    calls: int = 0
    highest: float = -math.inf
    lr: float = math.nan
    zero_since: int = -1
    zero_iteration: int = -1
    low_since: int = -1
    low_iteration: int = -1
    is_superseded: bool = False
    base: float = math.nan  # the rate that a function of the script is a factor of
    top: float = -math.inf  # the highest rate that it has set, and at which call that was
    top_call: int = 0
    others: str = ""  # optimizers of the same parameters that step while its own does not
    idle: Idleness = field(default_factory=Idleness)

    def reached(self, rate: float) -> None:
        """Note a rate that the scheduler has set."""
        if rate > self.top:
            self.top, self.top_call = rate, self.calls

    def has_set(self, rate: float, iteration: int) -> None:
        """Note the rate after a call, and since when it is zero or very low."""
        self.lr = rate
        self.highest = max(self.highest, rate)
        self.reached(rate)
        if rate != 0:
            self.zero_since = -1
        elif self.zero_since < 0:
            self.zero_since, self.zero_iteration = self.calls, iteration
        if rate > LOW * self.highest:
            self.low_since = -1
        elif self.low_since < 0:
            self.low_since, self.low_iteration = self.calls, iteration

    def num_steps(self) -> int:
        """Return how many steps its optimizer has made."""
        return 0 if self.window is None else self.window.num_steps

    def num_backwards(self) -> int:
        """Return how many there were while it was in use: those before its first call are taken to
        be as many as between two calls.
        """
        during = self.last_backward - self.first_backward
        return during + round(during / (self.calls - 1)) if self.calls > 1 else self.last_backward


@dataclass(slots=True)
class MadeScheduler:
    """One that was created and has not been stepped since, and that set the rate to zero."""

    kind: str
    site: int
    optimizer: weakref.ref[Any]
    iteration: int
