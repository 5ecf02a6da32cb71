"""Random trainings, written and compared: parameters come and go, states and numbers are of
every kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from seismograd.pipeline.batch import take_batches
from seismograd.printable import printable
from seismograd.record.reader import Run
from seismograd.record.writer import Writer
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    EventKind,
    Finding,
    Note,
    Optimizer,
    Parameter,
    RowBatch,
    Site,
    State,
    concatenate,
    no_samples,
    recorded,
)
from tests import synthetic
from tests.single_rows import SingleRow, single_rows

NAMES = ("embed.weight", "a.weight", "a.bias", "b.weight", "head")
SITES = (
    *synthetic.SITES,
    Site("训练.py", 3, "<module>"),
    Site(printable("od\udcffd\n.py"), 4, "f"),
)
OPTIMIZERS = (*synthetic.OPTIMIZERS, Optimizer(1, "AdamW", "adamw"))
SPECIAL = np.array(
    [0.0, -0.0, np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-300, 5e-324, 1.5, 4e9, 2.0**60]
)
ELEMENTS = ("a.weight[0,0]", "a.bias[1]")


@dataclass(frozen=True)
class Training:
    """What a session would hand over."""

    rows: tuple[RowBatch, ...]  # of one row each
    num_elements: int
    findings: tuple[Finding, ...] = (
        synthetic.finding(),
        synthetic.finding(code="SG101", severity="warning"),
    )
    notes: tuple[Note, ...] = (synthetic.note(), synthetic.note(kind="end", iteration=9))


@st.composite
def trainings(draw: st.DrawFn, min_rows: int = 0) -> Training:
    """Stretches of iterations with the same parameters, maybe none; what is in the arrays
    follows from a seed.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_elements = draw(st.integers(0, len(ELEMENTS)))
    stretches = draw(
        st.lists(
            st.tuples(st.lists(st.sampled_from(NAMES), unique=True), st.integers(1, 6)), max_size=4
        )
    )
    while sum(num for _, num in stretches) < min_rows:
        stretches.append((["a.weight", "head"], min_rows))
    rows: list[RowBatch] = []
    for names, num_rows in stretches:
        parameters = synthetic.make_parameters(names=names)
        for _ in range(num_rows):
            rows.append(
                _row(
                    rng,
                    tuple(parameters) if rng.random() < 0.5 else parameters,
                    len(rows),
                    num_elements,
                )
            )
    return Training(tuple(rows), num_elements)


def _row(
    rng: np.random.Generator, parameters: tuple[Parameter, ...], iteration: int, num_elements: int
) -> RowBatch:
    def numbers(*shape: int) -> np.ndarray:
        return np.where(
            rng.random(shape) < 0.5,
            rng.choice(SPECIAL, shape),
            rng.normal(size=shape) * 10.0 ** rng.integers(-50, 50, shape),
        )

    def measured(sampled: bool) -> dict[str, np.ndarray]:
        shapes = {
            each.name: (1, len(parameters), each.width)[: 2 + (each.width > 1)]
            for each in STATISTICS
            if each.sampled == sampled
        }
        return {name: numbers(*shape) for name, shape in shapes.items()}

    step = np.zeros(1, STEP_DTYPE)
    step["iteration"], step["loss"], step["grad_norm"], step["time_s"] = iteration, *numbers(3)
    events = np.zeros(rng.integers(0, 4), EVENT_DTYPE)
    events["iteration"], events["value"] = iteration, numbers(len(events))
    events["site"] = rng.integers(-1, len(SITES), len(events))
    events["optimizer"] = rng.integers(-1, len(OPTIMIZERS), len(events))
    events["kind"] = rng.choice(list(EventKind), len(events))
    ranks = np.zeros(rng.choice([0, 0, 2, 3]), RANK_DTYPE)
    ranks["iteration"], ranks["rank"], ranks["loss"] = (
        iteration,
        np.arange(len(ranks)),
        numbers(len(ranks)),
    )
    ranks["weight_checksum"] = rng.integers(0, 2**64, len(ranks), np.uint64)
    pairs = np.zeros(rng.choice([0, 0, 1, 4]), PAIR_DTYPE)
    pairs["iteration"], pairs["parameter"], pairs["cosine"] = iteration, -1, numbers(len(pairs))
    state = rng.choice(list(State), (1, len(parameters))).astype(np.uint8)
    values = measured(sampled=False)
    sampled = rng.random() < 0.3
    return RowBatch(
        parameters=parameters,
        steps=step,
        state=state,
        values=values,
        sample_rows=np.arange(int(sampled)),
        samples=measured(sampled=True) if sampled else no_samples(len(parameters)),
        events=events,
        elements=numbers(1, num_elements),
        sites=SITES,
        optimizers=OPTIMIZERS,
        ranks=ranks,
        pairs=pairs,
    )


def write(path: Path, training: Training, cuts: Sequence[int], *, ended: bool = True) -> None:
    """Write a training in batches of these sizes, over and over; the last sizes may be cut short
    by a change of columns.
    """
    writer = Writer(path, synthetic.info(elements=ELEMENTS[: training.num_elements]))
    queue = deque(training.rows)
    turn = 0
    while queue:
        head = deque(queue.popleft() for _ in range(min(cuts[turn % len(cuts)], len(queue))))
        while head:
            writer.observe(concatenate(take_batches(head, 2**20)))
        turn += 1
    for finding in training.findings:
        writer.finding(finding)
    for note in training.notes:
        writer.note(note)
    if ended:
        writer.close()
    else:
        writer.abandon()


def assert_reads_back(run: Run, batches: Sequence[RowBatch], num_elements: int) -> None:
    """Everything that the run says of its rows is what was handed over, in the dtypes of the
    record.
    """
    rows = [row for batch in batches for row in single_rows(batch)]
    columns = {parameter.name: None for row in rows for parameter in row.parameters}
    assert [parameter.name for parameter in run.parameters] == list(columns)
    sampled = [index for index, row in enumerate(rows) if row.samples]
    assert run.steps.dtype == STEP_DTYPE
    assert run.steps.tobytes() == b"".join(_with_sampled(row).tobytes() for row in rows)
    assert run.events.tobytes() == b"".join(row.events.tobytes() for row in rows)
    assert run.ranks.tobytes() == b"".join(row.ranks.tobytes() for row in rows)
    np.testing.assert_array_equal(run.states, _expected_states(rows, list(columns)))
    assert run.elements[0] == ELEMENTS[:num_elements]
    np.testing.assert_array_equal(
        run.elements[1], np.array([row.elements for row in rows]).reshape(len(rows), num_elements)
    )
    for statistic in STATISTICS:
        if not statistic.sampled:
            np.testing.assert_array_equal(
                run.series(statistic.name), _expected(rows, list(columns), statistic.name, 1)
            )
            continue
        at, values = run.samples(statistic.name)
        assert at.tolist() == sampled
        expected = _expected(
            [rows[index] for index in sampled], list(columns), statistic.name, statistic.width
        )
        np.testing.assert_array_equal(values, expected)


def _with_sampled(row: SingleRow) -> np.ndarray:
    step = row.step.copy()
    step["sampled"] = bool(row.samples)
    return step


def _expected_states(rows: Sequence[SingleRow], columns: list[str]) -> np.ndarray:
    states = np.full((len(rows), len(columns)), State.NOT_MEASURED, np.uint8)
    for index, row in enumerate(rows):
        for parameter, state in zip(row.parameters, row.state, strict=True):
            states[index, columns.index(parameter.name)] = state
    return states


def _expected(rows: Sequence[SingleRow], columns: list[str], name: str, width: int) -> np.ndarray:
    dtype = next(statistic.dtype for statistic in STATISTICS if statistic.name == name)
    expected = np.full((len(rows), len(columns), width), np.nan)
    for index, row in enumerate(rows):
        values = recorded(np.asarray((row.values | row.samples)[name]), dtype).reshape(-1, width)
        for parameter, state, value in zip(row.parameters, row.state, values, strict=True):
            if state > State.ABSENT:
                expected[index, columns.index(parameter.name)] = value
    return expected if width > 1 else expected[:, :, 0]
