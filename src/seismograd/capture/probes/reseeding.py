"""Look whether the program sets the seed of torch's random numbers to the same number before each
step, and draws from there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from threading import get_ident
from types import CodeType, FrameType
from typing import Any

import torch

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.seed_log import SEEDS
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.group_settings import GroupSettings
from seismograd.capture.source.statements import EVALUATES
from seismograd.schema import FactKind
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import without_user_modes

# numbers that a DataLoader draws when it begins, for itself and for its sampler: no difference to
# a training whose epochs are one batch each. Dropout draws no more than one, the seed of another.
OF_LOADER = 4
MAX_LOADERS = 4
STOPS_GRADIENTS = frozenset({"no_grad", "inference_mode", "eval"})


@dataclass(slots=True)
class _Seen:
    """What there was at the last look at an optimizer, and in how many looks in a row each step
    had its seed.
    """

    num_made: int
    num_steps: int
    num: int
    num_changes: int
    times: int = 0
    since: int = -1


@dataclass(slots=True)
class Reseeding:
    """Looks at the first steps of an optimizer and at every tenth."""

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    settings: GroupSettings
    _seen: dict[int, _Seen] = field(default_factory=dict[int, _Seen])
    # DataLoaders that have begun since a seed, and the number of that
    _loaders: tuple[int, int] = (0, 0)
    _fresh: tuple[int, list[torch.Tensor]] = (-1, [])  # the states of a seed before it is used

    def epoch_begins(self, _: ThreadState, __: Any) -> None:
        """A DataLoader begins, and draws."""
        num, of = self._loaders
        self._loaders = (num + 1 if of == SEEDS.num else 1, SEEDS.num)

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Look whether there was a seed for each step since the last look."""
        seeds = SEEDS
        window = self.registry.known(optimizer)
        if window is None:
            return
        before = self._seen.get(window.index)
        now = _Seen(window.num_made, window.num_steps, seeds.num, seeds.num_changes)
        self._seen[window.index] = now
        if before is None or seeds.num == before.num:
            return
        # where visits are made in C, there is a look at the tenth steps only while one is to come
        self.settings.forget()
        if (
            before.num_made != now.num_made
            or not 0 < now.num_steps - before.num_steps <= now.num - before.num
            or before.num_changes != now.num_changes
            or seeds.is_undone
            or seeds.thread != get_ident()
            or not self._has_drawn(seeds.seed)
        ):
            return
        found = self._caller()
        if found is None:
            return
        now.times = before.times + 1
        now.since = before.since if before.times else self.facts.iteration
        if is_looked_at(now.times) and self.facts.has_room(FactKind.RESEEDED):
            self._report(window.index, now, *found)

    def _has_drawn(self, seed: int) -> bool:
        """Return whether torch's generator goes on from this seed, and numbers were drawn."""
        if _has_cuda() and not is_capturing():
            # on a device they are counted
            for each in torch.cuda.default_generators:
                if each.initial_seed() == seed and each.get_offset() > 0:
                    return True
        if torch.default_generator.initial_seed() != seed:
            return False
        with without_user_modes():
            if self._fresh[0] != seed:
                self._fresh = seed, _first_states(seed)
            state = torch.default_generator.get_state()
            num = self._loaders[0] if self._loaders[1] == SEEDS.num else 0
            expected = self._fresh[1][: OF_LOADER * num + 1]
            return not any(torch.equal(state, each) for each in expected)

    def _caller(self) -> tuple[CodeType, int] | None:
        """Return the script's code that sets the seed, or calls the function that is there for
        that, and where in it; `None` where what sets it evaluates, and then trains on as it may.
        """
        running: set[CodeType] = set()
        frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            running.add(frame.f_code)
            frame = frame.f_back
        found: tuple[CodeType, int] | None = None
        for code, at in SEEDS.chain:
            if not self.log.call_sites.is_of_script(code.co_filename):
                continue
            is_running = code in running
            if not is_running and (
                EVALUATES.search(code.co_name) or not STOPS_GRADIENTS.isdisjoint(code.co_names)
            ):
                return None
            if found is None and (is_running or "seed" not in code.co_name.lower()):
                found = code, at
            if is_running:
                break
        return found

    def _report(self, optimizer: int, seen: _Seen, code: CodeType, at: int) -> None:
        sites = self.log.call_sites
        site = sites.at(code.co_filename, _line(code, at), code.co_qualname)
        self.facts.report(
            FactKind.RESEEDED,
            site=site,
            optimizer=optimizer,
            seed=str(SEEDS.seed),
            times=seen.times,
            since=seen.since,
            text=sites.sites[site].text,
        )


def _has_cuda() -> bool:
    return torch.cuda.is_initialized()


def _first_states(seed: int) -> list[torch.Tensor]:
    """Return the states of a generator with this seed, and after each of the first numbers."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.empty((), dtype=torch.int32, device="cpu")
    states = [generator.get_state()]
    for _ in range(OF_LOADER * MAX_LOADERS):
        number.random_(generator=generator)
        states.append(generator.get_state())
    return states


def _line(code: CodeType, at: int) -> int:
    """Return the line of the instruction at this place."""
    lines = (line for begin, end, line in code.co_lines() if begin <= at < end and line)
    return next(lines, code.co_firstlineno)
