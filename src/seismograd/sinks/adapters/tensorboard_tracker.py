"""TensorBoard: an events file, written without TensorFlow and without torch."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from seismograd.sinks.tracker import PREFIX, Alert, Histogram, RunStart, TrackedStep


class TensorboardTracker:
    """Writes to the directory `target`, beside what the script may write there: each run of
    seismograd has a file of its own. TensorBoard draws NaN and infinities as triangles.
    """

    def __init__(self, target: str) -> None:
        self._directory = target
        self._event = import_module("tensorboard.compat.proto.event_pb2").Event
        self._summary = import_module("tensorboard.compat.proto.summary_pb2")
        self._tensor = import_module("tensorboard.compat.proto.tensor_pb2").TensorProto
        self._writer: Any = None

    def begin(self, run: RunStart) -> None:
        """Open the file."""
        writers = import_module("tensorboard.summary.writer.event_file_writer")
        self._writer = writers.EventFileWriter(
            self._directory, flush_secs=5, filename_suffix=".seismograd"
        )
        self._text(0, "run", f"{run.directory()} ({run.script})")

    def log(self, measurement: TrackedStep) -> None:
        """Write a step."""
        values = [
            self._summary.Summary.Value(tag=PREFIX + name, simple_value=_single(value))
            for name, value in measurement.scalars.items()
        ]
        values += [
            self._summary.Summary.Value(tag=PREFIX + name, histo=self._histogram(each))
            for name, each in measurement.histograms.items()
        ]
        self._write(measurement.step, values)

    def alert(self, alert: Alert) -> None:
        """Write a finding as text."""
        self._text(alert.step, alert.code, f"**{alert.severity} {alert.name}**\n\n{alert.text}")

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _histogram(self, given: Histogram) -> Any:
        """Return its buckets as they are; the sums are those of their middles."""
        counts, edges = np.array(given.counts), np.array(given.edges)
        middles = (edges[:-1] + edges[1:]) / 2
        return self._summary.HistogramProto(
            min=edges[0],
            max=edges[-1],
            num=counts.sum(),
            sum=(counts * middles).sum(),
            sum_squares=(counts * middles**2).sum(),
            # The first bucket ends where the first of ours begins, and is empty.
            bucket_limit=edges.tolist(),
            bucket=[0.0, *counts.tolist()],
        )

    def _text(self, step: int, name: str, text: str) -> None:
        metadata = self._summary.SummaryMetadata(
            plugin_data=self._summary.SummaryMetadata.PluginData(plugin_name="text")
        )
        shape = import_module("tensorboard.compat.proto.tensor_shape_pb2").TensorShapeProto
        tensor = self._tensor(
            dtype="DT_STRING",
            string_val=[text.encode()],
            tensor_shape=shape(dim=[shape.Dim(size=1)]),
        )
        self._write(
            step,
            [
                self._summary.Summary.Value(
                    tag=f"{PREFIX}{name}/text_summary", metadata=metadata, tensor=tensor
                )
            ],
        )

    def _write(self, step: int, values: list[Any]) -> None:
        self._writer.add_event(
            self._event(
                wall_time=time.time(), step=step, summary=self._summary.Summary(value=values)
            )
        )


def _single(value: float) -> float:
    """Return the value as single precision has it: one that is too large is infinite."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
