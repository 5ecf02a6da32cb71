"""The screen of `top`: draws a snapshot and the state of the keys by rich."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.schema import SEVERITIES, Finding, FloatArray, RunState, State
from seismograd.views.sparkline import sparkline
from seismograd.views.text_layout import wrap
from seismograd.views.top.module_lines import module_lines, room_for_modules
from seismograd.views.top.parameter_lines import logarithms, parameter_table
from seismograd.views.top.screen_state import ScreenState, listed
from seismograd.views.top.snapshot import LayerRow, RunSnapshot
from seismograd.views.values import (
    NOTHING,
    SEVERITY_STYLES,
    count,
    number,
    sentences,
    severity_word,
    shape,
    share,
    some,
    state_word,
    steps,
)

_MOST_FINDINGS = 4
_MOST_PRINTED = 40  # parameters, where nobody can scroll
_WIDEST_COURSE = 120
_STATES = {
    RunState.LIVE: (mark("live"), "bold green"),
    RunState.ENDED: (mark("ended"), "bold"),
    RunState.BROKEN: (mark("not ended: killed, or no new data"), "yellow"),
}
_SORT_WORDS = {
    "trouble": mark("anomaly score"),
    "norm": mark("norm"),
    "depth": mark("depth"),
    "name": mark("name"),
}


@dataclass(frozen=True, slots=True)
class Screen:
    """Whatever fits the terminal: verdict, scalars, findings, then as many parameters as there is
    room for. `keys`: name the keys below.
    """

    snapshot: RunSnapshot
    control: ScreenState
    keys: bool = True

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        width = options.max_width
        head = [*_head(self.snapshot, width), *_findings(self.snapshot.findings, width)]
        foot = [_keys(self.control, width)] if self.keys else []
        layers = listed(self.snapshot, self.control)
        room = (
            max(1, (options.height or _MOST_PRINTED) - len(head) - len(foot) - 3)
            if self.keys
            else _MOST_PRINTED
        )
        yield from head
        if self.control.inspecting and layers:
            yield from _inspected(
                next(
                    (each for each in layers if each.parameter.name == self.control.chosen),
                    layers[0],
                ),
                width,
            )
        else:
            signals = self.snapshot.signals
            lines = 0 if signals is None else room_for_modules(signals, room, len(layers))
            yield from _list(layers, self.snapshot, self.control, room - lines, width)
            if signals is not None and lines:
                yield from module_lines(signals, lines, width)
        yield from foot


def _head(snapshot: RunSnapshot, width: int) -> Iterator[Text]:
    word, style = _STATES[snapshot.state]
    yield _line(
        Text.assemble(
            ("seismograd  ", "bold cyan"),
            sentences((snapshot.script, snapshot.name)),
            "  ",
            (translate(word), style),
            "  ",
            translate("steps: {number}").format(number=count(snapshot.num_rows)),
        ),
        width,
    )
    worst = next(
        (
            each
            for each in SEVERITIES
            if any(finding.severity == each for finding in snapshot.findings)
        ),
        None,
    )
    style = (
        SEVERITY_STYLES[worst or "error"]
        if worst or _num_nonfinite(snapshot)
        else "green"
        if snapshot.num_rows
        else "dim"
    )
    yield _line(Text(_verdict(snapshot), style), width)
    if snapshot.num_rows == 0:
        return
    loss = translate("not measured") if snapshot.loss is None else number(snapshot.loss, 6)
    yield _course(translate("loss"), loss, snapshot.losses, snapshot.losses_seen, width)
    yield _course(
        translate("norm"),
        number(snapshot.norm, 6),
        logarithms(snapshot.norms),
        np.ones(len(snapshot.norms)),
        width,
    )


def _course(name: str, value: str, course: FloatArray, seen: FloatArray, width: int) -> Text:
    spark = sparkline(course, seen, max(8, min(_WIDEST_COURSE, width - 20)))
    return _line(Text.assemble((f"{name} ", "dim"), f"{value:<12} ", (spark, "cyan")), width)


def _verdict(snapshot: RunSnapshot) -> str:
    if not snapshot.num_rows:
        return translate("Nothing has been recorded yet.")
    severities = [finding.severity for finding in snapshot.findings]
    if not severities and _num_nonfinite(snapshot):
        said = translate("parameters with a non-finite gradient: {number}").format(
            number=count(_num_nonfinite(snapshot))
        )
        return sentences((said, steps(snapshot.step, snapshot.step)))
    if not severities:
        said = (
            translate("No problems found so far.")
            if snapshot.state == RunState.LIVE
            else translate("No problems were found during the run.")
        )
        return sentences((said, steps(snapshot.step, snapshot.step)))
    counted = ", ".join(
        f"{severity_word(each)} × {severities.count(each)}"
        for each in SEVERITIES
        if each in severities
    )
    return sentences(
        (translate("Found: {list}").format(list=counted), steps(snapshot.step, snapshot.step))
    )


def _num_nonfinite(snapshot: RunSnapshot) -> int:
    return sum(layer.state == State.NONFINITE for layer in snapshot.layers)


def _findings(findings: tuple[Finding, ...], width: int) -> Iterator[Text]:
    for finding in findings[:_MOST_FINDINGS]:
        said = sentences(
            (
                f"{finding.code} {finding.name}",
                steps(finding.first_step, finding.last_step),
                finding.cause.render(),
            )
        )
        yield _line(
            Text.assemble(
                (f"{severity_word(finding.severity)} ", SEVERITY_STYLES[finding.severity]), said
            ),
            width,
        )
    if len(findings) > _MOST_FINDINGS:
        yield Text(
            translate("… more findings: {number}").format(number=len(findings) - _MOST_FINDINGS),
            "dim",
        )


def _list(
    layers: tuple[LayerRow, ...], snapshot: RunSnapshot, control: ScreenState, room: int, width: int
) -> Iterator[RenderableType]:
    title = translate("parameters: {shown} of {all}, sorted by {sort}").format(
        shown=len(layers), all=len(snapshot.layers), sort=translate(_SORT_WORDS[control.sort])
    )
    yield Text(
        sentences(
            (
                title,
                translate("filter: {filter}").format(filter=control.filter)
                if control.filter
                else "",
            )
        ),
        "dim",
    )
    names = [layer.parameter.name for layer in layers]
    chosen = names.index(control.chosen) if control.chosen in names else -1
    first = max(0, min(chosen - room // 2, len(layers) - room)) if chosen >= 0 else 0
    yield parameter_table(layers[first : first + room], control.chosen, width)


def _inspected(layer: LayerRow, width: int) -> Iterator[Text]:
    parameter = layer.parameter
    measured = layer.state > State.ABSENT
    yield Text(parameter.name, "bold")
    facts = [
        (
            translate("shape"),
            sentences((shape(parameter.shape), parameter.dtype, count(parameter.numel))),
        ),
        (translate("module"), parameter.module or NOTHING),
        (translate("state"), state_word(layer.state)),
        (translate("norm"), number(layer.norm, 6) if measured else NOTHING),
        (
            translate("RMS"),
            number(layer.norm / math.sqrt(max(parameter.numel, 1))) if measured else NOTHING,
        ),
        (translate("max |g|"), number(layer.maximum) if measured else NOTHING),
        (translate("zeros"), share(int(layer.zeros), parameter.numel) if measured else NOTHING),
        (translate("NaN/Inf"), count(int(layer.nonfinite)) if measured else NOTHING),
        (
            translate("update / weights"),
            NOTHING if math.isnan(layer.update_ratio) else number(layer.update_ratio),
        ),
    ]
    if parameter.aliases:
        facts.append((translate("also called"), some(parameter.aliases)))
    for name, value in facts:
        yield _line(Text.assemble((f"  {name}: ", "dim"), value), width)
    yield Text("  " + sparkline(logarithms(layer.course), layer.seen, min(32, width - 4)), "cyan")


def _keys(control: ScreenState, width: int) -> Text:
    if control.typing:
        return Text(translate("filter: {filter}").format(filter=control.filter) + "▏", "bold")
    help_text = translate(
        "q quit · s sort · r reverse · / filter · ↑ ↓ select · Enter inspect · Esc back"
    )
    return Text(next(iter(wrap(help_text, width)), ""), "dim")


def _line(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text
