"""Hand-made iterations, blocks and runs for tests: say what matters, the rest gets a sensible
value.

    block(grad_norm=[[1.0, 2.0], [0.5, np.nan]])     # 2 iterations, 2 parameters
    block(grad_norm=..., loss=[2.3, 2.2], events=[event(EventKind.STEP, 0), ...])
    write_run(tmp_path / "run", [block(...), block(..., first_iteration=2)])   # -> its directory

The default gradient has scalars of one magnitude: its maximum is norm / sqrt(numel), its sum is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seismograd.i18n import say
from seismograd.schema import (
    EVENT_DTYPE,
    SAMPLE_EVERY,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    EventKind,
    Evidence,
    Finding,
    Note,
    Optimizer,
    Parameter,
    RowBatch,
    RunInfo,
    Site,
    State,
    no_pairs,
    no_ranks,
)

DTYPES = {statistic.name: np.dtype(statistic.dtype) for statistic in STATISTICS}
WIDTHS = {statistic.name: statistic.width for statistic in STATISTICS}
SITES = (
    Site("train.py", 10, "train"),
    Site("train.py", 11, "train"),
    Site("train.py", 12, "train"),
)
OPTIMIZERS = (Optimizer(0, "SGD", "optimizer"),)


def info(**changes: object) -> RunInfo:
    """What is known of a run before its first step."""
    known: dict[str, object] = {
        "script": "train.py",
        "created_utc": "2026-01-02T03:04:05Z",
        "seismograd_version": "0.1.0",
        "torch_version": "2.13.0",
        "python_version": "3.11.9",
        "level": "normal",
        "every": 1,
    }
    return RunInfo(**{**known, **changes})  # type: ignore[arg-type]


def make_parameters(
    num: int = 2,
    *,
    names: Sequence[str] | None = None,
    shapes: Sequence[tuple[int, ...]] | None = None,
    dtype: str = "float32",
) -> tuple[Parameter, ...]:
    """Parameters of a chain of linear layers, in the order of execution: `net.0.weight` (8, 8),
    `net.0.bias` (8,), `net.1.weight`, ...
    """
    if names is None:
        names = [
            f"net.{index // 2}.{'bias' if index % 2 else 'weight'}"
            for index in range(num if shapes is None else len(shapes))
        ]
    if shapes is None:
        shapes = [(8,) if name.endswith("bias") else (8, 8) for name in names]
    return tuple(
        Parameter(
            name,
            tuple(shape),
            dtype,
            int(np.prod(shape, dtype=np.int64)),
            "Linear",
            depth=depth,
            optimizer=0,
            group=0,
        )
        for depth, (name, shape) in enumerate(zip(names, shapes, strict=True))
    )


def event(
    kind: EventKind,
    iteration: int,
    *,
    value: float = np.nan,
    limit: float = np.nan,
    **fields: float,
) -> AnyArray:
    """One event, 0-d; `fields` are `time_s`, `site`, `optimizer`, `detail`, `scale`, `count`,
    `weight`, `touched`, `flags`.
    """
    made = np.zeros((), EVENT_DTYPE)
    made["scale"], made["count"], made["weight"] = 1, np.nan, np.nan
    made["kind"], made["iteration"], made["value"], made["limit"] = kind, iteration, value, limit
    for name, given in fields.items():
        made[name] = given
    return made


def ordinary_events(
    num_steps: int, *, first_iteration: int = 0, loss: float = 1.0, lr: float = 0.1
) -> list[AnyArray]:
    """The events of the plain loop: zero_grad, backward, step, at three lines of train.py."""
    return [
        made
        for iteration in range(first_iteration, first_iteration + num_steps)
        for made in (
            event(EventKind.ZERO_GRAD, iteration, site=0, optimizer=0, detail=1, touched=1),
            event(EventKind.BACKWARD, iteration, value=loss, site=1, optimizer=-1, touched=1),
            event(EventKind.STEP, iteration, value=lr, limit=lr, site=2, optimizer=0, touched=1),
        )
    ]


def steps(num_steps: int, *, first_iteration: int = 0, **columns: npt.ArrayLike) -> AnyArray:
    """Rows of STEP_DTYPE; `columns` replace defaults, a number or one per step."""
    made = np.zeros(num_steps, STEP_DTYPE)
    iteration = np.arange(first_iteration, first_iteration + num_steps)
    defaults: dict[str, npt.ArrayLike] = {
        "iteration": iteration,
        "step": iteration,
        "time_s": iteration * 0.01,
        "loss": 1.0,
        "lr": 0.1,
        "grad_norm": np.nan,
        "scale": 1.0,
        "clip_norm": np.nan,
        "clip_limit": np.nan,
        "clip_coefficient": np.nan,
        "applied_norm": np.nan,
        "num_steps": 1,
        "num_backwards": 1,
        "epoch": -1,
    }
    for name, given in (defaults | columns).items():
        made[name] = given
    return made


def states(grad_norm: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """The state that a norm shows: non-finite, zero or finite."""
    norm = np.asarray(grad_norm, np.float64)
    return np.where(
        np.isfinite(norm), np.where(norm == 0, State.ZERO, State.FINITE), State.NONFINITE
    ).astype(np.uint8)


def block(
    grad_norm: npt.ArrayLike,
    *,
    parameters: Sequence[Parameter] | None = None,
    state: npt.ArrayLike | None = None,
    first_iteration: int = 0,
    events: Sequence[AnyArray] | AnyArray | None = None,
    elements: npt.ArrayLike | None = None,
    sample_rows: Sequence[int] | None = None,
    samples: Mapping[str, npt.ArrayLike] | None = None,
    values: Mapping[str, npt.ArrayLike] | None = None,
    sites: Sequence[Site] = SITES,
    optimizers: Sequence[Optimizer] = OPTIMIZERS,
    ranks: AnyArray | None = None,
    pairs: AnyArray | None = None,
    **columns: npt.ArrayLike,
) -> RowBatch:
    """A block from the norms  # (B, P).

    Every tenth iteration is sampled unless `sample_rows` (row numbers within the block) says
    otherwise; `values` and `samples` replace single statistics, `columns` those of the steps
    (`loss=[...]`, `lr=0.01`, `epoch=...`); events are those of the plain loop.
    """
    norm = np.atleast_2d(np.asarray(grad_norm, np.float64))  # (B, P)
    num_steps, num_parameters = norm.shape
    columns_of = tuple(parameters) if parameters is not None else make_parameters(num_parameters)
    numel = np.array([parameter.numel for parameter in columns_of], np.float64)  # (P,)
    state_of = (
        states(norm)
        if state is None
        else np.broadcast_to(np.asarray(state, np.uint8), norm.shape).copy()
    )
    if sample_rows is None:
        sample_rows = [
            row for row in range(num_steps) if (first_iteration + row) % SAMPLE_EVERY == 0
        ]
    measured: dict[str, npt.ArrayLike] = {
        "grad_norm": norm,
        "grad_max": norm / np.sqrt(np.maximum(numel, 1)),
        "grad_sum": np.where(np.isfinite(norm), 0, np.nan),
        "zeros": np.where(state_of == State.ZERO, numel, 0),
        "nonfinite": np.where(state_of == State.NONFINITE, 1, 0),
        "applied_norm": norm,
        "carried": np.zeros_like(norm),
        "update_ratio": np.full_like(norm, 1e-3),
        "unmoved": np.zeros_like(norm),
    }
    measured.update(values or {})
    sampled: dict[str, npt.ArrayLike] = {
        "weight_norm": np.tile(np.sqrt(numel), (len(sample_rows), 1)),
        "dead_rows": np.zeros((len(sample_rows), num_parameters)),
        "exponents": _histogram(norm[list(sample_rows)], numel),
    }
    sampled.update(samples or {})
    finite_norm = np.where(state_of >= State.ZERO, norm, 0)
    columns.setdefault(
        "grad_norm",
        np.where(np.isfinite(finite_norm).all(1), np.sqrt((finite_norm**2).sum(1)), np.nan),
    )
    made_steps = steps(num_steps, first_iteration=first_iteration, **columns)
    made_steps["sampled"] = 0
    made_steps["sampled"][list(sample_rows)] = 1
    happened = (
        ordinary_events(num_steps, first_iteration=first_iteration)
        if events is None
        else list(events)
    )
    return RowBatch(
        parameters=columns_of,
        steps=made_steps,
        state=state_of,
        values={
            name: _as(given, DTYPES[name], (num_steps, num_parameters))
            for name, given in measured.items()
        },
        sample_rows=np.asarray(sample_rows, np.int64),
        samples={
            name: _as(
                given,
                DTYPES[name],
                (len(sample_rows), num_parameters, WIDTHS[name])[: 2 + (WIDTHS[name] > 1)],
            )
            for name, given in sampled.items()
        },
        events=np.array(happened, EVENT_DTYPE).reshape(-1),
        elements=np.zeros((num_steps, 0))
        if elements is None
        else np.asarray(elements, np.float64).reshape(num_steps, -1),
        sites=sites,
        optimizers=optimizers,
        ranks=no_ranks() if ranks is None else ranks,
        pairs=no_pairs() if pairs is None else pairs,
    )


def _as(values: npt.ArrayLike, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> AnyArray:
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(values), shape).astype(dtype)


def _histogram(norm: npt.NDArray[np.float64], numel: npt.NDArray[np.float64]) -> AnyArray:
    """All scalars of one magnitude, hence in one bin  # (S, P) -> (S, P, W)."""
    width = WIDTHS["exponents"]
    made = np.zeros((*norm.shape, width))
    magnitude = norm / np.sqrt(np.maximum(numel, 1))
    usable = np.isfinite(magnitude) & (magnitude > 0)
    exponent = np.floor(np.log2(np.where(usable, magnitude, 1.0)))
    bins = np.clip((exponent + 96) // 2, 0, width - 1).astype(np.int64)
    sample, column = np.nonzero(usable)
    made[sample, column, bins[sample, column]] = np.broadcast_to(numel, norm.shape)[sample, column]
    return made


def finding(**changes: object) -> Finding:
    """A finding that rests on one number."""
    known: dict[str, object] = {
        "code": "SG201",
        "name": "nonfinite-gradient",
        "severity": "error",
        "optimizer": 0,
        "first_step": 3,
        "last_step": 3,
        "parameters": ("net.0.weight",),
        "evidence": (Evidence("nonfinite", "net.0.weight", 3, 1.0, 0.0),),
        "cause": say("{parameter} has a NaN at step {step}", parameter="net.0.weight", step=3),
        "advice": say("look at the loss"),
        "where": "train.py:12",
    }
    return Finding(**{**known, **changes})  # type: ignore[arg-type]


def note(**changes: object) -> Note:
    """A note."""
    known: dict[str, object] = {
        "kind": "failure",
        "iteration": 3,
        "message": say("{what} failed", what="a hook"),
    }
    return Note(**{**known, **changes})  # type: ignore[arg-type]


def write_run(
    path: Path,
    blocks: Sequence[RowBatch],
    *,
    run_info: RunInfo | None = None,
    findings: Sequence[Finding] = (),
    notes: Sequence[Note] = (),
    ended: bool = True,
) -> Path:
    """Write a run as a session would; with `ended=False` it stays as a killed one is left."""
    from seismograd.record.writer import Writer

    writer = Writer(path, run_info or info())
    for each in blocks:
        writer.observe(each)
    for found in findings:
        writer.finding(found)
    for happened in notes:
        writer.note(happened)
    if ended:
        writer.close()
    else:
        writer.abandon()
    return path
