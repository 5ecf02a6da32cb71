"""Runs that the page is tried on, made by hand: from none to many steps, with every state a
gradient can be in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seismograd.i18n import say
from seismograd.schema import RowBatch, State
from tests.synthetic import (
    block,
    event,
    finding,
    info,
    make_parameters,
    note,
    ordinary_events,
    write_run,
)

BAD_STEP = 60
SPIKE_STEP = 30
NUM_LAYERS = 6


def names() -> tuple[str, ...]:
    return tuple(
        f"net.{layer}.{part}" for layer in range(NUM_LAYERS) for part in ("weight", "bias")
    )


def troubled(path: Path, num_steps: int = 100) -> Path:
    """Six layers that pass on half; a spike, one step of NaN, a gradient that is zero for a
    while, one that is absent at first.
    """
    rng = np.random.default_rng(0)
    depth = np.repeat(np.arange(NUM_LAYERS), 2)
    norms = 10.0 ** rng.normal(0, 0.05, (num_steps, 2 * NUM_LAYERS)) * 0.5 ** (
        NUM_LAYERS - 1 - depth
    )
    norms[SPIKE_STEP] *= 1e4
    norms[70:80, 4], norms[BAD_STEP, :8] = 0, np.nan
    state = np.where(
        np.isnan(norms), State.NONFINITE, np.where(norms == 0, State.ZERO, State.FINITE)
    )
    state[:20, 2] = State.ABSENT
    loss = 2 * 0.99 ** np.arange(num_steps)
    loss[BAD_STEP] = np.nan
    total = np.sqrt((norms**2).sum(axis=1))
    made = block(
        norms,
        parameters=make_parameters(names=names()),
        state=state,
        loss=loss,
        sample_rows=list(range(0, num_steps, 5)),
        clip_norm=total,
        clip_limit=1.0,
        clip_coefficient=np.minimum(1, 1 / total),
        applied_norm=np.minimum(1, total),
        elements=rng.normal(size=(num_steps, 1)),
    )
    known = info(elements=("net.0.weight[0,0]",))
    return write_run(path, [made], run_info=known, findings=[finding()], notes=[note()])


def simple(path: Path, norms: object, **columns: object) -> Path:
    """A run of these norms (T, P)."""
    return write_run(path, [block(norms, **columns)])  # type: ignore[arg-type]


def hostile(path: Path) -> Path:
    """Names and texts that would be markup, had they the chance."""
    evil = "<img src=x onerror=alert(1)>"
    parameters = make_parameters(
        names=(
            f"{evil}.weight",
            "</script><script>alert(2)</script>.bias",
            "@DATA@ `x`|y",
            "=cmd|' /C calc'!A0",
        )
    )
    norms = np.ones((12, 4))
    norms[5:, 0] = np.nan
    told = finding(
        cause=say(evil),
        advice=say("</script>{x}", x="<b>"),
        where=evil,
        excerpt=evil,
        parameters=(f"{evil}.weight",),
    )
    return write_run(
        path,
        [block(norms, parameters=parameters)],
        run_info=info(script=evil),
        findings=[told],
        notes=[note(message=say(evil))],
    )


def large(path: Path, num_parameters: int, num_steps: int) -> Path:
    """Many parameters with norms like those of a real training: each has its level, with a noise
    of a fifth.
    """
    rng = np.random.default_rng(1)
    parameters = make_parameters(
        names=[f"h.{index // 12}.block_{index % 12}.weight" for index in range(num_parameters)]
    )
    level = rng.normal(-2, 1, num_parameters)
    blocks: list[RowBatch] = []
    for first in range(0, num_steps, 500):
        size = min(500, num_steps - first)
        norms = 10 ** (level + rng.normal(0, 0.08, (size, num_parameters)))
        rows = [0] if first % 1000 == 0 else []
        blocks.append(
            block(
                norms,
                parameters=parameters,
                first_iteration=first,
                sample_rows=rows,
                events=ordinary_events(1, first_iteration=first),
            )
        )
    return write_run(path, blocks)


def long(path: Path, num_steps: int, spike: int, nan: int) -> Path:
    """Three parameters over very many steps; one step has a spike, another one a NaN."""
    norms = np.full((num_steps, 3), 0.1)
    norms[spike, 1], norms[nan, 2] = 1e3, np.nan
    size = 2**17
    blocks = [
        block(
            norms[row : row + size],
            first_iteration=row,
            events=[event(1, row)],
            sample_rows=[],
            parameters=make_parameters(names=("a.weight", "b.weight", "c.weight")),
        )
        for row in range(0, num_steps, size)
    ]
    return write_run(path, blocks)
