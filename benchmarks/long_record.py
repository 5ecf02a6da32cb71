"""A record of very many steps of very many parameters in little time and room, for what reads it
through its pyramid.

What stands for other things: the numbers of single steps are there for the last ones only; of the
others the files have their size and no content, so they read as "not measured". Everything else is
what a recording writes: names, steps, loss, the pyramid from `FINEST` up. Its two finer levels are
files without content too (together they would take 45 GB of 5,000 parameters x 1,000,000 steps).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from seismograd.i18n import say
from seismograd.record import layout
from seismograd.record.checksums import CHECKS, ChecksumWriter
from seismograd.record.pyramid.cells import (
    FACTOR,
    NUM_STATES,
    PyramidCells,
    cell_rows,
    join,
    merge,
    pyramid_statistics,
    record_dtype,
    to_records,
)
from seismograd.record.pyramid.pyramid_builder import PyramidBuilder
from seismograd.record.pyramid.step_scalars import STATISTICS as STEP_STATISTICS
from seismograd.record.pyramid.step_scalars import (
    STEP_SCALARS,
    STEPS,
    states_of_values,
    step_values,
)
from seismograd.record.run_documents import EndCounts, end_to_json
from seismograd.record.strict_json import dumps
from seismograd.record.writer import Writer
from seismograd.schema import (
    EVENT_DTYPE,
    HISTOGRAM_BINS,
    SAMPLE_EVERY,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    EventKind,
    Evidence,
    Finding,
    FloatArray,
    Optimizer,
    Parameter,
    RowBatch,
    RunInfo,
    Site,
    State,
    no_pairs,
    no_ranks,
)

FINEST = 3  # the finest level that has content: 512 steps a cell
TAIL = 200  # steps at the end whose every number is there
_PARTS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", "ln_1")


def make_record(path: Path, num_parameters: int, num_steps: int, tail: int = TAIL) -> Path:
    """Write the record; every number of its last `tail` steps, a multiple of ten, is there."""
    parameters = _parameters(num_parameters)
    course = Course(num_parameters, num_steps)
    writer = Writer(
        path, RunInfo("train.py", "2026-01-02T03:04:05Z", "0.1.0", "2.13.0", "3.11.9", "normal", 1)
    )
    writer.observe(_tail(parameters, course, tail))
    for finding in _findings(parameters, num_steps):
        writer.finding(finding)
    writer.close()
    if tail == num_steps:
        return path
    for log in list(path.rglob(CHECKS)):  # as in records of before there were checksums
        log.unlink()
    segment = layout.segment_path(path, 0)
    for name in (
        layout.STATE,
        *(layout.statistic_file(each) for each in STATISTICS if not each.sampled),
    ):
        _move_to_the_end(segment / name, num_steps - tail, tail)
    _spread_samples(segment, num_steps, tail)
    _write_steps(path, course, tail)
    _write_pyramid(segment, course)
    lines = {
        name: len((path / name).read_bytes().splitlines()) if (path / name).exists() else 0
        for name in layout.LINE_FILES
    }
    (path / layout.END).write_bytes(dumps(end_to_json(EndCounts(num_steps, lines))) + b"\n")
    return path


class Course:
    """Norms that fall slowly from a level of each parameter's own; here and there one spikes, is
    NaN for a while, all zero, or absent.
    """

    def __init__(self, num_parameters: int, num_steps: int) -> None:
        self.num_parameters, self.num_steps = num_parameters, num_steps
        self._random = np.random.default_rng(0)
        self._level = self._random.normal(-2, 0.7, num_parameters)

    def norms(self, rows: FloatArray) -> FloatArray:
        """At these rows  # (R,) -> (R, P)."""
        noise = self._random.standard_normal(
            (len(rows), self.num_parameters), np.float32
        ) * np.float32(0.08)
        return 10.0 ** (self._level - 0.8 * np.sqrt(rows / self.num_steps)[:, None] + noise)

    def cells(self, first: int, stop: int) -> PyramidCells:
        """Cells of the finest level."""
        rows = cell_rows(FINEST)
        last = self.norms((np.arange(first, stop) + 1.0) * rows)
        extremes = np.stack([last * 0.6, last * 1.7, last], axis=1)  # (C, 3, P)
        counts = np.zeros((stop - first, NUM_STATES, self.num_parameters), np.int32)
        counts[:, State.FINITE] = rows
        for cell in range(first, stop):
            self._trouble(cell, counts[cell - first], extremes[cell - first])
        return PyramidCells(
            counts,
            {"grad_norm": extremes, "applied_norm": extremes, "update_ratio": extremes * 0.05},
        )

    def _trouble(self, cell: int, counts: AnyArray, extremes: FloatArray) -> None:
        chosen = self._random.integers(0, self.num_parameters, 3)
        extremes[1, chosen[0]] *= 1e3
        if cell % 37 == 0:
            counts[State.FINITE, chosen[1]] -= 1
            counts[State.NONFINITE, chosen[1]] += 1
        share = cell * cell_rows(FINEST) / self.num_steps
        for state, low, high in ((State.ZERO, 0.30, 0.45), (State.ABSENT, 0.0, 0.1)):
            if low <= share < high:
                columns = slice(
                    int(0.1 * state * self.num_parameters),
                    int((0.1 * state + 0.02) * self.num_parameters),
                )
                counts[State.FINITE, columns], counts[state, columns], extremes[:, columns] = (
                    0,
                    cell_rows(FINEST),
                    np.nan,
                )


def _parameters(num: int) -> tuple[Parameter, ...]:
    made: list[Parameter] = []
    for index in range(num):
        layer, part = divmod(index, 2 * len(_PARTS))
        is_bias, shape = part % 2, (64,) if part % 2 else (64, 64)
        name = f"h.{layer}.{_PARTS[part // 2]}.{'bias' if is_bias else 'weight'}"
        numel = int(np.prod(shape))
        made.append(
            Parameter(name, shape, "float32", numel, "Linear", depth=index, optimizer=0, group=0)
        )
    return tuple(made)


def _tail(parameters: tuple[Parameter, ...], course: Course, num: int) -> RowBatch:
    first = course.num_steps - num
    norm = course.norms(np.arange(first, course.num_steps, dtype=np.float64))
    given = {
        "grad_norm": norm,
        "applied_norm": norm,
        "grad_max": norm / 8,
        "update_ratio": norm * 0.05,
    }
    values = {
        each.name: given.get(each.name, np.zeros_like(norm)).astype(each.dtype)
        for each in STATISTICS
        if not each.sampled
    }
    rows = np.arange(0, num, SAMPLE_EVERY)
    exponents = np.zeros((len(rows), len(parameters), HISTOGRAM_BINS))
    exponents[:, :, 40:46] = 10
    samples = {
        "weight_norm": np.ones((len(rows), len(parameters))),
        "dead_rows": np.zeros((len(rows), len(parameters))),
        "exponents": exponents,
    }
    dtypes = {each.name: each.dtype for each in STATISTICS}
    return RowBatch(
        parameters=parameters,
        steps=_steps(course, first, course.num_steps),
        state=np.full(norm.shape, State.FINITE, np.uint8),
        values=values,
        sample_rows=rows,
        samples={name: each.astype(dtypes[name]) for name, each in samples.items()},
        events=_events(first, course.num_steps),
        elements=np.zeros((num, 0)),
        sites=tuple(Site("train.py", line, "train") for line in (10, 11, 12)),
        optimizers=(Optimizer(0, "AdamW", "optimizer"),),
        ranks=no_ranks(),
        pairs=no_pairs(),
    )


def _steps(course: Course, start: int, stop: int) -> AnyArray:
    rows = np.arange(start, stop)
    steps: AnyArray = np.zeros(stop - start, STEP_DTYPE)
    steps["iteration"] = steps["step"] = rows
    steps["time_s"], steps["lr"], steps["scale"] = (
        rows * 0.1,
        1e-3 * (1 - rows / course.num_steps),
        1,
    )
    steps["loss"] = 2 + 8 * np.exp(-8 * rows / course.num_steps) + 0.1 * np.sin(rows)
    steps["grad_norm"] = 1.5 + np.cos(rows * 0.7) * 0.5
    steps["clip_norm"], steps["clip_limit"] = steps["grad_norm"], 1.0
    steps["clip_coefficient"] = np.minimum(1, 1 / steps["clip_norm"])
    steps["applied_norm"] = np.minimum(1, steps["grad_norm"])
    steps["num_steps"], steps["num_backwards"], steps["epoch"] = 1, 1, -1
    steps["sampled"] = rows % SAMPLE_EVERY == 0
    return steps


def _events(start: int, stop: int) -> AnyArray:
    events: AnyArray = np.zeros(3 * (stop - start), EVENT_DTYPE)
    events["iteration"] = np.repeat(np.arange(start, stop), 3)
    events["kind"] = np.tile(
        [EventKind.ZERO_GRAD, EventKind.BACKWARD, EventKind.STEP], stop - start
    )
    events["site"], events["optimizer"] = (
        np.tile([0, 1, 2], stop - start),
        np.tile([0, -1, 0], stop - start),
    )
    events["scale"], events["count"], events["weight"], events["limit"], events["value"] = (
        1,
        np.nan,
        np.nan,
        np.nan,
        1,
    )
    return events


def _findings(parameters: tuple[Parameter, ...], num_steps: int) -> Iterator[Finding]:
    names = tuple(each.name for each in parameters)
    for code, name, severity, share in (
        ("SG201", "nonfinite-gradient", "error", 0.2),
        ("SG203", "gradient-spike", "warning", 0.4),
        ("SG104", "no-gradient", "warning", 0.0),
    ):
        first, column = int(share * num_steps), int(share * len(names))
        about = names[column : column + 8]
        evidence = tuple(Evidence("grad_norm", each, first, 1.0, 0.5) for each in about)
        cause = say("{parameter} has a NaN at step {step}", parameter=about[0], step=first)
        yield Finding(
            code,
            name,
            severity,
            0,
            first,
            min(num_steps - 1, first + 1000),
            about,
            evidence,
            cause,
            say("look at the loss"),
            "train.py:12",
        )


def _move_to_the_end(path: Path, num_before: int, num_held: int) -> None:
    """What the file holds, behind as many rows without content as come before."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(0)
        file.truncate(len(data) // num_held * num_before)
        file.seek(0, os.SEEK_END)
        file.write(data)


def _spread_samples(segment: Path, num_steps: int, tail: int) -> None:
    """Every tenth step has a sample; those before the last ones are without content."""
    rows = np.arange(0, num_steps, SAMPLE_EVERY, dtype=np.int64)
    num_held = tail // SAMPLE_EVERY
    (segment / layout.SAMPLE_ROWS).write_bytes(rows.tobytes())
    for statistic in STATISTICS:
        if statistic.sampled:
            _move_to_the_end(
                segment / layout.statistic_file(statistic), len(rows) - num_held, num_held
            )


def _write_steps(path: Path, course: Course, tail: int) -> None:
    for level in path.glob("levels/*"):
        level.unlink()
    checks = ChecksumWriter(path, layout.CHECKED_OF_RUN)
    levels = PyramidBuilder(path, len(STEP_SCALARS), STEP_STATISTICS, checks)
    with (path / layout.STEPS).open("wb") as file:
        for start in range(0, course.num_steps, 2**16):
            steps = _steps(course, start, min(start + 2**16, course.num_steps))
            steps.tofile(file)
            values = step_values(steps)
            state = np.full((len(steps), 1), State.FINITE, np.uint8)
            levels.append(states_of_values(values, steps, state), {STEPS: values})
            checks.commit()
    levels.flush()
    levels.close()
    checks.close()
    (path / CHECKS).unlink()
    ends = 3 * np.maximum(0, np.arange(course.num_steps) - (course.num_steps - tail) + 1)
    (path / layout.EVENT_ENDS).write_bytes(ends.astype("<i8").tobytes())
    for name in (layout.RANK_ENDS, layout.PAIR_ENDS):
        (path / name).write_bytes(bytes(8 * course.num_steps))


def _write_pyramid(segment: Path, course: Course) -> None:
    dtypes = {each.name: each for each in STATISTICS}
    own = pyramid_statistics([each.name for each in STATISTICS if not each.sampled], dtypes)
    for level in segment.glob("levels/*"):
        level.unlink()
    (segment / "levels").mkdir(exist_ok=True)
    for level in range(1, FINEST):
        with layout.level_path(segment, level).open("wb") as file:
            file.truncate(
                course.num_steps
                // cell_rows(level)
                * record_dtype(level, course.num_parameters, own).itemsize
            )
    waiting: dict[int, PyramidCells] = {}

    def take(level: int, cells: PyramidCells) -> None:
        """As `PyramidBuilder` does, from a level that is not the rows."""
        with layout.level_path(segment, level).open("ab") as file:
            to_records(cells, record_dtype(level, course.num_parameters, own)).tofile(file)
        cells = join([waiting.pop(level), cells]) if level in waiting else cells
        whole = len(cells) // FACTOR * FACTOR
        if whole < len(cells):
            waiting[level] = PyramidCells(
                cells.counts[whole:], {name: each[whole:] for name, each in cells.extremes.items()}
            )
        if whole:
            take(
                level + 1,
                merge(
                    PyramidCells(
                        cells.counts[:whole],
                        {name: each[:whole] for name, each in cells.extremes.items()},
                    )
                ),
            )

    num_cells = course.num_steps // cell_rows(FINEST)
    for first in range(0, num_cells, FACTOR):
        take(FINEST, course.cells(first, min(first + FACTOR, num_cells)))
