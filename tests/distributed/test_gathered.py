"""The parameters that a sharded model holds while it computes are no columns of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import seismograd
from tests.distributed.processes import HERE, start
from tests.distributed.test_loops import NAMES

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def test_gathered_parameters_have_the_columns_of_the_sharded_ones(tmp_path: Path) -> None:
    (ended,) = start([str(HERE / "gathered.py"), str(tmp_path)], 1, tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    for name in ("layers", "whole"):
        run = seismograd.open_run(tmp_path / name)
        assert [(p.name, p.optimizer) for p in run.parameters] == [(each, 0) for each in NAMES]
