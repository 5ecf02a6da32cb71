"""Trainings that others wrote, by `python` and by `seismograd run`: the same bits, a true record.

    pip install …                                 # the packages that it says are missing
    python -m benchmarks.real_programs --sources ~/sources
    python -m benchmarks.real_programs --only DCGAN --only VAE
    python -m benchmarks.real_programs --write docs/real_programs.md

Each program runs twice with the same seed in a fresh folder. After every step of every optimizer
an observer, which knows nothing of seismograd, hashes all weights and the random states of torch,
NumPy and Python, and notes norms and learning rates (`observer`). Both runs must agree in that, in
what they print, in their files and in their exit code; and the record must have those steps,
names, norms and rates. Repositories that are missing in `--sources` are cloned. Ends with 1 where
something is not as it must be.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.real_programs import document
from benchmarks.real_programs.judging import is_right, judge, missing_packages
from benchmarks.real_programs.programs import PROGRAMS


def main() -> int:
    options = _options()
    all_right = True
    for program in PROGRAMS:
        if options.only and program.name not in options.only:
            continue
        missing = missing_packages(program)
        if missing:
            print(f"{program.name}: needs {', '.join(missing)}", flush=True)
            all_right = False
            continue
        began = time.monotonic()
        try:
            verdict = judge(program, options.sources, options.keep)
        except RuntimeError as error:
            print(error, flush=True)
            all_right = False
            continue
        row = document.row(program, verdict)
        print(f"{row} {time.monotonic() - began:.0f} s", flush=True)
        all_right &= is_right(program, verdict)
        if options.write:
            rows = document.rows_of(options.write) | {program.name: row}
            known = [rows[program.name] for program in PROGRAMS if program.name in rows]
            document.write(options.write, known)
    return 0 if all_right else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_programs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sources",
        type=Path,
        default=Path("build/sources"),
        metavar="DIR",
        help="where the repositories are, or are cloned to",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[program.name for program in PROGRAMS],
        help="one program; can be said again",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="DOCUMENT",
        help="put the rows into its table; those of other programs stay",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep what each program leaves behind in this new directory",
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
