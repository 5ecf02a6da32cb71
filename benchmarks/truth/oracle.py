"""Read the traces of a mutant and of its base: what an oracle asks of them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

GRAD, WEIGHT, CHANGE, MOVED, SPREAD, IDLE = range(6)


def number(value: Any) -> float:
    return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Trace:
    """What the witness wrote down of one run."""

    data: dict[str, Any]

    @staticmethod
    def read(path: Path) -> Trace:
        empty = {"events": [], "names": {}, "modules": [], "frozen": []}
        return Trace({**empty, **json.loads(path.read_text())})

    @property
    def error(self) -> str:
        return self.data["error"]

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return self.data["events"]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["e"] in kinds]

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """The steps of the optimizer that was made last of those that stepped often.

        All steps when optimizers are made again and again.
        """
        by: dict[int, list[dict[str, Any]]] = {}
        for step in self.of("step"):
            by.setdefault(step["opt"], []).append(step)
        often = [opt for opt, steps in by.items() if len(steps) >= 20]
        return by[max(often)] if often else self.of("step")

    @cached_property
    def held(self) -> set[int]:
        """Every tensor that some optimizer steps."""
        return {int(i) for step in self.of("step") for i in step["params"]}

    @cached_property
    def reached(self) -> set[int]:
        """Every leaf that some backward reaches, from the middle of the run on."""
        backwards = self.of("backward")
        return {i for b in backwards[len(backwards) // 2 :] for i in b["leaves"]}

    @cached_property
    def losses(self) -> list[float]:
        return [number(b["loss"]) for b in self.of("backward")]

    def name(self, index: int | str) -> str:
        return self.data["names"].get(str(index), "")

    def index_of(self, name: str) -> str:
        return next((i for i, n in self.data["names"].items() if n == name), "")

    def series(self, index: int | str, what: int) -> list[float]:
        """Return a number of one parameter over the steps; NaN where there was none."""
        return [
            number(s["params"][str(index)][what]) for s in self.steps if str(index) in s["params"]
        ]

    def total(self, step: dict[str, Any], what: int = GRAD) -> float:
        """Return the norm over all parameters of a step."""
        return math.sqrt(
            sum(number(p[what]) ** 2 for p in step["params"].values() if p[what] is not None)
        )

    @cached_property
    def grad_norms(self) -> list[float]:
        return [self.total(s) for s in self.steps]

    @cached_property
    def finite(self) -> bool:
        return all(map(math.isfinite, self.losses)) and all(map(math.isfinite, self.grad_norms))

    def learned(self) -> float:
        """Return the mean loss of the last tenth over that of the first."""
        n = max(3, len(self.losses) // 10)
        first, final = statistics.fmean(self.losses[:n]), statistics.fmean(self.losses[-n:])
        return final / first if first else math.inf

    def final(self) -> float:
        n = max(3, len(self.losses) // 10)
        return statistics.fmean(self.losses[-n:])

    def between_steps(self) -> list[list[str]]:
        """Return the kinds of events between successive steps of the main optimizer."""
        if not self.steps:
            return []
        opt, gaps, open_ = self.steps[-1]["opt"], [], []
        held = {int(i) for i in self.steps[-1]["params"]}
        for e in self.events:
            if e["e"] == "step" and e["opt"] == opt:
                gaps.append(open_)
                open_ = []
            elif (
                (e["e"] == "backward" and held & set(e["leaves"]))
                or (e["e"] == "zero_grad" and e["opt"] in (opt, -1))
                or e["e"] in ("clip", "unscale", "scheduler")
            ):
                open_.append(e["e"])
        return gaps

    def windows(self) -> list[int]:
        """Return the number of backwards before each step."""
        return [gap.count("backward") for gap in self.between_steps()]


Oracle = Callable[[Trace, Trace], "tuple[str, ...] | None"]


def share(values: list[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def shows(holds: bool, *names: str) -> tuple[str, ...] | None:
    """Return the names of the culprits when the fault shows, None when it does not."""
    return tuple(n for n in names if n) if holds else None


def oracle(test: Callable[[Trace, Trace], bool]) -> Oracle:
    """Make an oracle of a test that names no parameter."""
    return lambda mutant, base: shows(test(mutant, base))


def names_of(trace: Trace, indices: set[int]) -> tuple[str, ...]:
    return tuple(sorted({trace.name(i) for i in indices} - {""}))
