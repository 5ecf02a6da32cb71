"""Hand-made runs in which something is wrong, or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from seismograd.schema import Optimizer, Parameter, RowBatch, State, StepFlag
from tests.synthetic import block, make_parameters

OPTIMIZERS = (Optimizer(0, "SGD", "opt_d"), Optimizer(1, "Adam", "opt_g"))


def chain(
    num_layers: int,
    gain: float,
    *,
    steps: int = 30,
    scale: float = 1.0,
    noise: float = 0.05,
    seed: int = 0,
) -> np.ndarray:
    """Norms of a chain of layers, weight and bias in turn, each of which passes on `gain` of its
    gradient  # (steps, 2 layers).
    """
    depth = np.arange(num_layers - 1, -1, -1)
    norms = (
        scale
        * gain**depth
        * 10 ** np.random.default_rng(seed).normal(0, noise, (steps, num_layers))
    )
    return np.repeat(norms, 2, axis=1) * np.tile([1.0, 0.3], num_layers)


def weights_only(num_layers: int) -> tuple[Parameter, ...]:
    return make_parameters(names=[f"{layer}.weight" for layer in range(num_layers)])


class Made(list[RowBatch]):
    """A run whose repr fits a line."""

    def __repr__(self) -> str:
        return (
            f"Made({[len(block) for block in self]} steps x {len(self[0].parameters)} parameters)"
        )


@st.composite
def runs(draw: st.DrawFn) -> Made:
    """Runs of one or two segments with any of the faults, or several, or none."""
    sometimes = st.sampled_from([False, False, False, True])
    num_layers, num_steps = draw(st.integers(2, 9)), draw(st.integers(1, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    gain = draw(st.sampled_from([1.0, 0.1, 0.1, 0.4, 8.0]))
    norm = chain(
        num_layers,
        gain,
        steps=num_steps,
        noise=draw(st.sampled_from([0.05, 0.5])),
        seed=int(rng.integers(2**31)),
    )
    norm *= 10.0 ** draw(st.integers(-20, 20))
    loss = 1 + 0.1 * rng.random(num_steps)
    if draw(sometimes):  # it recovers, or begins later
        norm[draw(st.integers(0, num_steps)) :] = chain(
            num_layers, draw(st.sampled_from([1.0, 0.1])), steps=1
        )
    if draw(sometimes):  # it grows from step to step
        since = draw(st.integers(0, num_steps))
        power = np.maximum(np.arange(num_steps) - since, 0)
        norm *= 10.0 ** (0.8 * power)[:, None]
        loss += power
    if draw(sometimes):
        norm[draw(st.integers(0, num_steps)) :, : draw(st.integers(0, 6))] = 0
    if draw(sometimes):
        norm[draw(st.integers(0, num_steps)) :, draw(st.integers(0, 2 * num_layers - 1)) :] = np.nan
    state = np.where(
        np.isfinite(norm), np.where(norm == 0, State.ZERO, State.FINITE), State.NONFINITE
    ).astype(np.uint8)
    state[rng.random(norm.shape) < draw(st.sampled_from([0.0, 0.0, 0.02]))] = State.ABSENT
    carried = np.zeros(norm.shape)
    if draw(sometimes):
        carried[:] = rng.random((num_steps, 1)) < draw(st.sampled_from([0.1, 0.5, 1.0]))
        carried[:, rng.random(norm.shape[1]) < 0.3] = 0
    optimizer = np.zeros(num_steps, np.int64)
    parameters = make_parameters(norm.shape[1])
    if draw(sometimes):  # two optimizers take turns
        optimizer = (np.arange(num_steps) // draw(st.integers(1, 3))) % 2
        split = draw(st.integers(0, norm.shape[1]))
        parameters = tuple(
            replace(each, optimizer=int(column >= split)) for column, each in enumerate(parameters)
        )
        owner = np.array([each.optimizer for each in parameters])
        state[owner[None, :] != optimizer[:, None]] = State.NOT_MEASURED
    flags = np.where(
        rng.random(num_steps) < draw(st.sampled_from([0.0, 0.0, 0.1, 0.9])), StepFlag.SKIPPED, 0
    )
    flags |= np.where(
        rng.random(num_steps) < draw(st.sampled_from([0.0, 0.1])), StepFlag.NO_BACKWARD, 0
    )
    made = block(
        norm,
        parameters=parameters,
        state=state,
        loss=np.where(rng.random(num_steps) < 0.1, np.nan, loss),
        lr=draw(st.sampled_from([0.1, 1e-4])),
        optimizer=optimizer,
        flags=flags,
        values={"carried": carried},
        optimizers=OPTIMIZERS,
    )
    order = draw(st.permutations(range(norm.shape[1])))
    return _segments(
        made, draw(st.integers(0, num_steps)), order if draw(st.booleans()) else sorted(order)
    )


def _segments(made: RowBatch, at: int, order: Sequence[int]) -> Made:
    """The same run, but from a row on its columns are in another order."""
    if not 0 < at < len(made):
        return Made([made])
    columns = list(order)
    tail = made.rows(at, len(made))
    moved = replace(
        tail,
        parameters=tuple(tail.parameters[column] for column in columns),
        state=tail.state[:, columns],
        values={name: values[:, columns] for name, values in tail.values.items()},
        samples={name: values[:, columns] for name, values in tail.samples.items()},
    )
    return Made([made.rows(0, at), moved])
