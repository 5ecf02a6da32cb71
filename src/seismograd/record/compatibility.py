"""Check whether a directory is a run, and one that this version can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record import layout
from seismograd.record.recorded_files import file_size, read_document
from seismograd.record.run_claim import STARTED
from seismograd.record.run_documents import (
    EndCounts,
    Meta,
    end_from_json,
    meta_from_json,
    meta_to_json,
)
from seismograd.record.seals import loads_sealed
from seismograd.record.strict_json import dumps, loads
from seismograd.record.validation import build
from seismograd.schema import SCHEMA_VERSION, RunInfo

_STARTED = ("script", "created_utc", "seismograd_version", "python_version")
_UNKNOWN = {**dict.fromkeys((*_STARTED, "torch_version", "level"), ""), "every": 1}


def is_run(path: Path) -> bool:
    """Return whether the directory holds something that claims to be a run."""
    return is_recorded(path) or (path / STARTED).is_file()


def is_recorded(path: Path) -> bool:
    """Return whether a process has begun to record in the directory, rather than only claimed
    it.
    """
    return (path / layout.META).is_file() and (path / layout.STEPS).is_file()


def read_meta(path: Path) -> Meta:
    """Return the metadata of a run; raises `SeismogradError` for anything that is not a run this
    version reads.
    """
    try:
        if _has_only_started(path):
            return started_meta(path)
        meta = _document(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SeismogradError(
            say("cannot read {path}: {reason}", path=str(path), reason=reason)
        ) from error
    if meta.get("format") != layout.FORMAT:
        raise SeismogradError(
            say("{path} is not a run: its meta.json belongs to something else", path=str(path)),
            _runs_inside(path),
        )
    schema = meta.get("schema")
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise SeismogradError(
            say(
                "{path} was written by a newer version of seismograd (its schema is {theirs}, this "
                "version reads {ours})",
                path=str(path),
                theirs=schema,
                ours=SCHEMA_VERSION,
            ),
            say("pip install -U seismograd"),
        )
    try:
        return meta_from_json(meta)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def read_end(path: Path) -> tuple[EndCounts | None, bool]:
    """Return the counts of an orderly end, `None` without one; and whether there is a torn end."""
    try:
        return end_from_json(loads_sealed(read_document(path / layout.END))), False
    except FileNotFoundError:
        return None, False
    except (KeyError, TypeError, ValueError):
        return None, True


def _has_only_started(path: Path) -> bool:
    return (
        path.is_dir()
        and file_size(path / layout.META) is None
        and file_size(path / STARTED) is not None
    )


def started_meta(path: Path) -> Meta:
    """Return what is known of a run that was claimed and has recorded nothing: it was killed before
    its first step, or has only just begun.
    """
    try:
        started = loads_sealed(read_document(path / STARTED))
        info = build(
            RunInfo, {**_UNKNOWN, **{key: started[key] for key in _STARTED if key in started}}
        )
    except (KeyError, TypeError, ValueError):  # cut short, too
        info = build(RunInfo, _UNKNOWN)
    return meta_from_json(loads(dumps(meta_to_json(info))))


def _document(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise SeismogradError(
            say("there is no run at {path}", path=str(path)),
            say("`seismograd runs` lists the runs under runs/"),
        )
    if not path.is_dir():
        raise SeismogradError(
            say("{path} is a file, but a run is a directory", path=str(path)),
            say("give the directory that contains it"),
        )
    if file_size(path / layout.META) is None:
        raise SeismogradError(
            say("{path} is not a run: it has no meta.json", path=str(path)), _runs_inside(path)
        )
    try:
        meta = loads_sealed(read_document(path / layout.META))
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(meta, dict):
        raise _damaged(path)
    return cast("dict[str, Any]", meta)


def _damaged(path: Path) -> SeismogradError:
    return SeismogradError(
        say("{path}: its meta.json is incomplete or damaged", path=str(path)),
        say("its data is in plain files; the README.txt there shows how to read them with NumPy"),
    )


def _runs_inside(path: Path) -> Message:
    runs = sorted(child for child in path.iterdir() if is_run(child))
    if runs:
        return say("this directory contains runs; the latest one is {run}", run=str(runs[-1]))
    return say("`seismograd runs` lists the runs under runs/")
