"""Recorded runs that the views are tried on: small_net and its kin, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seismograd.i18n import say
from seismograd.record.layout import END
from seismograd.record.reader import Run, open_run
from seismograd.schema import Evidence, Finding, State, StepFlag
from tests.synthetic import block, finding, info, make_parameters, note, write_run

NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
SHAPES = ((256, 784), (256,), (10, 256), (10,))
FIRST_NORMS = (1.892396, 0.061033, 1.025704, 0.129712)


def small_net(path: Path, num_steps: int = 3, **columns: object) -> Run:
    """The run of the issue: its first step has the numbers that the need was written down with."""
    fading = 0.9 ** np.arange(num_steps)[:, None]
    norms = np.array(FIRST_NORMS)[None, :] * fading
    columns = {"loss": 2.3094 * fading[:, 0], "zeros": None, **columns}
    columns.pop("zeros")
    exponents = np.zeros((1, 4, 64))
    exponents[0, :, 38:45] = [[0, 12, 1200, 30000, 90000, 54321, 25171]] * 4
    elements = np.resize([0.0125, -0.5, np.nan], num_steps)[:, None]
    made = block(
        norms,
        parameters=make_parameters(names=NAMES, shapes=SHAPES),
        values={"zeros": np.array([[30000, 0, 0, 5]] * num_steps)},
        samples={"exponents": exponents},
        sample_rows=[0],
        elements=elements,
        **columns,  # type: ignore[arg-type]
    )
    return open_run(write_run(path, [made], run_info=info(elements=("fc2.weight[0][0]",))))


def states_of_all_kinds(path: Path) -> Run:
    """One step with a NaN, an infinite, an absent, a zero, an unmeasured gradient, names of all
    lengths, and a 0-d parameter.
    """
    names = (
        "nan.weight",
        "inf.weight",
        "absent.weight",
        "zero.weight",
        "unmeasured",
        "嵌入.权重",
        "a_module.with.a.rather.long.name.weight",
        "scale",
    )
    shapes = ((8, 8), (8, 8), (8, 8), (8,), (3, 4, 5), (2, 2), (1024, 4096), ())
    states = [
        State.NONFINITE,
        State.NONFINITE,
        State.ABSENT,
        State.ZERO,
        State.NOT_MEASURED,
        State.FINITE,
        State.FINITE,
        State.FINITE,
    ]
    made = block(
        [[np.nan, np.inf, np.nan, 0, np.nan, 1.5e-38, 123456.789, 2.5]],
        parameters=make_parameters(names=names, shapes=shapes),
        state=[states],
        loss=[np.nan],
        lr=[3e-4],
        scale=[65536.0],
        num_backwards=[4],
        clip_norm=[5.0],
        clip_limit=[1.0],
        flags=[StepFlag.SKIPPED],
        epoch=[7],
    )
    write_run(path, [made])
    (path / END).unlink()
    return open_run(path)


def without_steps(path: Path) -> Run:
    """A run whose script never stepped."""
    return open_run(write_run(path, []))


def deep(path: Path, depth: int = 12) -> Run:
    """A network of many layers whose gradient vanishes, with what a failure of ours leaves
    behind.
    """
    norms = np.geomspace(1e-9, 1.0, 2 * depth)[None, :].repeat(2, axis=0)
    made = block(norms, parameters=make_parameters(2 * depth))
    return open_run(
        write_run(path, [made], notes=[note(), note(kind="end", message=say("the end"))])
    )


def findings() -> tuple[Finding, ...]:
    """A warning that came first, and an error with more evidence and parameters than fit."""
    many = tuple(f"net.{layer}.weight" for layer in range(17))
    return (
        finding(
            code="SG101",
            name="vanishing-gradient",
            severity="warning",
            first_step=0,
            last_step=9,
            parameters=("net.0.weight",),
            where="",
        ),
        finding(
            parameters=many,
            last_step=12,
            evidence=tuple(Evidence("nonfinite", name, 3, float("nan"), 0.0) for name in many),
            excerpt="optimizer.zero_grad()\nloss.backward()",
            related=("SG102",),
            cause=say(
                "{parameter} has a NaN at step {step}: "
                + "the loss had been finite until then, " * 4,
                parameter="net.0.weight",
                step=3,
            ),
        ),
    )
