"""Engines of torch that show no DTensors are recorded as one process would measure them: sharded,
with parts of an optimizer, in stages, or with gradients in a buffer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tools.ranks_table import PAGE, page

import seismograd
from seismograd.schema import State
from tests.distributed.engines import ENGINES
from tests.distributed.processes import HERE, start
from tests.distributed.test_loops import NAMES

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def test_engines_are_recorded_as_one_process_would_measure(tmp_path: Path) -> None:
    ended = start([str(HERE / "engines.py"), str(tmp_path), *ENGINES], 2, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err[-3000:]
    for name, engine in ENGINES.items():
        run = seismograd.open_run(tmp_path / name)
        assert [n.kind for n in run.notes if n.kind != "ranks"] == [], name
        assert [f.code for f in run.findings if f.severity != "info"] == [], name
        assert [f.code for f in run.findings if f.code == "SG307"] == engine.found, name
        with np.load(tmp_path / f"{name}.npz") as expected:
            norms = {each: expected[f"grad_norm {each}"] for each in NAMES}
        norms = {each: engine.times * norm for each, norm in norms.items()}
        whole = np.sqrt(sum(norm**2 for norm in norms.values()))
        np.testing.assert_allclose(run.steps["grad_norm"], whole, engine.tolerance, err_msg=name)
        if engine.by_parameter:
            assert [p.name for p in run.parameters] == NAMES
            assert (run.states == State.FINITE).all()
            for each, recorded in zip(NAMES, run.series("grad_norm").T, strict=True):
                np.testing.assert_allclose(
                    recorded, norms[each], engine.tolerance, err_msg=f"{name} {each}"
                )
        if engine.clip:
            limit = np.minimum(whole, 0.05)
            np.testing.assert_allclose(run.steps["applied_norm"], limit, 1e-4, err_msg=name)


def test_the_page_lists_what_is_tested() -> None:
    text = PAGE.read_text(encoding="utf8")
    assert page(text) == text, "python tools/ranks_table.py"
