"""Two threads may train two models at once: neither gets into the iterations of the other."""

from __future__ import annotations

import threading

import numpy as np
import torch

from seismograd.capture.hub import HUB
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import Note, State
from tests.capture.loops import loss_of, mlp
from tests.capture.sessions import make_session
from tests.single_rows import RowList

STEPS = 12


def train(
    model: torch.nn.Module, together: threading.Barrier, norms: list[float], first_batch: int
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        together.wait()
        optimizer.zero_grad()
        for micro in range(2):
            together.wait()
            loss_of(model, first_batch + 2 * step + micro).backward()  # type: ignore[arg-type]
        norms.append(
            float(
                torch.linalg.vector_norm(
                    torch.cat(
                        [
                            p.grad.double().flatten()
                            for p in model.parameters()
                            if p.grad is not None
                        ]
                    )
                )
            )
        )
        together.wait()
        optimizer.step()


def test_two_threads_give_each_its_own_iterations() -> None:
    rows = RowList()
    notes: list[Note] = []
    one = make_session(ReferenceBackend(), rows.take, notes.append)
    models = {"first": mlp(seed=0), "second": mlp(seed=1)}
    together = threading.Barrier(2)
    norms: dict[str, list[float]] = {name: [] for name in models}
    HUB.attach(one)
    threads = [
        threading.Thread(target=train, args=(model, together, norms[name], 1000 * index))
        for index, (name, model) in enumerate(models.items())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    HUB.detach(one)
    one.finish()
    assert one.guard.failures == {}, notes
    assert [int(row.step["iteration"]) for row in rows] == list(range(2 * STEPS))
    measured = [
        frozenset(p.name for i, p in enumerate(row.parameters) if row.state[i] >= State.ZERO)
        for row in rows
    ]
    assert sorted(map(len, set(measured))) == [6, 6]
    found = {
        columns: [
            float(row.step["grad_norm"])
            for row, own in zip(rows, measured, strict=True)
            if own == columns
        ]
        for columns in measured
    }
    assert sorted(map(len, found.values())) == [STEPS, STEPS]
    for recorded, expected in zip(sorted(found.values()), sorted(norms.values()), strict=True):
        np.testing.assert_allclose(recorded, expected, rtol=1e-6)
    assert {int(row.step["num_backwards"]) for row in rows[2:]} == {2}


def test_the_time_of_threads_that_train_side_by_side_is_not_added_up() -> None:
    rows = RowList()
    one = make_session(ReferenceBackend(), rows.take, lambda _: None)
    together = threading.Barrier(4)
    models = [mlp(seed=seed) for seed in range(4)]
    HUB.attach(one)
    threads = [threading.Thread(target=train, args=(model, together, [], 0)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    HUB.detach(one)
    one.finish()
    assert len(rows) == 4 * STEPS
    spent_s = sum(float(row.step["overhead_s"]) for row in rows[4:])
    wall_s = float(rows[-1].step["time_s"]) - float(rows[3].step["time_s"])
    assert 0 < spent_s <= wall_s  # each waits for the others, which was counted four times
