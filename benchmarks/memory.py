"""How much memory watching holds: a model of 1,000 parameters, trained for a while and for four
times as long, bare and watched.

    python benchmarks/memory.py

Each training is a process of its own. What is compared is its resident memory at the end and at its
highest.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_MIB = 32


def train(num_steps: int, out: str) -> None:
    """In a process of its own; prints resident MiB at the end and at the highest."""
    import torch

    import seismograd

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(500)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    recording = seismograd.watch(model, optimizer, out=out) if out else None
    inputs = torch.randn(4, 64)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if recording is not None:
        recording.close()
    print(
        pages * resource.getpagesize() / 2**20,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    )


def measured(num_steps: int, out: str) -> tuple[float, float]:
    command = [sys.executable, __file__, "--train", str(num_steps), "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    at_end, highest = map(float, done.stdout.split())
    return at_end, highest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train(options.train, options.out)
        return
    held: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for num_steps in (options.steps, 4 * options.steps):
            bare, watched = measured(num_steps, ""), measured(num_steps, f"{folder}/{num_steps}")
            held.append(max(watched[0] - bare[0], watched[1] - bare[1]))
            print(
                f"{num_steps:6} steps: bare {bare[0]:.0f} MiB (highest {bare[1]:.0f}), "
                f"watched {watched[0]:.0f} (highest {watched[1]:.0f}): {held[-1]:.1f} MiB more"
            )
    print(f"at most {max(held):.1f} MiB, wanted at most {LIMIT_MIB}")
    raise SystemExit(max(held) > LIMIT_MIB)


if __name__ == "__main__":
    main()
