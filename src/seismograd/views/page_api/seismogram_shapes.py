"""The seismogram of a run as the page draws it: shapes of SVG, without words of any language."""

from __future__ import annotations

from seismograd.diagnosis.verdict import Verdict
from seismograd.views.page_api.packing import pack
from seismograd.views.seismogram.channels import make_seismogram
from seismograd.views.seismogram.drawing import (
    LEFT,
    NAMESPACE,
    RIGHT,
    WIDTH,
    Shape,
    draw,
    height_of,
)

_COLUMNS = 240  # a panel has room for them, and a report has a limit


def answer_seismogram(verdict: Verdict) -> bytes:
    """Return the picture; its size does not grow with the run."""
    if not verdict.run.num_rows:
        return pack({"shapes": [], "channels": []})
    seismogram = make_seismogram(verdict, _COLUMNS)
    return pack(
        {
            "namespace": NAMESPACE,
            "width": WIDTH,
            "height": height_of(seismogram),
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "smallest": seismogram.smallest,
            "largest": seismogram.largest,
            "layers": seismogram.num_layers,
            "shapes": [_flat(shape) for shape in draw(seismogram)],
            "channels": [
                {
                    "label": channel.label,
                    "column": channel.column,
                    "typical": channel.typical,
                    "codes": sorted({mark.code for mark in channel.marks}),
                    "nonfinite": int(channel.nonfinite.sum()),
                }
                for channel in seismogram.channels
            ],
        }
    )


def _flat(shape: Shape) -> list[object]:
    return [shape.tag, shape.attributes, shape.text, [_flat(inner) for inner in shape.inner]]
