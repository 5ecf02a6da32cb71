"""Branches of a record: what it was each time before a training went back to a checkpoint.

A branch is a record of its own below the one that goes on. Files that nothing is appended to any
more are shared with it by hard links, so it takes little room.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from seismograd.i18n import say
from seismograd.record import layout
from seismograd.record.append_file import sync_file
from seismograd.record.line_documents import note_to_json
from seismograd.record.recorded_files import require_directory
from seismograd.record.run_claim import STARTED
from seismograd.record.seals import dumps_sealed
from seismograd.schema import Note
from seismograd.schema.snapshots import FOLDER

LEFT = "left"  # the kind of the note in a branch
_NAME = re.compile(r"\d{1,6}", re.ASCII)
_FILES = (
    STARTED,
    layout.META,
    layout.README,
    layout.END,
    *layout.ENTRY_DTYPES,
    *layout.LINE_FILES,
    "checks.bin",
)
_COPIED = (layout.LEVELS, layout.SAMPLES)  # the record goes on in these
_LINKED = (layout.SEGMENTS, FOLDER)


def branches_of(run: Path) -> tuple[Path, ...]:
    """Return the branches of a record, the oldest first."""
    folder = run / layout.BRANCHES
    if not require_directory(folder):
        return ()
    numbers = sorted(int(path.name) for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return tuple(folder / str(number) for number in numbers)


def branch_off(run: Path, step: int, syncs: bool = False) -> Path:
    """Keep the whole record as it is as a branch, because the training goes on from a `step` before
    its end; nothing of the record itself changes. A branch is there as a whole, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    known = branches_of(run)
    # The process was killed behind this point the last time.
    if known and _is_same(run / layout.STEPS, known[-1] / layout.STEPS):
        return known[-1]
    number = 1 + (int(known[-1].name) if known else 0)
    branch = run / layout.BRANCHES / str(number)
    new = branch.with_name(f".{number}")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(parents=True)
    for name in _FILES:
        if _is_regular(run / name):
            shutil.copyfile(run / name, new / name)
    for name in (*_COPIED, *_LINKED):
        if require_directory(run / name):
            _copy_tree(run / name, new / name, links=name in _LINKED)
    left = say("the training went back to step {step}; this is what there was before", step=step)
    with (new / layout.NOTES).open("ab") as file:
        file.write(dumps_sealed(note_to_json(Note(LEFT, -1, left))) + b"\n")
    if syncs:
        for path in (*new.rglob("*"), new):
            sync_file(path)
    new.rename(branch)
    if syncs:
        sync_file(branch.parent)
        sync_file(run)
    return branch


def _copy_tree(source: Path, target: Path, links: bool) -> None:
    target.mkdir()
    for path in _entries(source):
        if path.is_dir():
            _copy_tree(path, target / path.name, links)
        elif links and path.suffix not in (".json", ".jsonl"):  # what may change later
            _link(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _entries(folder: Path) -> Iterator[Path]:
    """Yield the directories and the regular files of a folder; no link is followed."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            yield path


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _is_regular(path: Path) -> bool:
    return os.path.lexists(path) and stat.S_ISREG(path.lstat().st_mode)


def _is_same(one: Path, other: Path) -> bool:
    return _is_regular(one) and _is_regular(other) and filecmp.cmp(one, other, shallow=False)
