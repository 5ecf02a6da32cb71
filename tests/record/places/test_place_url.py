"""What is taken for the URL of a place, and what of it is ever shown."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path, PureWindowsPath

import pytest

from seismograd import SeismogradError
from seismograd.record.places import place_packages
from seismograd.record.places.place_packages import require_packages
from seismograd.record.places.place_url import PlaceUrl, place_of
from seismograd.record.places.run_target import run_target
from seismograd.record.places.stored_names import is_record_file

SECRET = "sftp://me:pass-word@host:22/runs/one?token=abc-def#x"


@pytest.mark.parametrize("text", ["runs/one", "/runs/one", "C:\\runs", "C:/runs", "a:b", "one", ""])
def test_a_directory_is_no_place(text: str) -> None:
    assert place_of(text) is None
    assert place_of(Path(text)) is None


def test_a_drive_of_windows_is_no_place() -> None:
    assert place_of(str(PureWindowsPath("C:/runs/one"))) is None


@pytest.mark.parametrize("given", ["s3://", "s3:///", "s3:/bucket", "zip://a::s3://b/c"])
def test_what_cannot_be_a_record_is_refused(given: str) -> None:
    with pytest.raises(SeismogradError):
        place_of(given)


def test_a_path_that_was_an_url_is_refused() -> None:
    with pytest.raises(SeismogradError, match="before it was made a path"):
        place_of(Path("s3://bucket/one"))


def test_parts_of_an_url() -> None:
    url = PlaceUrl("s3://bucket/runs/one")
    assert (url.protocol, url.name) == ("s3", "one")
    assert url.folder().child("other").text == "s3://bucket/runs/other"
    assert url.beside("-2").text == "s3://bucket/runs/one-2"
    assert PlaceUrl("s3://bucket/runs/").name == ""
    assert PlaceUrl("s3://bucket/runs/").child("one") == url
    assert PlaceUrl("s3://bucket/runs/one/").record() == url
    assert PlaceUrl(SECRET).beside("-2").text.endswith("/runs/one-2?token=abc-def#x")


def test_nothing_secret_is_shown() -> None:
    url = PlaceUrl(SECRET)
    assert url.shown == "sftp://host:22/runs/one"
    assert "pass-word" not in repr(url)
    for text in (f"cannot open {SECRET}", "wrong password pass-word", "no token abc-def"):
        cleaned = url.without_secrets(text)
        assert "pass-word" not in cleaned
        assert "abc-def" not in cleaned
    assert "X-Sig" not in url.without_secrets("GET https://bucket/x?X-Sig=1&b failed")


@pytest.mark.parametrize(
    "name", ["", "/a", "../a", "a/../b", "a//b", ".a", "a/.b", "a\\b", "C:a", "a\x00", "a\n", "a."]
)
def test_names_that_lead_elsewhere_are_not_those_of_files(name: str) -> None:
    assert not is_record_file(name)


def test_names_of_files_are() -> None:
    for name in ("steps.bin", "segments/0000/raw/000001/state.u8", "snapshots/step-1.safetensors"):
        assert is_record_file(name)


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("s3://b/x", "s3fs"),
        ("gs://b/x", "gcsfs"),
        ("az://b/x", "adlfs"),
        ("sftp://h/x", "paramiko"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    def find(name: str) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name == "fsspec" else None

    monkeypatch.setattr(place_packages, "find_spec", find)
    with pytest.raises(SeismogradError) as raised:
        run_target(url)
    assert raised.value.exit_code == 2
    assert raised.value.line() == (
        f"{url} needs {package}, which is not installed · pip install {package}"
    )


def test_fsspec_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_packages, "find_spec", lambda name: None)
    with pytest.raises(SeismogradError, match="needs fsspec") as raised:
        require_packages(PlaceUrl("file:///x"))
    assert "seismograd[places]" in raised.value.line()


def test_a_place_that_nobody_knows_is_refused() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(SeismogradError, match="knows no places"):
        run_target("nowhere://x/y")
    with pytest.raises(SeismogradError, match="gone with the process"):
        run_target("memory://x/y")


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeismogradError, match="--spool"):
        run_target("runs/one", spool=tmp_path)
    with pytest.raises(SeismogradError, match="--upload-wait"):
        run_target("file:///x/y", wait_s=float("nan"))
    target = run_target(None, folder="file:///store/runs")
    assert target.place == PlaceUrl("file:///store/runs/")
    assert run_target("runs/one", folder="file:///store/runs").directory == Path("runs/one")
