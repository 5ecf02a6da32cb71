"""Snapshots read back as they were written; files that are damaged or made up are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.errors import SeismogradError
from seismograd.record.snapshot_reader import (
    list_snapshots,
    read_snapshot,
    read_snapshots,
    whole_tensor,
)

NAME = "step-00000003.safetensors"
GOOD: dict[str, Any] = {
    "__metadata__": {"step": "3", "content": "gradients", "reason": "every"},
    "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
}
DATA = np.arange(6, dtype="<f4").tobytes()


def write(path: Path, header: Any, data: bytes = DATA, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def changed(**values: Any) -> dict[str, Any]:
    return {**GOOD, **values}


def test_a_file_of_safetensors_reads_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {
        "f": torch.randn(3, 2),
        "h": torch.randn(4).half(),
        "b": torch.randn(5).bfloat16(),
        "i": torch.arange(4),
        "e": torch.zeros(0, 3),
        "t": torch.tensor([True, False]),
    }
    save_file(tensors, tmp_path / NAME, metadata=GOOD["__metadata__"])
    snapshot = read_snapshot(tmp_path / NAME)
    for name, tensor in tensors.items():
        there = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
        np.testing.assert_array_equal(snapshot[name], there.numpy())
        assert snapshot[name].shape == tuple(tensor.shape)


def test_what_earlier_versions_kept_reads_back(tmp_path: Path) -> None:
    header = {name: value for name, value in GOOD.items() if name != "__metadata__"}
    snapshot = read_snapshot(write(tmp_path / NAME, header))
    assert (snapshot.step, snapshot.content, snapshot.reason) == (3, "gradients", "halted")
    np.testing.assert_array_equal(snapshot["b"], [4, 5])


HUGE = 2**60
BAD: dict[str, Any] = {
    "no JSON": b"\xff\xfe",
    "a list": [],
    "no dtype": changed(w={"shape": [2, 2], "data_offsets": [0, 16]}),
    "objects": changed(w={"dtype": "O", "shape": [2], "data_offsets": [0, 16]}),
    "negative": changed(w={"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}),
    "a fraction": changed(w={"dtype": "F32", "shape": [2.5], "data_offsets": [0, 10]}),
    "larger than its bytes": changed(w={"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 16]}),
    "beyond the end": changed(w={"dtype": "F32", "shape": [100], "data_offsets": [24, 424]}),
    "backwards": changed(w={"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 0]}),
    "overlapping": changed(b={"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}),
    "many dimensions": changed(w={"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}),
    "a step of words": changed(
        __metadata__={"step": "x", "content": "gradients", "reason": "every"}
    ),
    "unknown content": changed(__metadata__={"step": "3", "content": "code", "reason": "every"}),
    "told no text": changed(__metadata__={"step": 3}),
    "nested deeply": b"[" * 100_000,
    "shards of another shape": changed(
        __metadata__={
            **GOOD["__metadata__"],
            "shards": json.dumps(
                {"w": {"shape": [4], "offset": [0, 0], "partial": False, "placements": ""}}
            ),
        }
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_damaged_or_made_up_is_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "snapshots" / NAME, BAD[name])
    with pytest.raises(SeismogradError, match="is no snapshot"):
        read_snapshot(path)
    with pytest.raises(SeismogradError):
        read_snapshots(tmp_path)
    (listed,) = list_snapshots(tmp_path)
    assert isinstance(listed, SeismogradError)


@pytest.mark.parametrize("length", [0, 1, 2**40, 2**63])
def test_a_header_of_an_impossible_length_is_not_read(length: int, tmp_path: Path) -> None:
    with pytest.raises(SeismogradError, match="is no snapshot"):
        read_snapshot(write(tmp_path / NAME, GOOD, length=length))


def test_an_empty_tensor_of_impossible_sizes_is_refused_when_it_is_read(tmp_path: Path) -> None:
    header = changed(w={"dtype": "F32", "shape": [0, 2**52, 2**52], "data_offsets": [0, 0]})
    snapshot = read_snapshot(write(tmp_path / NAME, header))
    with pytest.raises(SeismogradError):
        snapshot["w"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in directories here")
def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", GOOD)
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / NAME).symlink_to(elsewhere)
    with pytest.raises(SeismogradError, match="not a regular file"):
        read_snapshots(tmp_path)
    (folder / NAME).unlink()
    os.mkfifo(folder / NAME)
    with pytest.raises(SeismogradError, match="not a regular file"):
        read_snapshots(tmp_path)


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "snapshots" / NAME, GOOD)
    write(tmp_path / "snapshots" / (NAME + ".new"), b"half")
    (tmp_path / "snapshots" / "notes.txt").write_text("mine")
    assert [each.step for each in read_snapshots(tmp_path)] == [3]


@given(cut=st.integers(0, 400), position=st.integers(0, 400), value=st.integers(0, 255))
def test_no_damage_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int, position: int, value: int
) -> None:
    path = write(tmp_path_factory.mktemp("damaged") / NAME, GOOD)
    data = bytearray(path.read_bytes())
    if position < len(data):
        data[position] = value
    path.write_bytes(data[: len(data) - cut] if cut < len(data) else data)
    try:
        snapshot = read_snapshot(path)
        for name in snapshot.tensors:
            snapshot[name]
    except SeismogradError:
        pass


def part(tmp_path: Path, rank: int, offset: list[int] | None, whole: list[int]) -> None:
    shard = {"shape": whole, "offset": offset, "partial": False, "placements": "(Shard(dim=0),)"}
    header = {
        "__metadata__": {
            **GOOD["__metadata__"],
            "rank": str(rank),
            "world_size": "2",
            "shards": json.dumps({"w": shard}),
        },
        "w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
    }
    data = np.array([rank, rank + 10], "<f4").tobytes()
    write(tmp_path / "snapshots" / f"step-00000003-rank-{rank}.safetensors", header, data)


def test_parts_of_several_processes_are_joined(tmp_path: Path) -> None:
    part(tmp_path, 1, [0, 0], [2, 2])
    part(tmp_path, 2, [1, 0], [2, 2])
    whole = whole_tensor(read_snapshots(tmp_path), "w", 3)
    np.testing.assert_array_equal(whole, [[1, 11], [2, 12]])


@pytest.mark.parametrize(
    ("offset", "whole"),
    [([0, 0], [2, 2]), ([5, 0], [2, 2]), (None, [2, 2]), ([1, 0], [2**52, 2])],
)
def test_parts_that_are_missing_or_lie_elsewhere_are_refused(
    offset: list[int] | None, whole: list[int], tmp_path: Path
) -> None:
    part(tmp_path, 1, [0, 0], whole)
    part(tmp_path, 2, offset, whole)
    with pytest.raises(SeismogradError, match="only parts"):
        whole_tensor(read_snapshots(tmp_path), "w", 3)
    with pytest.raises(SeismogradError, match="no snapshot"):
        whole_tensor(read_snapshots(tmp_path), "w", 4)
