"""The snapshots of a run as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, translate
from seismograd.record import strict_json
from seismograd.record.reader import Run
from seismograd.record.snapshot_reader import Snapshot, list_snapshots
from seismograd.schema.snapshots import SnapshotContent
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.values import count

_CONTENTS = {
    SnapshotContent.GRADIENTS: mark("gradients"),
    SnapshotContent.WEIGHTS: mark("weights"),
    SnapshotContent.BATCH: mark("batch"),
}
_REASONS = {
    "every": mark("regularly"),
    "step": mark("this step was asked for"),
    "nonfinite": mark("gradients not finite"),
    "halted": mark("the training was stopped"),
}
UNITS = ("B", "kB", "MB", "GB", "TB")

Listed = Sequence[Snapshot | SeismogradError]


def find_snapshots(run: Run, step: int | None = None) -> Listed:
    """Return the snapshots of a run, of one step only where it is given, and the errors of files
    that are none.
    """
    return [
        each
        for each in list_snapshots(run.path)
        if step is None or isinstance(each, SeismogradError) or each.step == step
    ]


def render(listed: Listed) -> RenderableType:
    """Return one row for each file, and a line for each that is none."""
    problems = [Text(each.line(), "red") for each in listed if isinstance(each, SeismogradError)]
    snapshots = [each for each in listed if isinstance(each, Snapshot)]
    if not snapshots:
        return Group(Text(translate("there is no snapshot")), *problems)
    table = FittingTable(snapshots, COLUMNS, LEFT_OUT_FIRST)
    return Group(table, *problems)


def as_json(listed: Listed) -> str:
    """Return one object for each file; one that is none has a `problem` only."""
    return strict_json.dumps([_as_object(each) for each in listed], indent=2).decode()


def _as_object(each: Snapshot | SeismogradError) -> dict[str, object]:
    if isinstance(each, SeismogradError):
        return {"problem": each.line()}
    return {
        "path": str(each.path),
        "step": each.step,
        "content": str(each.content),
        "reason": each.reason,
        "optimizer": each.optimizer,
        "rank": each.rank,
        "world_size": each.world_size,
        "scale": each.scale,
        "samples": list(each.samples),
        "tensors": {
            name: {"dtype": tensor.dtype, "shape": list(tensor.shape)}
            for name, tensor in each.tensors.items()
        },
    }


def _size(num_bytes: int) -> str:
    size, unit = float(num_bytes), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {UNITS[unit]}"


def _reason(snapshot: Snapshot) -> str:
    named = _REASONS.get(snapshot.reason)
    return snapshot.reason if named is None else translate(named)


FILE = TableColumn[Snapshot](mark("file"), "left", lambda each: each.path.name)
STEP = TableColumn[Snapshot](mark("step"), "right", lambda each: str(each.step))
CONTENT = TableColumn[Snapshot](
    mark("content"), "left", lambda each: translate(_CONTENTS[each.content])
)
WHY = TableColumn[Snapshot](mark("why"), "left", _reason)
OPTIMIZER = TableColumn[Snapshot](mark("optimizer"), "right", lambda each: str(each.optimizer))
RANK = TableColumn[Snapshot](mark("rank"), "right", lambda each: str(each.rank))
TENSORS = TableColumn[Snapshot](mark("tensors"), "right", lambda each: count(len(each.tensors)))
SIZE = TableColumn[Snapshot](mark("size"), "right", lambda each: _size(each.num_bytes))

COLUMNS = (FILE, STEP, CONTENT, WHY, OPTIMIZER, RANK, TENSORS, SIZE)
LEFT_OUT_FIRST = (OPTIMIZER, RANK, CONTENT, STEP, TENSORS)
"""What a narrow terminal does without: first what the name of a file says as well."""
