"""Cut the files of lines of a record at a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from seismograd.record import layout
from seismograd.record.append_file import replace_document
from seismograd.record.finding_json import (
    finding_line_from_json,
    finding_to_json,
    findings_from_lines,
)
from seismograd.record.line_documents import (
    fact_from_json,
    note_from_json,
    optimizer_from_json,
    site_from_json,
    subject_from_json,
)
from seismograd.record.recorded_files import read_whole_lines
from seismograd.record.recorded_lines import read_lines
from seismograd.record.seals import dumps_sealed, loads_sealed
from seismograd.schema import Fact, FactKind, Finding, Note

_OF_THE_END = (FactKind.EPOCHS, FactKind.NEVER_STEPPED)


def cut_lines(run: Path, step: int) -> None:
    """Leave what was told of the steps before, and nothing about an end that was none.

    Raises:
        OSError: it cannot be written.
    """
    numbered = ((layout.SITES, site_from_json), (layout.OPTIMIZERS, optimizer_from_json))
    for name, parse in (*numbered, (layout.SUBJECTS, subject_from_json)):
        keep_lines(run / name, parse, lambda _: True, by_number=True)
    keep_lines(run / layout.NOTES, note_from_json, lambda note: _stays(note, step))
    keep_lines(run / layout.FACTS, fact_from_json, lambda fact: _holds(fact, step))
    if (run / layout.FINDINGS).exists():
        lines = read_lines(run / layout.FINDINGS, finding_line_from_json, 0, False).values
        found = [_as_of(each, step) for each in findings_from_lines(lines)]
        content = [dumps_sealed(finding_to_json(each)) + b"\n" for each in found if each]
        replace_document(run / layout.FINDINGS, b"".join(content))


def keep_lines(
    path: Path,
    parse: Callable[[Any], Any],
    is_kept: Callable[[Any], bool],
    by_number: bool = False,
) -> None:
    """Leave the whole lines of a file that are to be kept; `by_number`: up to the first that is not
    whole. Nothing happens where there is no such file.

    Raises:
        OSError: it cannot be written.
    """
    if not path.exists():
        return
    kept: list[bytes] = []
    for line in read_whole_lines(path):
        try:
            if line is not None and is_kept(parse(loads_sealed(line))):
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError):
            if by_number:
                break
    content = b"".join(kept)
    if len(content) != path.stat().st_size:
        replace_document(path, content)


def _stays(note: Note, step: int) -> bool:
    return note.iteration < step and note.kind != "tail"


def _holds(fact: Fact, step: int) -> bool:
    is_of_end = fact.kind in _OF_THE_END or fact.number("ended") == 1
    return fact.iteration < step and not is_of_end


def _as_of(finding: Finding, step: int) -> Finding | None:
    """Return a finding as far as it was seen before a step."""
    if finding.first_step >= step:
        return None
    return replace(finding, last_step=min(finding.last_step, step - 1))
