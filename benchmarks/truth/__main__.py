"""Measure how right the diagnosis is: `python -m benchmarks.truth --limit 100 --jobs 2`.

What was measured is kept in the cache: when it is stopped and called again, it goes on. What was
found is kept for the code of seismograd that found it; traces of programs stay.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.truth.bench import ROOT, Bench
from benchmarks.truth.catalogue import BASES, Base
from benchmarks.truth.edit import Edited
from benchmarks.truth.mutator import Mutator
from benchmarks.truth.mutators import MUTATORS
from benchmarks.truth.page import page, right
from benchmarks.truth.progress import Progress
from benchmarks.truth.score import Row, grouped, score
from benchmarks.truth.trial import judge as judged
from benchmarks.truth.trial import mutants

Job = tuple[Base, Mutator, Edited]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.truth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--half", choices=("look", "held", "both"), default="look")
    parser.add_argument(
        "--limit", type=int, default=0, help="this many mutants, in turns of the mutators; 0: all"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="runs of each healthy program; 0: none"
    )
    parser.add_argument(
        "--mutator", default="", help="only mutators whose name or fault contains this"
    )
    parser.add_argument("--base", default="", help="only programs whose name contains this")
    parser.add_argument("--mend", action="store_true", help="try the code that findings advise")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one program")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "seismograd-truth"
    )
    parser.add_argument(
        "--results", type=Path, help="write every row of the look half, and totals, as JSON"
    )
    parser.add_argument("--write", action="store_true", help="write docs/truth.md")
    parser.add_argument(
        "--reveal",
        action="store_true",
        help="show the programs of the held half too; it is no measure any more after that",
    )
    parser.add_argument("--list", action="store_true", help="only count the mutants")
    return parser.parse_args()


def commit() -> str:
    """Return the commit that is measured; a question mark where git does not say."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return said or "?"


def healthy_run(bench: Bench, base: Base, seed: int) -> Row | None:
    """Return what is said of a healthy program; None when it took too long."""
    found = bench.findings(base.path.read_text(), seed)
    if found is None:
        return None
    names = [f["name"] for f in found if f["severity"] in ("error", "warning")]
    return {"base": base.name, "half": base.half, "style": base.style, "seed": seed, "names": names}


def main() -> None:
    args = arguments()
    args.cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.cache, args.timeout)
    bases = [b for b in BASES if args.half in (b.half, "both") and args.base in b.name]
    chosen = tuple(m for m in MUTATORS if args.mutator in m.name or args.mutator == m.fault)
    jobs = mutants(bases, chosen, args.limit)
    print(f"{len(bases)} programs, {len(chosen)} mutators, {len(jobs)} mutants", flush=True)
    if args.list:
        return

    faulty = Progress(len(jobs), "mutants")
    healthy = Progress(len(bases) * args.seeds, "healthy runs")

    def observe(run: tuple[Base, int]) -> Row | None:
        row = healthy_run(bench, *run)
        healthy.done()
        return row

    def shown(base: Base) -> bool:
        return base.half == "look" or args.reveal

    def judge(job: Job) -> Row:
        row = judged(bench, *job, mend=args.mend).row()
        faulty.done()
        if shown(job[0]):
            mark = (
                {True: "ok  ", False: "late" if row["named"] else "MISS"}[row["first"]]
                if row["outcome"] == "judged"
                else "-   "
            )
            print(
                f"{mark} {row['mutator']:<46}{row['base']:<20}{row['outcome']:<14}",
                ",".join(row["names"]),
                flush=True,
            )
        return row

    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(judge, jobs))
        runs = list(pool.map(observe, [(b, s) for b in bases for s in range(args.seeds)]))
    late = runs.count(None)
    runs = [run for run in runs if run is not None]
    if late:
        print(f"{late} healthy runs took too long and are not counted")
    for run in runs:
        if run["names"] and (run["half"] == "look" or args.reveal):
            print(f"FLAG {run['base']} seed {run['seed']}: {', '.join(run['names'])}")
    for half, group in grouped(rows, "half").items():
        print(half, score(group, right))
    for half, group in grouped(runs, "half").items():
        flagged = sum(bool(run["names"]) for run in group)
        print(f"{half}: {flagged} of {len(group)} healthy runs flagged")
    if args.results:
        kept = [r for r in rows if r["half"] == "look" or args.reveal]
        totals = {half: str(score(group, right)) for half, group in grouped(rows, "half").items()}
        args.results.write_text(
            json.dumps(
                {
                    "rows": kept,
                    "healthy": [r for r in runs if r["half"] == "look"],
                    "totals": totals,
                },
                indent=1,
            )
        )
    if args.write:
        (ROOT / "docs" / "truth.md").write_text(
            page(rows, runs, shlex.join(sys.argv[1:]), commit())
        )


if __name__ == "__main__":
    main()
