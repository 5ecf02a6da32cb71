"""What the observer saw of a run, put together over its processes, in the words of a record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.real_programs.programs import Program
from benchmarks.real_programs.running import Line, Outcome


@dataclass(frozen=True)
class Truth:
    """What a record of it must say."""

    num_steps: int
    names: frozenset[str]
    norms: list[dict[str, float]]
    """For each iteration, what was consumed of each parameter."""
    lrs: list[float]
    """For each iteration, the first group's rate of the optimizer that stepped first."""


def truth_of(program: Program, outcome: Outcome) -> Truth:
    """Put together what the processes of a run saw; all of them make the same steps."""
    ranks = [outcome.lines(rank) for rank in range(program.ranks)]
    names = [_names(program, lines) for lines in ranks]
    steps = [[line for line in lines if line["kind"] == "step"] for lines in ranks]
    num = steps[0][-1]["iteration"] + 1 if steps[0] else 0
    norms: list[dict[str, float]] = [{} for _ in range(num)]
    lrs = [math.nan] * num
    for of_ranks in zip(*steps, strict=True):
        iteration = of_ranks[0]["iteration"]
        if math.isnan(lrs[iteration]):
            lrs[iteration] = of_ranks[0]["lr"]
        for rank, step in enumerate(of_ranks):
            for key, norm in step["norms"].items():
                name, is_split = names[rank][int(key)]
                if is_split or rank == 0:  # what is not split is the same everywhere
                    norms[iteration][name] = math.hypot(norms[iteration].get(name, 0.0), norm)
    known = frozenset(name for name, _ in names[0].values())
    if not known:  # no optimizer held any
        ends = [line for line in ranks[0] if line["kind"] == "end"]
        known = frozenset(name for end in ends for name in end["names"])
    return Truth(num or program.by_hand, known, norms, lrs)


def _names(program: Program, lines: list[Line]) -> dict[int, tuple[str, bool]]:
    """Name, and whether it is split over the processes, for each key of the observer."""
    held: dict[int, list[Line]] = {}
    for line in lines:
        if line["kind"] == "parameter":
            held.setdefault(line["optimizer"], []).append(line)
    names: dict[int, tuple[str, bool]] = {}
    for number, parameters in held.items():
        prefixes = program.prefixes[number] if number < len(program.prefixes) else ("",)
        for position, line in enumerate(parameters):
            prefix = prefixes[position * len(prefixes) // len(parameters)]
            names[line["key"]] = (f"{prefix}{line['name']}", line["split"])
    return names
