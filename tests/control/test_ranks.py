"""Two processes that accumulate together have the gradient of one batch with the samples of
both, whatever each of them has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import seismograd
from tests.control.ranks import EMPTY, EVEN
from tests.distributed.processes import environment

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

LIMIT_S = 180
WINDOWS = {
    "ddp even": 2,
    "ddp short": 2,
    "ddp empty": 2,
    "ddp plain": 2,
    "ddp zero": 1,
    "ddp buckets": 2,
    "ddp unused": 2,
    "ddp buffers": 2,
    "ddp zero, unused": 1,
    "fsdp even": 2,
    "fsdp plain": 2,
    "fsdp short": 2,
}


def test_ddp_and_fsdp2_accumulate_as_one_process_would(tmp_path: Path) -> None:
    script = Path(__file__).parent / "ranks.py"
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*launcher, str(script), str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [
        json.loads(line)
        for line in done.stdout.replace("}{", "}\n{").splitlines()
        if line.startswith("{")
    ]
    by_case = {(each["case"], each["rank"]): each for each in told}
    for name, count in WINDOWS.items():
        for rank in range(2):
            each = by_case[name, rank]
            assert each["error"] < 1e-12, name
            assert each["windows"] == count, name
        # its backwards reduce again
        assert by_case[name, 0]["afterwards"] == by_case[name, 1]["afterwards"], name
    for name in ("ddp even", "ddp short", "fsdp even", "fsdp short"):
        assert by_case[name, 0]["norms"] == by_case[name, 1]["norms"]
    assert by_case["ddp even", 0]["norms"] == pytest.approx(
        by_case["fsdp even", 0]["norms"], rel=1e-12
    )
    for rank in range(2):
        assert "different numbers of micro-batches" in by_case["fsdp refused", rank]["refused"]
        assert by_case["fsdp clip", rank]["error"] < 1e-12
        assert by_case["fsdp clip", rank]["units"] < 1e-12
        assert by_case["fsdp clip", rank]["after"] == pytest.approx(0.01, rel=1e-4)
    for name, sizes in (("even", EVEN), ("empty", EMPTY)):
        run = seismograd.open_run(tmp_path / name)
        assert len(run.steps) == 2, sizes
        assert run.steps["flags"].tolist() == [0, 0]
        assert run.steps["grad_norm"].tolist() == pytest.approx(
            by_case[f"ddp {name}", 0]["norms"], rel=1e-6
        )
        assert run.steps["clip_norm"].tolist() == pytest.approx(
            by_case[f"ddp {name}", 0]["norms"], rel=1e-6
        )
