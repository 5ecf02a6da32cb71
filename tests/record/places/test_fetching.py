"""Only what changed is fetched, and a hostile place gets nothing onto the disk but a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seismograd import SeismogradError, open_run
from seismograd.record.places import fetching
from seismograd.record.places.fetching import fetch_run, fetch_runs
from seismograd.record.places.manifest import ListedFile, manifest_to_bytes
from seismograd.record.places.pack import FilePiece, Pack
from seismograd.record.places.place import PlacedFile, RecordPlace
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.record_upload import RecordUpload
from seismograd.record.run_directory import create_run_directory
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.places.stores import fsspec, stores
from tests.record.processes import endless_block

__all__ = ["stores"]
pytestmark = pytest.mark.usefixtures("stores")
URL = "memory://bucket/runs/one"


def sent(path: Path, url: str = URL, num_rows: int = 6) -> Writer:
    writer = Writer(path, synthetic.info())
    writer.observe(endless_block(0, num_rows))
    writer.close()
    RecordUpload(path, PlaceUrl(url)).complete()
    return writer


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files and packs that are read."""
    names: list[str] = []
    chunks, whole = RecordPlace.chunks, RecordPlace.read

    def noted_chunks(self: RecordPlace, name: str) -> Iterator[bytes]:
        names.append(name)
        return chunks(self, name)

    def noted_read(self: RecordPlace, name: str, limit: int) -> bytes | None:
        names.append(name)
        return whole(self, name, limit)

    monkeypatch.setattr(RecordPlace, "chunks", noted_chunks)
    monkeypatch.setattr(RecordPlace, "read", noted_read)
    return names


def test_only_what_changed_is_fetched(tmp_path: Path, read: list[str]) -> None:
    upload = RecordUpload(tmp_path / "one", PlaceUrl(URL))
    writer = Writer(tmp_path / "one", synthetic.info())
    for first in range(0, 30, 10):
        writer.observe(endless_block(first, 10))
        upload.send_changes()
        read.clear()
        path = fetch_run(PlaceUrl(URL))
        assert [name for name in read if name.startswith("packs/")] == [
            f"packs/{first // 10 + 1:06d}.pack"
        ]
    writer.close()
    upload.complete()
    fetch_run(PlaceUrl(URL))
    read.clear()
    assert fetch_run(PlaceUrl(URL)) == path
    assert read == ["uploaded.json"]
    (path / "steps.bin").write_bytes(b"")
    fetch_run(PlaceUrl(URL))
    assert read[2:] == ["steps.bin"]
    assert open_run(path).num_rows == 30


@pytest.mark.parametrize("num_packs", [1, 3])
def test_packs_that_become_files_meanwhile_are_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_packs: int
) -> None:
    upload = RecordUpload(tmp_path / "one", PlaceUrl(URL))
    writer = Writer(tmp_path / "one", synthetic.info())
    for first in range(num_packs):
        writer.observe(endless_block(first, 1))
        upload.send_changes()
    writer.close()
    files = RecordPlace.files
    is_complete: list[bool] = []

    def listed_just_before(self: RecordPlace, under: str = "") -> dict[str, PlacedFile]:
        listed = files(self, under)
        if not is_complete:
            is_complete.append(True)
            upload.complete()
        return listed

    monkeypatch.setattr(RecordPlace, "files", listed_just_before)
    run = open_run(URL)
    assert (run.num_rows, run.ended, is_complete) == (num_packs, True, [True])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_record_whose_first_pack_is_being_written_is_a_run_without_rows(
    tmp_path: Path, share: float
) -> None:
    """As where its machine is lost at that moment."""
    files: Any = fsspec.filesystem("memory")
    path = create_run_directory(tmp_path / "one", "train.py")
    Writer(path, synthetic.info()).observe(endless_block(0, 10))
    RecordUpload(path, PlaceUrl(URL)).send_changes()
    (pack,) = files.glob("/bucket/runs/one/packs/*")
    whole = files.cat_file(pack)
    files.pipe_file(pack, whole[: int(len(whole) * share)])
    run = open_run(URL)
    assert (run.num_rows, run.ended, run.info.script) == (0, False, "train.py")
    files.pipe_file(pack, whole)
    assert open_run(URL).num_rows == 10


def test_the_progress_ends_with_all_of_it(tmp_path: Path) -> None:
    sent(tmp_path / "one")
    told: list[tuple[int, int]] = []
    fetch_run(PlaceUrl(URL), lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] > 0


def test_a_folder_of_runs_is_fetched_and_follows_the_place(tmp_path: Path) -> None:
    files: Any = fsspec.filesystem("memory")
    for name in ("one", "two"):
        sent(tmp_path / name, f"memory://bucket/runs/{name}")
    files.pipe_file("/bucket/runs/notes/readme.txt", b"not a run")
    folder = fetch_runs(PlaceUrl("memory://bucket/runs/"))
    assert sorted(each.name for each in folder.iterdir() if each.is_dir()) == ["one", "two"]
    assert fetch_runs(PlaceUrl("memory://bucket/runs")) == folder
    assert fetch_runs(PlaceUrl(URL)) == folder / "one"
    files.rm("/bucket/runs/two", recursive=True)
    fetch_runs(PlaceUrl("memory://bucket/runs/"))
    assert [each.name for each in folder.iterdir() if each.is_dir()] == ["one"]
    with pytest.raises(SeismogradError, match="no run in memory://bucket/elsewhere"):
        fetch_runs(PlaceUrl("memory://bucket/elsewhere"))


def test_open_run_takes_an_url(tmp_path: Path) -> None:
    sent(tmp_path / "one")
    assert open_run(URL).num_rows == 6
    with pytest.raises(SeismogradError, match="no run at memory://bucket/none"):
        open_run("memory://bucket/none")
    with pytest.raises(SeismogradError, match="not an URL"):
        open_run("memory://bucket/..")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", ".hidden", "packs\\x", "C:out"])
def test_no_path_leaves_the_directory(tmp_path: Path, name: str) -> None:
    files: Any = fsspec.filesystem("memory")
    files.pipe_file("/bucket/packed/started.json", b"{}")
    pack = Pack([FilePiece(name, 0, b"x", 0)], anew=True)
    files.pipe_file("/bucket/packed/packs/000001.pack", pack.encoded())
    pack = Pack([FilePiece("steps.bin", 0, b"x", 0)], removed=[name], anew=True)
    files.pipe_file("/bucket/removing/packs/000001.pack", pack.encoded())
    files.pipe_file("/bucket/removing/started.json", b"{}")
    listed = manifest_to_bytes({name: ListedFile(1, 0, 0)})
    files.pipe_file("/bucket/listed/uploaded.json", listed)
    files.pipe_file("/bucket/listed/started.json", b"{}")
    before = sorted(tmp_path.rglob("out"))
    for kind in ("packed", "removing", "listed"):
        path = fetch_run(PlaceUrl(f"memory://bucket/{kind}"))
        assert {each.name for each in path.iterdir()} <= {"started.json"}
    assert sorted(tmp_path.rglob("out")) == before
    assert not Path("/out").exists()


def test_a_file_that_is_not_what_was_listed_is_refused(tmp_path: Path) -> None:
    files: Any = fsspec.filesystem("memory")
    sent(tmp_path / "one")
    whole = files.cat_file("/bucket/runs/one/steps.bin")
    for content in (whole[:-1], whole + b"\x00", bytes(len(whole))):
        files.pipe_file("/bucket/runs/one/steps.bin", content)
        with pytest.raises(SeismogradError, match="damaged, or just being sent"):
            fetch_run(PlaceUrl(URL))
    files.pipe_file("/bucket/runs/one/steps.bin", whole)
    assert open_run(URL).num_rows == 6


def test_what_does_not_fit_onto_the_disk_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    files: Any = fsspec.filesystem("memory")
    files.pipe_file(
        "/bucket/huge/uploaded.json", manifest_to_bytes({"steps.bin": ListedFile(2**50, 0, 0)})
    )
    with pytest.raises(SeismogradError, match="larger than what is free"):
        fetch_run(PlaceUrl("memory://bucket/huge"))
    sent(tmp_path / "one")
    monkeypatch.setattr(fetching, "_ROOM", 2**60)
    read.clear()
    with pytest.raises(SeismogradError, match="larger than what is free"):
        fetch_run(PlaceUrl(URL))
    assert read == ["uploaded.json"]


def test_a_place_that_fails_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: RecordPlace, name: str, limit: int) -> bytes | None:
        raise PermissionError("denied for\n me:secret-token at memory://…")

    monkeypatch.setattr(RecordPlace, "read", refuse)
    with pytest.raises(SeismogradError) as raised:
        fetch_run(PlaceUrl("memory://me:secret-token@bucket/one"))
    line = raised.value.line()
    assert line.startswith("cannot read memory://bucket/one: PermissionError: denied for")
    assert "secret-token" not in line
    assert "\n" not in line
