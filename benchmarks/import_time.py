"""What it takes to import seismograd and to start its command, over starting Python.

    python benchmarks/import_time.py

Processes of each kind are started in turn; medians over the bare interpreter, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "import seismograd": ["-c", "import seismograd"],
    "seismograd --help": ["-m", "seismograd", "--help"],
}


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


if __name__ == "__main__":
    main()
