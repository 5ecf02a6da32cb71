"""What a watched step of a small net takes where a part of it is left out: hooks with nothing
behind them, visits that do nothing, all but the kernel, and so on; and which steps of ten cost
more.

    python -m benchmarks.left_out
    python -m benchmarks.left_out --turns 20 --visits

Bare steps, steps with a norm of each gradient and steps with each of the recordings take turns in
one process, in an order drawn anew each time: the training empties the caches in between, so a part
by itself in a loop says little. Printed are the microseconds that nine steps in ten exceed, and how
much more than the bare step that is, then the processor time of a step with everything in it that
does not happen at each. `--visits` prints the medians of the visits, by the step of ten, and how
much longer the steps of a hundred take in which more is looked at.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.sections import SETTLE, WARM, Times, low, train
from seismograd.bench.contenders import Contender, WatchedTraining
from seismograd.bench.models import MODELS, Workload
from seismograd.capture.event_visits import EventVisits
from seismograd.capture.events import EventName, Listener
from seismograd.capture.hub import HUB
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.steady import extension
from seismograd.run_outlet import MAX_BATCH_ROWS
from seismograd.settings.levels import NORMAL

TURN = MAX_BATCH_ROWS  # steps: in each turn rows are made once, of as many
EVENTS = ("zero_grad_ends", "backward_begins", "backward_ends", "step_begins", "step_ends")
USUAL = [step for step in range(100) if 2 <= step % 10 <= 8]
LOOKS = {
    0: "the signals of the modules",
    10: "the state of the optimizer",
    20: "samples alone",
    9: "the probe",
}
BARE, NORMS, WHOLE, BY_EXTENSION = "bare", "norm loop", "whole, by Python", "whole, in C"


class DeafListener(Listener):
    """Has the hooks installed, and does nothing."""

    def __init__(self) -> None:
        def nothing(*_: object) -> None:
            pass

        self._nothing = nothing

    def handler(self, event: EventName) -> Callable[..., None]:
        return self._nothing

    def backward_begins(self, tensors: Any) -> None: ...
    def backward_ends(self) -> None: ...
    def zero_grad_ends(self, owner: Any) -> None: ...
    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None: ...
    def step_ends(self, optimizer: Any) -> None: ...


class IdleListener(DeafListener):
    """Has what a session has around each visit, with nothing in it."""

    def __init__(self) -> None:
        super().__init__()
        self._visits = EventVisits(ErrorGuard(self._failed), lambda: None)

    def _failed(self, part: str, error: BaseException) -> None: ...

    def dispatcher(self, event: EventName, others: Any, keeps: Any) -> Callable[..., None] | None:
        if event not in EVENTS:
            return None
        return self._visits.dispatcher(event, lambda *_: True, (), others, keeps)


class ListeningTraining(Contender):
    """A training with a listener of this script's."""

    def __init__(self, workload: Workload, listener: Listener) -> None:
        super().__init__(workload)
        self._listener = listener

    def begin(self) -> None:
        HUB.attach(self._listener)

    def end(self) -> None:
        HUB.detach(self._listener)


def visits_of(session: Any) -> dict[str, Any]:
    """Return the short ways by their events."""
    return {event: short.__self__ for event, short in session._handlers.short_ways.by_event.items()}


def without_kernel(session: Any) -> None:
    """Have the numbers of the first step in each that is not sampled."""
    reader = visits_of(session)["step_begins"]._reader
    measure, known = reader._measure_again, list[Any]()

    def again(gradients: Any, columns: Any) -> Any:
        found = known[0] if known else measure(gradients, columns)
        if found is not None and not known:
            known.append(found)
        return found

    reader._measure_again = again


def without_lines(session: Any) -> None:
    """Look up no line of the script once the three of a step are known."""
    sites, look_up = list[int](), session._log.call_sites.here

    def here(skip: int = 1) -> int:
        if len(sites) < 3 * WARM:
            sites.append(look_up(skip + 1))
            return sites[-1]
        sites.append(sites.pop(-3))
        return sites[-1]

    session._log.call_sites.here = here


def without_looks_at_the_loss(session: Any) -> None:
    """Ask nothing of the graph of a loss."""

    class Nothing:
        def look(self, *_: object) -> None: ...
        def backward_begins(self, *_: object) -> None: ...

    inspection = visits_of(session)["backward_begins"]._backwards.inspection
    inspection.losses = inspection.births = Nothing()


def without_overwritten(session: Any) -> None:
    """Compare no weights with what the last step left of them."""

    class Nothing:
        def step_begins(self, *_: object) -> None: ...
        def step_ends(self, *_: object) -> None: ...

    visits_of(session)["step_begins"]._overwritten = Nothing()


def without_rows(session: Any) -> None:
    """Make no rows, and so nothing for the other thread."""
    queue = session._iteration_queue

    class Last(list[Any]):
        def __iadd__(self, more: Any) -> Any:
            self[:] = more
            queue._num_together = 1 << 30
            return self

    queue._pending.waiting = Last()


PARTS: dict[str, Callable[[Any], None]] = {
    "no kernel": without_kernel,
    "no lines": without_lines,
    "no looks at the loss": without_looks_at_the_loss,
    "no comparison of weights": without_overwritten,
    "no rows": without_rows,
    WHOLE: lambda _: None,
}


def contenders_of(workload: Workload, folder: Path) -> dict[str, Contender]:
    """Return what takes turns."""
    found = {
        BARE: Contender(workload),
        NORMS: Contender(workload),
        "hooks only": ListeningTraining(workload, DeafListener()),
        "empty visits": ListeningTraining(workload, IdleListener()),
    }
    for number, (name, leave_out) in enumerate(PARTS.items()):
        with extension.without_extension():  # of its visits nothing can be left out
            watched = WatchedTraining(workload, NORMAL, folder / str(number))
        leave_out(watched._recording._session)  # pyright: ignore[reportPrivateUsage]
        found[name] = watched
    found[BY_EXTENSION] = WatchedTraining(workload, NORMAL, folder / "extension")
    return found


def compare(workload: Workload, folder: Path, num_turns: int) -> None:
    """Print the table of what is left out."""
    contenders = contenders_of(workload, folder)
    times: dict[str, Times] = {name: defaultdict(list) for name in contenders}
    processor: defaultdict[str, list[float]] = defaultdict(list)
    for contender in contenders.values():
        contender.begin()
        train(workload, WARM, defaultdict(list))
        contender.end()
    names = list(contenders)
    for _ in range(num_turns):
        random.shuffle(names)
        for name in names:
            contenders[name].begin()
            train(workload, SETTLE, defaultdict(list), name == NORMS)
            began = time.thread_time()
            train(workload, TURN, times[name], name == NORMS)
            processor[name].append((time.thread_time() - began) / TURN)
            contenders[name].end()
    for contender in contenders.values():
        contender.close()
    sections = list(times[BARE])
    print(f"| µs | {' | '.join(sections)} | processor time |\n|{'---|' * (len(sections) + 2)}")
    for name in contenders:
        cells = [(low(times[name][each]), low(times[BARE][each])) for each in sections]
        cells.append((low(processor[name]), low(processor[BARE])))
        print(f"| {name} | {' | '.join(f'{now:.0f} ({now - bare:+.0f})' for now, bare in cells)} |")


def by_turn(workload: Workload, folder: Path, num_steps: int) -> None:
    """Print what each visit takes, by the step of ten, and how much longer the steps of a hundred
    are in which more is looked at.
    """
    whole: defaultdict[int, list[float]] = defaultdict(list)  # by the step of a hundred
    taken: defaultdict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in range(10)])
    watched = WatchedTraining(workload, NORMAL, folder / "visits")
    watched.begin()
    train(workload, WARM, defaultdict(list))
    number = 0

    def timed(event: str) -> Callable[..., None]:
        dispatch = getattr(HUB, event)

        def call(*args: object) -> None:
            began = time.perf_counter()
            dispatch(*args)
            taken[event][number % 10].append(time.perf_counter() - began)

        return call

    for event in EVENTS:
        setattr(HUB, event, timed(event))
    for number in range(WARM, WARM + num_steps):
        times: Times = defaultdict(list)
        train(workload, 1, times)
        whole[number % 100] += times["together"]
    watched.end()  # makes the attributes of the hub anew
    watched.close()
    print(f"| µs | {' | '.join(map(str, range(10)))} |\n|{'---|' * 11}")
    for event, turns in taken.items():
        print(f"| {event} | {' | '.join(f'{1e6 * statistics.median(t):.0f}' for t in turns)} |")
    usual = statistics.median(t for step in USUAL for t in whole[step])
    for step, what in LOOKS.items():
        more = 1e6 * (statistics.median(whole[step]) - usual)
        print(f"step {step} of a hundred, with {what}: {more:+.0f} µs, of {1e6 * usual:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(MODELS), default="mlp")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--visits", action="store_true", help="what each visit takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload = MODELS[options.model]()
    with tempfile.TemporaryDirectory() as folder:
        if options.visits:
            by_turn(workload, Path(folder), options.turns * TURN)
        else:
            compare(workload, Path(folder), options.turns)


if __name__ == "__main__":
    main()
