"""Read the snapshots of a run. A file may be damaged or made up: nothing in it is believed before
it is checked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record import strict_json
from seismograd.record.recorded_files import file_size, open_file, require_directory
from seismograd.record.validation import count, mapping, text
from seismograd.schema.snapshots import FOLDER, SnapshotContent, is_snapshot_file

MAX_HEADER_BYTES = 2**26
MAX_DIMENSIONS = 32
METADATA = "__metadata__"
DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # the upper half of a float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
    "F8_E4M3": "|u1",  # as the bits that they are
    "F8_E5M2": "|u1",
}


@dataclass(frozen=True, slots=True)
class Shard:
    """Where a part lies in the whole: its `shape`, and the `offset` of the part, `None` where the
    part is no block of it. `partial`: it is one summand of that block. `placements`: torch's words.
    """

    shape: tuple[int, ...]
    offset: tuple[int, ...] | None
    partial: bool
    placements: str


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: its dtype as safetensors names it, and which bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    shard: Shard | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One file: tensors by name, of one optimizer and one process, taken at a step.

    `reason`: `every`, `step`, `nonfinite`, or the code of a finding. `scale`: what the gradients
    are still multiplied by. `samples`: those of the batch at fault, as far as they are known.
    """

    path: Path
    step: int
    content: SnapshotContent
    reason: str
    optimizer: int
    rank: int
    world_size: int
    scale: float
    samples: tuple[int, ...]
    tensors: Mapping[str, StoredTensor]
    data_at: int

    @property
    def num_bytes(self) -> int:
        """Return how many bytes its tensors take."""
        return sum(each.stop - each.start for each in self.tensors.values())

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor, bfloat16 as float32 and numbers of eight bits as these bits; of a
        sharded one the part of this process.

        Raises:
            KeyError: there is none of this name.
            SeismogradError: the file cannot be read.
        """
        stored = self.tensors[name]
        with os.fdopen(open_file(self.path), "rb") as file:
            file.seek(self.data_at + stored.start)
            data = file.read(stored.stop - stored.start)
        if len(data) != stored.stop - stored.start:
            raise _refused(self.path, "cut off")
        try:
            numbers = np.frombuffer(bytearray(data), DTYPES[stored.dtype]).reshape(stored.shape)
        except ValueError as error:  # an empty one with sizes that no array can have
            raise _refused(self.path, str(error)[:80]) from error
        if stored.dtype == "BF16":
            return (numbers.astype("<u4") << 16).view("<f4")
        return numbers


def list_snapshots(run: Path) -> Iterator[Snapshot | SeismogradError]:
    """Yield the snapshots of a run by step, and an error for each file that is none."""
    folder = run / FOLDER
    if not require_directory(folder):
        return
    for name in sorted(each.name for each in folder.iterdir() if is_snapshot_file(each.name)):
        try:
            yield read_snapshot(folder / name)
        except SeismogradError as error:
            yield error


def read_snapshots(run: Path) -> tuple[Snapshot, ...]:
    """Return the snapshots of a run by step.

    Raises:
        SeismogradError: one of the files is none.
    """
    found: list[Snapshot] = []
    for each in list_snapshots(run):
        if isinstance(each, SeismogradError):
            raise each
        found.append(each)
    return tuple(sorted(found, key=lambda s: (s.step, s.content, s.optimizer, s.rank)))


def read_snapshot(path: Path) -> Snapshot:
    """Return what is in a file, without reading its tensors.

    Raises:
        SeismogradError: it is no snapshot, or a damaged one.
    """
    size = file_size(path)
    if size is None:
        raise _refused(path, "no such file")
    try:
        with os.fdopen(open_file(path), "rb") as file:
            header, data_at = _header(file, size)
        metadata = {text(k): text(v, "\n") for k, v in mapping(header.pop(METADATA, {})).items()}
        shards = mapping(strict_json.loads(metadata.get("shards", "{}").encode()))
        tensors = {
            text(name): _tensor(value, size - data_at, shards.get(name))
            for name, value in header.items()
        }
        _check_disjoint(tensors.values())
        return Snapshot(
            path=path,
            # what earlier versions kept is the gradients of an update that --halt-on stopped
            step=_whole(metadata.get("step", path.name[5:13])),
            content=SnapshotContent(metadata.get("content", "gradients")),
            reason=metadata.get("reason", "halted"),
            optimizer=_whole(metadata.get("optimizer", "0")),
            rank=_whole(metadata.get("rank", "0")),
            world_size=_whole(metadata.get("world_size", "1")),
            scale=float(metadata.get("scale", "1.0")),
            samples=tuple(map(_whole, metadata.get("samples", "").split())),
            tensors=tensors,
            data_at=data_at,
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _refused(path, f"{type(error).__name__}: {str(error)[:80]}") from error


def whole_tensor(
    snapshots: Sequence[Snapshot],
    name: str,
    step: int,
    content: SnapshotContent = SnapshotContent.GRADIENTS,
) -> npt.NDArray[Any]:
    """Return a tensor as a whole: joined from the parts that several processes have written.

    Raises:
        SeismogradError: there is none, or parts of it are missing.
    """
    parts = [s for s in snapshots if (s.step, s.content) == (step, content) and name in s.tensors]
    if not parts:
        raise SeismogradError(
            say("no snapshot of step {step} holds {name}", step=step, name=repr(name))
        )
    shard = parts[0].tensors[name].shard
    if shard is None:
        return parts[0][name]
    missing = SeismogradError(
        say("the snapshots of step {step} hold only parts of {name}", step=step, name=repr(name))
    )
    # Parts hold different elements, so that their number bounds the memory of the whole.
    num_held = sum(math.prod(part.tensors[name].shape) for part in parts)
    if math.prod(shard.shape) > num_held:
        raise missing
    first = parts[0][name]
    if not math.prod(shard.shape):
        return first
    whole, known = np.zeros(shard.shape, first.dtype), np.zeros(shard.shape, np.bool_)
    for part in parts:
        held, place = part[name], part.tensors[name].shard
        if place is None or place.offset is None or place.partial or place.shape != shard.shape:
            raise missing
        window = tuple(
            slice(start, start + size) for start, size in zip(place.offset, held.shape, strict=True)
        )
        if whole[window].shape != held.shape:
            raise missing
        whole[window], known[window] = held, True
    if not known.all():
        raise missing
    return whole


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where its data begins."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ValueError("the length of its header")
    header = strict_json.loads(file.read(length))
    return dict(mapping(header)), 8 + length


def _tensor(value: Any, num_bytes: int, shard: Any) -> StoredTensor:
    known = mapping(value)
    dtype, shape = text(known["dtype"]), _sizes(known["shape"])
    start, stop = _sizes(known["data_offsets"])
    if dtype not in DTYPES:
        raise ValueError(dtype)
    if stop - start != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize or stop > num_bytes:
        raise ValueError("data_offsets")
    return StoredTensor(dtype, shape, start, stop, None if shard is None else _shard(shard, shape))


def _shard(value: Any, held: tuple[int, ...]) -> Shard:
    known = mapping(value)
    shape, offset = _sizes(known["shape"]), known["offset"]
    place = None if offset is None else _sizes(offset)
    if len(shape) != len(held) or (place is not None and len(place) != len(held)):
        raise ValueError("shards")
    return Shard(shape, place, known["partial"] is True, text(known["placements"]))


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list of sizes")
    sizes = tuple(count(each) for each in cast("list[Any]", value)[: MAX_DIMENSIONS + 1])
    if len(sizes) > MAX_DIMENSIONS or any(each < 0 for each in sizes):
        raise ValueError(f"sizes {sizes[:4]}")
    return sizes


def _check_disjoint(tensors: Any) -> None:
    """Refuse tensors that share bytes: a small file could stand for any amount of memory."""
    spans = sorted((each.start, each.stop) for each in tensors if each.stop > each.start)
    for (_, stop), (start, _) in pairwise(spans):
        if start < stop:
            raise ValueError("data_offsets overlap")


def _whole(value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(value[:40])
    return count(int(value[:20]))


def _refused(path: Path, reason: str) -> SeismogradError:
    return SeismogradError(
        say("{path} is no snapshot, or a damaged one: {reason}", path=str(path), reason=reason)
    )
