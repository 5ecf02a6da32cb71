"""What a healthy run of one process asks for nothing of takes no memory of it."""

from __future__ import annotations

from pathlib import Path

from tests.record.processes import run_python

# what reads a record, goes on in one, speaks with other processes, sends numbers, stops a training
LATE = (
    "seismograd.distributed.collector",
    "seismograd.distributed.ownership",
    "seismograd.distributed.report_client",
    "seismograd.pipeline.halt",
    "seismograd.record.places.running_upload",
    "seismograd.record.reader",
    "seismograd.record.resuming",
    "seismograd.sinks.tracker_sink",
)

PROGRAM = """
import sys
import torch
import seismograd

model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with seismograd.watch(model, optimizer, out={out!r}, quiet=True):
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
    loaded = set(sys.modules)
assert "seismograd.record.writer" in loaded
print([name for name in {late!r} if name in loaded])
"""


def test_a_healthy_run_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    done = run_python(PROGRAM.format(out=str(tmp_path / "run"), late=LATE))
    assert done.stdout.strip() == "[]"
