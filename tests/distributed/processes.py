"""Starts several processes that train together, without a launcher, which would cost another
import of torch.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
LIMIT_S = 180  # of a program with many trainings, on a busy machine


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join(
        p for p in (str(SOURCE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")) if p
    )
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONWARNINGS": "ignore",
        "SEISMOGRAD_RANK_LATE_S": "120",  # on a busy machine a process is late for nothing
        "SEISMOGRAD_RANK_EXIT_S": "60",
        **more,
    }


def free_port() -> int:
    """A port that nobody has, and that the system gives to no connection until it is taken, which
    is seconds later: those that it gives lie higher.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def start(
    arguments: list[str], num_ranks: int, cwd: Path, limit_s: float = LIMIT_S, **more: str
) -> list[Ended]:
    """Run `python ARGUMENTS` as ranks 0 to `num_ranks` - 1, and wait for all; kills those that
    take too long, and fails.
    """
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(num_ranks),
        **more,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    try:
        outcomes = [process.communicate(timeout=limit_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        Ended(process.returncode, out, err)
        for process, (out, err) in zip(processes, outcomes, strict=True)
    ]
