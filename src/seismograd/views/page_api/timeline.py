"""The loop around a row: the intercepted calls, in order."""

from __future__ import annotations

from seismograd.record.reader import Run
from seismograd.schema import AnyArray, EventKind, State
from seismograd.views.page_api.packing import pack

_ROWS_BEFORE, _ROWS_AFTER = 2, 3
_MOST_EVENTS = 400


def answer_timeline(run: Run, row: int) -> bytes:
    """Return the events of a few rows, with `left_out` counting those beyond what can be shown."""
    start, stop = max(0, row - _ROWS_BEFORE), min(run.num_rows, row + _ROWS_AFTER)
    events: list[dict[str, object]] = []
    steps: list[int] = []
    nonfinite: list[int] = []
    left_out = 0
    for block in run.row_reader.blocks(start, stop):
        steps += [int(step) for step in block.steps["iteration"]]
        nonfinite += [
            int(step)
            for step in block.steps["iteration"][(block.state == State.NONFINITE).any(axis=1)]
        ]
        room = max(0, _MOST_EVENTS - len(events))
        left_out += max(0, len(block.events) - room)
        events += [_event(event) for event in block.events[:room]]
    return pack(
        {
            "row": row,
            "first_row": start,
            "steps": steps,
            "events": events,
            "left_out": left_out,
            "nonfinite": nonfinite,
        }
    )


_KIND_NAMES = {int(kind): kind.name for kind in EventKind}


def _event(event: AnyArray) -> dict[str, object]:
    return {
        "step": int(event["iteration"]),
        "time_s": float(event["time_s"]),
        "kind": _KIND_NAMES.get(int(event["kind"]), "?"),
        "value": float(event["value"]),
        "limit": float(event["limit"]),
        "scale": float(event["scale"]),
        "site": int(event["site"]),
        "optimizer": int(event["optimizer"]),
        "flags": int(event["flags"]),
        "detail": int(event["detail"]),
    }
