"""The channels of a seismogram: which layers there are, and what each did over the run.

A channel is a layer: the parameters of one module, of which the largest norm counts. Of many layers
the worst keep a channel of their own and the others share one with their neighbours. Shapes: P
parameters of the run, C columns of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.diagnosis.verdict import Verdict
from seismograd.record.pyramid.pyramid_view import PyramidView
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.schema import SEVERITIES, BoolArray, FloatArray, IntArray, Parameter, State
from seismograd.views.epoch_rows import epoch_rows

MOST_CHANNELS = 30
MOST_ALONE = 12  # the worst ones, where there are more layers than channels
LONGEST_LABEL = 23  # letters, of neighbours that share a channel
MOST_DECADES = 12.0
FEWEST_DECADES = 2.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding on a channel, from column `first` to column `last`."""

    code: str
    severity: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A layer, or several: the parameter that stands for it; its largest norm in each column, NaN
    where there is none; where it was not finite; where it was exactly zero; the findings about it.
    """

    label: str
    column: int
    high: FloatArray  # (C,)
    nonfinite: BoolArray  # (C,)
    zero: BoolArray  # (C,)
    marks: tuple[Mark, ...]

    @property
    def typical(self) -> float:
        """Return the median of its largest norms; NaN where there is none."""
        known = self.high[np.isfinite(self.high)]
        return float(np.median(known)) if len(known) else float("nan")


@dataclass(frozen=True, slots=True)
class Seismogram:
    """The channels, the worst on top; the rows of each column; the loss over them; the findings
    that name no layer; the columns in which an epoch begins; the norms that are drawn flat and at
    full height.
    """

    channels: tuple[Channel, ...]
    num_layers: int
    starts: IntArray  # (C,)
    stops: IntArray  # (C,)
    steps: tuple[int, int]
    loss: FloatArray  # (C,)
    loss_is_lost: BoolArray  # (C,)
    marks: tuple[Mark, ...]
    epochs: tuple[int, ...]
    smallest: float
    largest: float


def make_seismogram(verdict: Verdict, num_columns: int) -> Seismogram:
    """Return the seismogram of a run, in about `num_columns` columns."""
    run = verdict.run
    view = run.levels.parameters("grad_norm", 0, run.num_rows, num_columns)
    layers = _layers(run.parameters)
    marks = _marks(verdict, view)
    channels = [
        _channel(_label(run.parameters, columns), columns, view, marks) for columns in layers
    ]
    shown = _arranged(layers, channels, view, marks)
    smallest, largest = _scale(shown)
    steps = run.levels.steps(0, run.num_rows, num_columns)
    loss = STEP_SCALARS.index("loss")
    at = np.clip(np.searchsorted(steps.starts, view.starts, "right") - 1, 0, len(steps) - 1)
    first, last = (
        int(run.row_reader.steps(row, row + 1)["iteration"][0]) for row in (0, run.num_rows - 1)
    )
    return Seismogram(
        tuple(shown),
        len(channels),
        view.starts,
        view.stops,
        (first, last),
        steps.last[at, loss],
        steps.counts[at, State.NONFINITE, loss] > 0,
        tuple(mark for names, mark in marks if not names),
        tuple(_column_of(view, row) for row in epoch_rows(run)),
        smallest,
        largest,
    )


def _layers(parameters: Sequence[Parameter]) -> list[list[int]]:
    """Return the columns of each module with a trainable parameter, nearest the input first."""
    modules: dict[str, list[int]] = {}
    for column, each in enumerate(parameters):
        if each.trainable:
            modules.setdefault(each.name.rpartition(".")[0] or each.name, []).append(column)

    def depth(columns: list[int]) -> float:
        known = [d for column in columns if (d := parameters[column].depth) is not None]
        return min(known, default=float("inf"))

    return sorted(modules.values(), key=depth)


def _label(parameters: Sequence[Parameter], columns: Sequence[int]) -> str:
    """Return the module's name; with what it is where the name is a number."""
    main = max((parameters[column] for column in columns), key=lambda each: len(each.shape))
    name = main.name.rpartition(".")[0] or main.name
    if not name.rpartition(".")[2].isdecimal() or not main.module:
        return name
    sizes = f" {main.shape[1]}→{main.shape[0]}" if len(main.shape) == 2 else ""
    return f"{name} · {main.module}{sizes}"


def _marks(verdict: Verdict, view: PyramidView) -> list[tuple[frozenset[int], Mark]]:
    run = verdict.run
    columns = {each.name: column for column, each in enumerate(run.parameters)}
    found: list[tuple[frozenset[int], Mark]] = []
    for each in verdict.findings:
        first, last = (
            _column_of(view, run.row_reader.row_of(step))
            for step in (each.first_step, each.last_step)
        )
        where = frozenset(columns[name] for name in each.parameters if name in columns)
        found.append((where, Mark(each.code, each.severity, first, max(first, last))))
    return found


def _column_of(view: PyramidView, row: int) -> int:
    return int(np.clip(np.searchsorted(view.starts, row, "right") - 1, 0, len(view) - 1))


def _channel(
    label: str,
    columns: Sequence[int],
    view: PyramidView,
    marks: Sequence[tuple[frozenset[int], Mark]],
) -> Channel:
    own = np.array(columns)
    counts = view.counts[:, :, own]
    measured = counts[:, State.ZERO] + counts[:, State.FINITE]
    each = np.where((measured > 0) & np.isfinite(view.high[:, own]), view.high[:, own], np.nan)
    high: FloatArray = np.fmax.reduce(each, axis=1)
    nonfinite: BoolArray = np.any(counts[:, State.NONFINITE] > 0, axis=1)
    return Channel(
        label,
        int(own[int(np.nan_to_num(each, nan=-1.0).max(axis=0).argmax())]),
        high,
        nonfinite,
        high == 0,
        tuple(mark for where, mark in marks if where & set(columns)),
    )


def _arranged(
    layers: Sequence[Sequence[int]],
    channels: Sequence[Channel],
    view: PyramidView,
    marks: Sequence[tuple[frozenset[int], Mark]],
) -> list[Channel]:
    """Return the channels to draw: the worst, then the others in the order of execution; where
    there are too many, neighbours among these share one.
    """
    usual = _usual(channels)
    keys = [_badness(channel, usual) for channel in channels]
    worst = [at for at in sorted(range(len(channels)), key=keys.__getitem__) if any(keys[at])]
    if len(channels) > MOST_CHANNELS:
        worst = worst[:MOST_ALONE]
    rest = [at for at in range(len(channels)) if at not in worst]
    shown = [channels[at] for at in worst]
    room = min(len(rest), MOST_CHANNELS - len(worst)) or 1
    for part in range(room):
        group = rest[part * len(rest) // room : (part + 1) * len(rest) // room]
        if len(group) == 1:
            shown.append(channels[group[0]])
        elif group:
            columns = [column for at in group for column in layers[at]]
            label = _span(channels[group[0]].label, channels[group[-1]].label)
            shown.append(_channel(label, columns, view, marks))
    return shown


def _span(first: str, last: str) -> str:
    """Return a name for neighbours, of the whole length where there is room for it:
    `blocks.0.attn … 14.proj`, `encoder.layers.0 … 14`.
    """
    first, last = (label.partition(" · ")[0] for label in (first, last))
    parts = max(first.count("."), last.count(".")) + 1
    spans = (_joined(_beginning(first, num), _beginning(last, num)) for num in range(parts, 0, -1))
    whole = _joined(first, last)
    return next((span for span in spans if "…" in span and len(span) <= LONGEST_LABEL), whole)


def _beginning(name: str, num_parts: int) -> str:
    return ".".join(name.split(".")[:num_parts])


def _joined(first: str, last: str) -> str:
    if first == last:
        return first
    common = 0
    for at, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            break
        if one == ".":
            common = at + 1
    return f"{first} … {last[common:]}"


def _usual(channels: Sequence[Channel]) -> tuple[frozenset[Mark], float, float]:
    """Return what says nothing of a single layer: findings that most of them have, and how much of
    every layer was not finite or zero.
    """
    every = [mark for channel in channels for mark in channel.marks]
    shared = frozenset(mark for mark in every if every.count(mark) * 2 > len(channels) > 4)
    lost = min((float(each.nonfinite.mean()) for each in channels), default=0.0)
    return shared, lost, min((float(each.zero.mean()) for each in channels), default=0.0)


def _badness(channel: Channel, usual: tuple[frozenset[Mark], float, float]) -> tuple[float, ...]:
    """Return a key that sorts the worst first: by its worst finding and how early that begins, then
    by what was not finite or zero; all zero where it is like the others.
    """
    shared, lost, zero = usual
    own = [mark for mark in channel.marks if mark not in shared]
    severity = min((SEVERITIES.index(mark.severity) for mark in own), default=len(SEVERITIES))
    return (
        float(severity - len(SEVERITIES)),
        float(min((mark.first for mark in own), default=0)),
        lost - float(channel.nonfinite.mean()),
        zero - float(channel.zero.mean()),
    )


def _scale(channels: Sequence[Channel]) -> tuple[float, float]:
    """Return the norms at which a trace is flat and at which it fills its channel."""
    high = np.concatenate([each.high for each in channels]) if channels else np.empty(0)
    low = np.array([each.typical for each in channels])
    low, high = low[low > 0], high[np.isfinite(high) & (high > 0)]
    if not len(high) or not len(low):
        return 0.1, 10.0
    top = float(np.log10(high.max()))
    bottom = max(float(np.log10(low.min())), top - MOST_DECADES)
    return 10 ** min(bottom, top - FEWEST_DECADES), 10**top
