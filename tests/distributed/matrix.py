"""Trainings of the matrix, each once as it is and once watched: matrix.py OUT CELL...

Every process prints the digests of its weights without and with watching. Rank 0 leaves the record
in OUT/CELL, and in OUT/CELL.npz the norm of every gradient in each step: `held`, gathered from the
processes, and `alone`, what one process with all the data has.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

import seismograd
from tests.distributed.matrix_alone import OneProcess
from tests.distributed.matrix_cells import CELLS, Cell, Numbers
from tests.distributed.matrix_engines import ENGINES, Engine

STEPS = 6


def train(cell: Cell, out: Path | None) -> tuple[str, dict[str, list[float]]]:
    """The digest of what this process holds in the end, and without watching the norms."""
    engine = ENGINES[cell.kind](cell)
    alone = None if out is not None else OneProcess(cell)
    found: dict[str, list[float]] = {}
    watching = (
        nullcontext()
        if out is None
        else seismograd.watch(engine.model, engine.optimizer, out=out, quiet=True)
    )
    with watching:
        for step in range(STEPS):
            expected = None if alone is None else at_step(alone, engine, step)
            engine.optimizer.zero_grad()
            engine.backwards(step)
            engine.reduce()
            if cell.numbers is Numbers.SCALED and (cell.clip or expected is not None):
                engine.scaler.unscale_(engine.optimizer)
            if expected is not None:
                for name, norm in engine.norms().items():
                    found.setdefault(f"held {name}", []).append(norm)
                for name, norm in expected.items():
                    found.setdefault(f"alone {name}", []).append(norm)
            if cell.clip:
                engine.clip()
            engine.scaler.step(engine.optimizer)
            engine.scaler.update()
    digest = hashlib.sha256()
    for p in engine.model.parameters():
        local = p.detach().to_local() if isinstance(p, DTensor) else p.detach()
        digest.update(local.float().contiguous().numpy().tobytes())
    return digest.hexdigest(), found


def at_step(alone: OneProcess, engine: Engine, step: int) -> dict[str, float]:
    if engine.cell.numbers is Numbers.FLOAT32:
        return alone.step_alone(step)
    return alone.at(engine.weights(), step, engine.scaler.get_scale())


def main(out: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        began = time.monotonic()
        plain, found = train(CELLS[name], None)
        watched, _ = train(CELLS[name], out / name)
        if dist.get_rank() == 0:
            np.savez(out / f"{name}.npz", **{k: np.array(v) for k, v in found.items()})
        told = {"cell": name, "plain": plain, "watched": watched, "s": time.monotonic() - began}
        print(json.dumps(told), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
