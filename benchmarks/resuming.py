"""What it takes to go on in a record from a checkpoint: figures of docs/reliability.md.

python -m benchmarks.resuming
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.record_room import batches
from benchmarks.reliability import INFO
from seismograd.diagnosis.whole_record import diagnose
from seismograd.record.reader import open_run
from seismograd.record.resuming import resume_record
from seismograd.record.writer import Writer

SIZES = ((100_000, 20), (10_000, 1_000))  # steps, parameters


def main() -> None:
    for num_steps, num_parameters in SIZES:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            writer = Writer(path, INFO)
            for made in batches(num_steps, num_parameters, has_samples=True):
                writer.observe(made)
            writer.close()
            whole = num_bytes(path)
            began = time.process_time()
            resumed = resume_record(path, num_steps * 9 // 10, open_run(path).parameters)
            taken_back = time.process_time() - began
            with_branch = num_bytes(path)
            began = time.process_time()
            diagnose(resumed.before.blocks())
            judged = (time.process_time() - began) / resumed.before.num_rows
            resumed.writer.abandon()
            print(
                f"{num_steps:,} steps of {num_parameters:,} parameters: a tenth taken back in "
                f"{taken_back:.2f} s of processor time, {whole / 1e6:.0f} MB and "
                f"{with_branch / 1e6:.0f} MB with the branch "
                f"(+{100 * (with_branch / whole - 1):.1f} %); "
                f"read with all rules in {1e6 * judged:.0f} µs a step"
            )


def num_bytes(path: Path) -> int:
    """Return how much of the disk a record takes: of several hard links one counts."""
    found = [each.stat() for each in path.rglob("*") if each.is_file()]
    return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())


if __name__ == "__main__":
    main()
