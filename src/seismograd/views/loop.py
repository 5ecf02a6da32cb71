"""The training loop as the user wrote it: the lines of the script that were called, in their order
within a step, how often, and which faults are about them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.record import strict_json
from seismograd.record.reader import Run
from seismograd.schema import EventKind, Finding, Site
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.values import NOTHING, SEVERITY_STYLES, count

_ROWS = 200  # of the middle of the run, where the loop is the same again and again
_ALWAYS = (EventKind.ZERO_GRAD, EventKind.BACKWARD, EventKind.STEP)
_KINDS = frozenset(map(int, EventKind))

FAULT_KINDS: Mapping[str, EventKind] = {
    "SG301": EventKind.ZERO_GRAD,
    "SG302": EventKind.ZERO_GRAD,
    "SG303": EventKind.STEP,
    "SG304": EventKind.CLIP,
    "SG305": EventKind.CLIP,
    "SG306": EventKind.UNSCALE,
    "SG307": EventKind.BACKWARD,
    "SG308": EventKind.BACKWARD,
    "SG309": EventKind.BACKWARD,
    "SG310": EventKind.BACKWARD,
    "SG311": EventKind.STEP,
    "SG312": EventKind.STEP,
    "SG501": EventKind.CLIP,
    "SG502": EventKind.CLIP,
    "SG503": EventKind.CLIP,
    "SG504": EventKind.CLIP,
}
"""Which call the fault that a rule found is about."""

_WORDS = {
    EventKind.BACKWARD: "backward",
    EventKind.CLIP: "clip",
    EventKind.ZERO_GRAD: "zero_grad",
    EventKind.STEP: "step",
    EventKind.UNSCALE: "unscale_",
    EventKind.SCALER_UPDATE: "scaler.update",
}


@dataclass(frozen=True, slots=True)
class LoopLine:
    """A call: its kind, its line (`None` and site -1: no line called it), how often it happened in
    the steps that were looked at, and the findings about it.
    """

    kind: EventKind
    site: int
    place: Site | None
    count: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """The calls in their order; those of the three verbs that nothing called come first."""

    num_steps: int
    lines: tuple[LoopLine, ...]


def read_loop(run: Run, findings: Iterable[Finding]) -> Loop:
    """Return the loop, by steps in the middle of the run."""
    start = max(0, (run.num_rows - _ROWS) // 2)
    counts: dict[tuple[int, int], int] = defaultdict(int)
    places: dict[tuple[int, int], float] = defaultdict(float)
    num_rows = 0
    for block in run.row_reader.blocks(start, min(run.num_rows, start + _ROWS)):
        num_rows += len(block)
        position, iteration = 0, -1
        for event in block.events:
            position = position + 1 if int(event["iteration"]) == iteration else 0
            iteration = int(event["iteration"])
            key = int(event["kind"]), int(event["site"])
            if key[0] not in _KINDS:  # of a later version, or damaged
                continue
            counts[key] += 1
            places[key] += position
    called = {kind for kind, _ in counts}
    missing = [(int(kind), -1) for kind in _ALWAYS if kind not in called]
    order = [*missing, *sorted(counts, key=lambda key: places[key] / counts[key])]
    sites = run.row_reader.sites
    known = [(EventKind(kind), site, _place(sites, site)) for kind, site in order]
    found = list(findings)
    lines = [
        LoopLine(kind, site, place, counts.get((kind, site), 0), _about(found, kind, place, known))
        for kind, site, place in known
    ]
    return Loop(num_rows, tuple(lines))


def _place(sites: Sequence[Site], site: int) -> Site | None:
    return sites[site] if 0 <= site < len(sites) else None


def _about(
    findings: Iterable[Finding],
    kind: EventKind,
    place: Site | None,
    lines: Sequence[tuple[EventKind, int, Site | None]],
) -> tuple[Finding, ...]:
    """Return the findings about such a call, those about one line of several only at that."""
    places = {str(each) for other, _, each in lines if other == kind}
    return tuple(
        finding
        for finding in findings
        if FAULT_KINDS.get(finding.code) == kind
        and (finding.where not in places or finding.where == str(place))
    )


def how_often(line: LoopLine, num_steps: int) -> str:
    """Return how often a line is called, by the step."""
    if not line.count:
        return "×0"
    times = line.count / max(1, num_steps)
    if times >= 0.95:
        return translate("×{number} per step").format(number=f"{times:.2g}")
    return translate("once in {number} steps").format(number=count(round(1 / times)))


def render(loop: Loop) -> RenderableType:
    """Return the lines as a table."""
    if not loop.lines:
        return Text(translate("No calls were recorded."))
    often = TableColumn[LoopLine](
        mark("how often"), "left", lambda line: how_often(line, loop.num_steps)
    )
    head = translate("The training loop, by {number} steps in the middle of the run:").format(
        number=count(loop.num_steps)
    )
    table = FittingTable(loop.lines, (WHERE, CALL, often, FAULTS, SOURCE), (SOURCE,))
    return Group(Text(head, "bold"), table)


def as_json(loop: Loop) -> str:
    """Return the lines as objects."""
    lines = [
        {
            "call": _WORDS[line.kind],
            "where": "" if line.place is None else str(line.place),
            "source": "" if line.place is None else line.place.text,
            "count": line.count,
            "findings": [finding.code for finding in line.findings],
        }
        for line in loop.lines
    ]
    return strict_json.dumps({"steps": loop.num_steps, "lines": lines}, indent=2).decode()


def _style(line: LoopLine) -> str:
    return SEVERITY_STYLES[line.findings[0].severity] if line.findings else ""


WHERE = TableColumn[LoopLine](
    mark("where"), "left", lambda line: NOTHING if line.place is None else str(line.place)
)
CALL = TableColumn[LoopLine](mark("call"), "left", lambda line: _WORDS[line.kind], _style)
FAULTS = TableColumn[LoopLine](
    mark("findings"),
    "left",
    lambda line: (
        f"← {' '.join(dict.fromkeys(each.code for each in line.findings))}" if line.findings else ""
    ),
    _style,
)
SOURCE = TableColumn[LoopLine](
    mark("statement"),
    "left",
    lambda line: "" if line.place is None else line.place.text,
    lambda _: "dim",
)
