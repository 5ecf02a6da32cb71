"""The report of one process to rank 0 and its encoding: JSON for names, little-endian numbers for
the rest, never pickle.

Shapes: P columns, n of them that are sent, W numbers per column, E elements.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.schema import (
    RANK_DTYPE,
    SCHEMA_VERSION,
    SKETCH_WIDTH,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    FloatArray,
    IntArray,
    Parameter,
    StateArray,
)
from seismograd.tensors.shards import MAX_SUMMAND, LocalShard

DigestArray = npt.NDArray[np.uint64]
LAYOUT = json.dumps(
    [
        SCHEMA_VERSION,
        STEP_DTYPE.descr,
        RANK_DTYPE.descr,
        [s.name for s in STATISTICS],
        SKETCH_WIDTH,
    ]
)
_REPORT = struct.Struct("<qIIIdBBB")


@dataclass(frozen=True, slots=True)
class RankColumns:
    """The columns of one process, numbered by `version`, the shard that it has of each, and what
    its framework says about who else holds it (`marks`).
    """

    version: int
    parameters: tuple[Parameter, ...]
    shards: tuple[LocalShard | None, ...]
    marks: tuple[str, ...] = ()

    def is_plain(self, column: int) -> bool:
        """Return whether a column is an ordinary tensor that this process holds."""
        shard = self.shards[column]
        return shard is not None and shard.kind == "plain"

    def is_apart(self, column: int) -> bool:
        """Return whether a column is a shard over only some of the processes: others may hold one
        at the same offset, of a replica or of another tensor.
        """
        shard = self.shards[column]
        return (
            shard is not None
            and shard.kind == "shard"
            and shard.some
            and shard.owner
            and shard.held > 0
        )

    def mark(self, column: int) -> str:
        """Return the mark of a column."""
        return self.marks[column] if self.marks else ""

    def sent(self, left_out: frozenset[int] = frozenset()) -> IntArray:
        """Return the columns that a report has numbers of  # (n,)."""
        return np.array(
            [
                c
                for c, p in enumerate(self.shards)
                if p is not None and p.owner and c not in left_out
            ],
            np.int64,
        )

    def summed(self, sent: IntArray) -> list[tuple[int, int]]:
        """Return, of the columns that are sent, those that are summands: the position in `sent`,
        and how many scalars are sent whole.
        """
        shards = [(position, self.shards[int(column)]) for position, column in enumerate(sent)]
        return [
            (position, p.held if p.held <= MAX_SUMMAND else 0)
            for position, p in shards
            if p is not None and p.kind == "partial"
        ]

    def to_json(self) -> bytes:
        """Encode it for a frame."""
        shards = [None if p is None else asdict(p) for p in self.shards]
        return json.dumps(
            {
                "version": self.version,
                "parameters": [asdict(p) for p in self.parameters],
                "pieces": shards,
                "marks": self.marks,
            }
        ).encode()

    @staticmethod
    def from_json(text: bytes) -> RankColumns:
        """Decode it from a frame."""
        fields = json.loads(text)
        return RankColumns(
            int(fields["version"]),
            tuple(_parameter(each) for each in fields["parameters"]),
            tuple(None if each is None else _shard_from_json(each) for each in fields["pieces"]),
            tuple(map(str, fields["marks"])),
        )


def _parameter(fields: dict[str, Any]) -> Parameter:
    fields["shape"], fields["aliases"] = tuple(fields["shape"]), tuple(fields["aliases"])
    return Parameter(**fields)


def _shard_from_json(fields: dict[str, Any]) -> LocalShard:
    fields["offset"] = tuple(fields["offset"])
    return LocalShard(**fields)


@dataclass(frozen=True, slots=True)
class RankReport:
    """One iteration of one process: its index since the processes joined, and the numbers of the
    columns it sends.

    `leave` is the number of the `LEAVE` frame that the columns obey (0: none). `clip_order` is the
    order of the norm of which `clip_norm` of the step is this process's part; NaN when it is the
    whole. `digests` are the checksums of all columns where they were computed: of the weights when
    the gradients were read, and in the first report also after the step, 0 for none  # (P,) each.
    """

    index: int
    version: int
    leave: int
    step: AnyArray  # 0-d, STEP_DTYPE
    rank: AnyArray  # 0-d, RANK_DTYPE
    state: StateArray  # (n,)
    values: Mapping[str, FloatArray]  # (n,)
    samples: Mapping[str, FloatArray]  # (n,) or (n, W); empty when not measured
    elements: FloatArray  # (E,)
    clip_order: float
    # the scalars of each of `RankColumns.summed`, where known
    summands: tuple[FloatArray | None, ...] = ()
    digests: tuple[DigestArray, ...] = ()
    sketches: FloatArray | None = None  # (n, SKETCH_WIDTH) where gradients were sketched

    def to_bytes(self) -> bytes:
        """Encode it for a frame."""
        head = _REPORT.pack(
            self.index,
            self.version,
            self.leave,
            len(self.elements),
            self.clip_order,
            bool(self.samples),
            len(self.digests),
            self.sketches is not None,
        )
        arrays = [self.values[s.name] for s in STATISTICS if not s.sampled]
        arrays += [self.samples[s.name] for s in STATISTICS if s.sampled] if self.samples else []
        arrays += [] if self.sketches is None else [self.sketches]
        known = [s for s in self.summands if s is not None]
        numbers = b"".join(
            np.ascontiguousarray(a, "<f8").tobytes() for a in (*arrays, self.elements, *known)
        )
        digests = b"".join(d.astype("<u8").tobytes() for d in self.digests)
        flags = bytes(s is not None for s in self.summands)
        return (
            head
            + self.step.tobytes()
            + self.rank.tobytes()
            + self.state.astype(np.uint8).tobytes()
            + digests
            + flags
            + numbers
        )

    @staticmethod
    def from_bytes(data: bytes, columns: RankColumns, sent: IntArray) -> RankReport:
        """Decode it from a frame with the numbers of the columns `sent` of `columns`; raises
        `ValueError` for a wrong length.
        """
        num_columns, summed = len(sent), columns.summed(sent)
        index, version, leave, num_elements, clip_order, sampled, num_digests, sketched = (
            _REPORT.unpack_from(data)
        )
        reader = _FieldReader(data, _REPORT.size)
        step = reader.take(STEP_DTYPE, 1)[0]
        rank = reader.take(RANK_DTYPE, 1)[0]
        state = reader.take(np.dtype(np.uint8), num_columns)
        digests = tuple(
            reader.take(np.dtype("<u8"), len(columns.parameters)) for _ in range(num_digests)
        )
        known = reader.take(np.dtype(np.uint8), len(summed)).tolist()
        values = {s.name: reader.numbers(num_columns, s.width) for s in STATISTICS if not s.sampled}
        samples = (
            {s.name: reader.numbers(num_columns, s.width) for s in STATISTICS if s.sampled}
            if sampled
            else {}
        )
        sketches = reader.numbers(num_columns, SKETCH_WIDTH) if sketched else None
        elements = reader.numbers(num_elements, 1)
        summands = tuple(
            reader.numbers(held, 1) if is_known else None
            for (_, held), is_known in zip(summed, known, strict=True)
        )
        reader.ends()
        return RankReport(
            index,
            version,
            leave,
            step,
            rank,
            state,
            values,
            samples,
            elements,
            clip_order,
            summands,
            digests,
            sketches,
        )


def report_head(data: bytes) -> tuple[int, int, int]:
    """Return index, version and leave of a report that has not been decoded yet."""
    index, version, leave, *_ = _REPORT.unpack_from(data)
    return index, version, leave


class _FieldReader:
    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start

    def take(self, dtype: np.dtype[Any], num: int) -> npt.NDArray[Any]:
        taken = np.frombuffer(self._data, dtype, num, self._start)
        self._start += num * dtype.itemsize
        return taken

    def numbers(self, num: int, width: int) -> FloatArray:
        values: FloatArray = self.take(np.dtype("<f8"), num * width).astype(np.float64)
        return values if width == 1 else values.reshape(num, width)

    def ends(self) -> None:
        if self._start != len(self._data):
            raise ValueError("a report of another length")
