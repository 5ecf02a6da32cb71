"""Real processes that record: started, limited and killed by the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from seismograd.schema import RowBatch
from tests import synthetic

NUM_PARAMETERS = 5
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def endless_block(first_iteration: int, num_rows: int) -> RowBatch:
    """Iterations whose numbers follow from their own number, so that a reader can tell what must
    be there.
    """
    iteration = np.arange(first_iteration, first_iteration + num_rows)
    return synthetic.block(
        iteration[:, None] + np.arange(1, NUM_PARAMETERS + 1) / 8,
        first_iteration=first_iteration,
        loss=iteration * 0.5,
        sample_rows=[0],
    )


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the code to its end."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def python_at_work(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the code meanwhile; it is killed at the end."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
