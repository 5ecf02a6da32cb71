"""Write docs/truth.md."""

from __future__ import annotations

from collections import Counter

from benchmarks.truth.mutators import MUTATORS
from benchmarks.truth.score import Rate, Row, Score, grouped, of_rules, score

RULES = {m.name: m.rules for m in MUTATORS}
HEAD = """# How right the diagnosis is
Programs that train well get one fault each, put into their syntax tree by a *mutator*. A trace that
shares no code with seismograd has to prove that the fault shows, else the mutant is thrown away and
counted. What is left runs under `seismograd run`, and `seismograd check` is compared with what is
known of it.

- **Named**: a finding (error or warning) is of a right rule. **First**: the first one is.
- **Precision**: the share of all findings that are right.
- **Culprit**: of those named, a right finding points at the parameter or the line at fault.
- **Advice**: of those named, its words hold the mend. **Mended**: of those named whose mend is code
  or a number, the fault is gone from a new trace when the finding's code is put in where it says
  (with `--mend`). A finding without code, or with code that does not fit the program, counts as
  not mended. Which kinds count is decided beforehand: those where one statement or one number is
  at fault, and what it should be does not depend on what only the author knows.

Brackets are Wilson's 95 % intervals. Programs are split by a hash of their names: rules may be
tuned by looking at the *look* half only; of the *held* half nothing but these totals is ever shown.

Made by `python -m benchmarks.truth COMMAND` on commit COMMIT; without
`--limit` it tries every mutant. What was measured is kept, so it can be stopped and called again.
Do not edit.
"""


def right(row: Row) -> tuple[str, ...]:
    return RULES[row["mutator"]]


def line(title: str, s: Score) -> str:
    rates = (s.named, s.first, s.precision, s.culprit, s.advice, s.mended)
    return "| " + " | ".join([title, *map(str, rates)]) + " |"


def table(title: str, groups: dict[str, list[Row]]) -> str:
    head = (
        f"| {title} | named | first | precision | culprit | advice | mended |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    judged = {k: [r for r in v if r["outcome"] == "judged"] for k, v in groups.items()}
    return head + "\n".join(line(k, score(v, right)) for k, v in judged.items() if v) + "\n"


def rules_table(rows: list[Row], healthy: list[Row]) -> str:
    head = "| rule | named | first | right when it speaks |\n|---|---|---|---|\n"
    rules = of_rules(rows, healthy, right)
    return head + "".join(f"| {rule} | {' | '.join(map(str, r))} |\n" for rule, r in rules.items())


def page(rows: list[Row], healthy: list[Row], options: str, commit: str = "?") -> str:
    """Return the page about these results, which were measured with these options on a commit."""
    halves = grouped(rows, "half")
    title = "Both halves" if len(halves) > 1 else f"The {next(iter(halves), 'look')} half alone"
    parts = [
        HEAD.replace("COMMAND", options).replace("COMMIT", commit),
        f"## {title}\n" + table("half", halves),
    ]
    flagged = {
        half: Rate(sum(bool(r["names"]) for r in runs), len(runs))
        for half, runs in grouped(healthy, "half").items()
    }
    if flagged:
        parts.append(
            "Healthy runs flagged: "
            + "; ".join(f"{half} {rate}" for half, rate in flagged.items())
            + ".\n"
        )
    thrown = Counter(r["outcome"] for r in rows)
    parts.append(
        f"{len(rows)} mutants: "
        + ", ".join(f"{n} {outcome}" for outcome, n in thrown.most_common())
        + ".\n"
    )
    parts.append("## By rule\n" + rules_table(rows, healthy))
    parts.append("## By fault\n" + table("fault", grouped(rows, "fault")))
    parts.append("## By style\n" + table("style", grouped(rows, "style")))
    return "\n".join(parts)
