"""python -m benchmarks.birth                        # all, with a line for each that is not right
python -m benchmarks.birth --write docs/birth.md  # and the table
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from pathlib import Path

from benchmarks.birth.architectures import ARCHITECTURES
from benchmarks.birth.trial import Trial, TrialScore, score, trials

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of an architecture's or fault's name")
    parser.add_argument("--write", type=Path, help="the page that gets the table")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    scores: dict[tuple[str, str], list[TrialScore]] = defaultdict(list)
    for trial in trials():
        name = f"{trial.architecture.__name__} {trial.place}: {trial.fault}"
        if options.only.lower() in name.lower():
            one = _scored(name, trial)
            if one is not None:
                scores[trial.place, trial.fault].append(one)
    table = _table(scores)
    logging.info("%s", table)
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        options.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _scored(name: str, trial: Trial) -> TrialScore | None:
    one, fact = score(trial)
    if one is None:
        logging.info("%s: does not show", name)
    elif not one.operation or one.line is False or one.samples is False:
        said = "nothing" if fact is None else f"{fact.where} {dict(fact.values)}"
        logging.info("%s: %s", name, said)
    return one


def _table(scores: dict[tuple[str, str], list[TrialScore]]) -> str:
    """Return the shares as a table of Markdown."""
    lines = [
        f"{len(ARCHITECTURES)} architectures, {sum(map(len, scores.values()))} runs in which the "
        "fault shows. A dash: there is nothing to name.",
        "",
        "| in | fault | runs | operation or cause | line | samples |",
        "|---|---|---|---|---|---|",
    ]
    every = [one for each in scores.values() for one in each]
    lines += [f"| {place} | {fault} | {_cells(each)} |" for (place, fault), each in scores.items()]
    lines.append(f"| **all** | | {_cells(every)} |")
    return "\n".join(lines)


def _cells(scores: list[TrialScore]) -> str:
    parts = [str(len(scores))]
    for name in ("operation", "line", "samples"):
        known = [value for each in scores if (value := getattr(each, name)) is not None]
        parts.append(f"{sum(known)} of {len(known)}" if known else "–")
    return " | ".join(parts)


if __name__ == "__main__":
    main()
