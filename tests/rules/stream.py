"""A training loop as a string: the record that it leaves, with flags as a session sets them.

    stream("z b s " * 20)                     # zero_grad, backward, step
    stream("b b b b s z " * 9, total=1 / 4)   # four quarters of a mean loss

`z` zero_grad, `b` backward, `B` backward of another line, `c` clip_grad_norm_, `s` step. Each
letter has a line of its own in train.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seismograd.schema import (
    AnyArray,
    EventFlag,
    EventKind,
    Optimizer,
    RowBatch,
    Site,
    State,
    StepFlag,
)
from tests.synthetic import block, event, make_parameters

LINES = {"z": 11, "b": 12, "B": 13, "c": 14, "s": 15}
SITES = tuple(Site("train.py", line, "train") for line in LINES.values())
NUMBERS = {letter: number for number, letter in enumerate(LINES)}

Numbers = float | Sequence[float]


def at(letter: str) -> str:
    """`train.py:12` of a call."""
    return f"train.py:{LINES[letter]}"


def stream(
    calls: str,
    *,
    count: Numbers = 32,
    total: Numbers = 1.0,
    loss: Numbers = 1.0,
    norm: float = 0.5,
    limit: float = 1.0,
    scale: float = 1.0,
    backward_flags: int = 0,
    changed: float | None = None,
    kind: str = "SGD",
    num_parameters: int = 4,
) -> RowBatch:
    """One optimizer. `total`, `count` and `loss` are of each backward in turn (the last goes
    on); `changed`: applied / ready gradient.
    """
    given = [letter for letter in calls if not letter.isspace()]
    events: list[AnyArray] = []
    rows: list[tuple[int, int, int]] = []  # flags, backwards, state
    open_backwards, had, used, stepped, backward, since = 0, False, False, False, 0, 0
    for letter in given:
        if (letter in "bB" and stepped) or (letter == "s" and stepped):
            stepped = False
        iteration = len(rows) - 1 if stepped else len(rows)
        fields: dict[str, float] = {"site": NUMBERS[letter], "touched": 1, "optimizer": 0}
        over = EventFlag.EMPTY if not had else EventFlag.USED if used else EventFlag.NONE
        if letter in "bB":
            each_count, each_total, each_loss = (
                _pick(numbers, backward) for numbers in (count, total, loss)
            )
            rescaled = EventFlag.RESCALED if each_total not in (1.0, each_count) else 0
            flags = backward_flags | rescaled
            events.append(
                event(
                    EventKind.BACKWARD,
                    iteration,
                    value=each_loss,
                    count=each_count,
                    weight=each_total / each_count,
                    scale=scale,
                    **fields | {"flags": flags, "optimizer": -1},
                )
            )
            backward, had, used, open_backwards, since = (
                backward + 1,
                True,
                False,
                open_backwards + 1,
                since + 1,
            )
        elif letter == "z":
            events.append(
                event(EventKind.ZERO_GRAD, iteration, detail=1, **fields | {"flags": over})
            )
            had, used, since = False, False, 0
        elif letter == "c":
            value = norm * scale if had else 0.0
            events.append(
                event(
                    EventKind.CLIP,
                    iteration,
                    value=value,
                    limit=limit,
                    scale=scale,
                    detail=1,
                    **fields | {"flags": over},
                )
            )
        else:
            events.append(
                event(EventKind.STEP, iteration, value=0.1, limit=0.1, scale=scale, **fields)
            )
            flags = int(
                StepFlag.NO_BACKWARD
                if not had or used
                else StepFlag.CHANGED
                if changed is not None
                else 0
            )
            rows.append((flags, open_backwards, int(State.FINITE if had else State.ABSENT)))
            stepped, used, open_backwards, since = True, had, 0, 0
    iterations = len(rows)
    flags_of, backwards, state = (np.array([row[index] for row in rows]) for index in range(3))
    norms = np.full((iterations, num_parameters), norm / np.sqrt(num_parameters))
    return block(
        norms,
        parameters=make_parameters(num_parameters),
        state=np.repeat(state[:, None], num_parameters, axis=1),
        values={"applied_norm": norms * (1.0 if changed is None else changed)},
        events=[each for each in events if each["iteration"] < iterations],
        sites=SITES,
        optimizers=(Optimizer(0, kind, "optimizer"),),
        flags=flags_of,
        num_backwards=backwards,
        scale=scale,
        applied_norm=norm * (1.0 if changed is None else changed),
    )


def _pick(numbers: Numbers, index: int) -> float:
    return (
        float(numbers)
        if isinstance(numbers, int | float)
        else float(numbers[min(index, len(numbers) - 1)])
    )
