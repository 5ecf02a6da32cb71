"""What it takes to import seismograd and to start its command, over starting Python; and what the
first step of a program takes under it, over the bare one.

    python benchmarks/import_time.py

Processes of each kind are started in turn; medians over the bare interpreter, in milliseconds. Of
the steps, the processor time of all threads, and the least of it besides the median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "python": ["-c", "pass"],
    "import seismograd": ["-c", "import seismograd"],
    "seismograd --help": ["-m", "seismograd", "--help"],
}

PROGRAM = """
import time
import torch
from torch import nn

torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
x, y = torch.randn(64, 32), torch.randint(10, (64,))
began = time.process_time()
optimizer.zero_grad()
loss = nn.functional.cross_entropy(model(x), y)
loss.backward()
optimizer.step()
print(time.process_time() - began)
"""


def first_steps(repetitions: int) -> dict[str, list[float]]:
    """Return the processor time of the first step of a small program, in seconds: of each
    process, bare and watched in turn.
    """
    taken: dict[str, list[float]] = {"first step, bare": [], "first step, watched": []}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(PROGRAM, encoding="utf-8")
        for number in range(repetitions):
            watched = ["-m", "seismograd", "run", "--quiet", "-o", f"{folder}/{number}"]
            for kind, words in zip(taken, ([], watched), strict=True):
                done = subprocess.run(
                    [sys.executable, *words, str(program)],
                    capture_output=True,
                    check=True,
                    cwd=folder,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                taken[kind].append(float(done.stdout))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()
    times_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.repetitions + 1):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            times_s[name].append(time.perf_counter() - began)
    bare = statistics.median(times_s["python"][1:])
    for name, taken in times_s.items():
        print(
            f"{name:42} {1e3 * statistics.median(taken[1:]):7.1f} ms   "
            f"{1e3 * (statistics.median(taken[1:]) - bare):+7.1f}"
        )
    steps = first_steps(options.repetitions)
    bare, least = (f(next(iter(steps.values()))) for f in (statistics.median, min))
    for name, taken in steps.items():
        print(
            f"{name:42} {1e3 * statistics.median(taken):7.1f} ms   "
            f"{1e3 * (statistics.median(taken) - bare):+7.1f}   least {1e3 * min(taken):7.1f} ms   "
            f"{1e3 * (min(taken) - least):+7.1f}"
        )


if __name__ == "__main__":
    main()
