"""Go on in a record: from the row of a checkpoint, with what came after it kept as a branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record import layout
from seismograd.record.branches import branch_off
from seismograd.record.compatibility import is_recorded, read_meta
from seismograd.record.reader import Run, open_run
from seismograd.record.recorded_files import read_document
from seismograd.record.roll_back import roll_back
from seismograd.record.run_documents import meta_to_json
from seismograd.record.run_lock import RunLock
from seismograd.record.seals import dumps_sealed, loads_sealed
from seismograd.record.writer import Writer
from seismograd.schema import Parameter
from seismograd.settings.record_settings import RecordSettings


@dataclass(frozen=True, slots=True)
class Resumed:
    """A record that goes on: what writes it, what it holds by now, the branch with the steps that
    were taken back, `None` where none were.
    """

    writer: Writer
    before: Run
    branch: Path | None


def resume_record(
    path: Path,
    step: int,
    parameters: tuple[Parameter, ...],
    settings: RecordSettings | None = None,
    elements: Sequence[str] = (),
) -> Resumed:
    """Take the record back to a step, and return it open for what follows; `parameters` are those
    of the training that goes on, `elements` the single scalars that it records.

    Raises:
        SeismogradError: it cannot go on there, and nothing was changed.
        OSError: it cannot be written. What it held can be read.
    """
    resumable(path)
    lock = RunLock(path)
    try:
        run = resumable(path)
        num_rows = row_of_step(run, step)
        _require_raw_values(run, num_rows, step)
        require_same(run, parameters)
        _require_elements(run, elements)
        syncs = settings is not None and settings.sync_s is not None
        branch = branch_off(path, step, syncs) if num_rows < run.num_rows else None
        roll_back(run, num_rows, step, syncs)
        before = open_run(path)
        if before.num_rows < num_rows:
            # Without an end, readers leave out last rows that are damaged.
            branch = branch_off(path, step, syncs) if branch is None else branch
            roll_back(before, before.num_rows, step, syncs)
            before = open_run(path)
        return Resumed(Writer(path, before.info, settings, lock, before), before, branch)
    except BaseException:
        lock.close()
        raise


def resumable(path: Path) -> Run:
    """Open a record that may go on.

    Raises:
        SeismogradError: there is none, or this version cannot go on with it.
    """
    run = open_run(path)
    if not is_recorded(path):
        raise SeismogradError(
            say("{path} has no steps yet: there is nothing to go on with", path=str(path)),
            say("record anew, without --resume"),
        )
    recorded = loads_sealed(read_document(path / layout.META))
    written = loads_sealed(dumps_sealed(meta_to_json(read_meta(path).info), 1))
    if recorded != written:
        raise SeismogradError(
            say("{path} was written by another version of seismograd", path=str(path)),
            say("record anew, without --resume; both records can be compared"),
        )
    return run


def row_of_step(run: Run, step: int) -> int:
    """Return how many rows there are before a step."""
    return int(np.searchsorted(run.steps["iteration"], step))


def require_same(run: Run, parameters: tuple[Parameter, ...]) -> None:
    """Check that a training has the parameters that a record began with, under the same names;
    there may be more.

    Raises:
        SeismogradError: it has not.
    """
    shapes = {each.name: each.shape for each in parameters}
    segments = run.intact.segments
    first = segments[0].first_parameters if segments else ()
    missing = [each.name for each in first if each.name not in shapes]
    other = [
        each.name
        for each in run.parameters
        if each.name in shapes and shapes[each.name] != each.shape
    ]
    if missing or other:
        name = (other or missing)[0]
        raise SeismogradError(
            say(
                "{path} is of another model: {name} has another shape in it",
                path=str(run.path),
                name=name,
            )
            if other
            else say(
                "{path} is of another model: it has a parameter {name}, and this training has none",
                path=str(run.path),
                name=name,
            ),
            say("nothing was changed; record anew, without --resume"),
        )


def _require_elements(run: Run, elements: Sequence[str]) -> None:
    if run.info.elements != tuple(elements):
        raise SeismogradError(
            say("{path} has other single scalars (--element)", path=str(run.path)),
            say("nothing was changed; ask for {names}", names=", ".join(run.info.elements) or "-"),
        )


def _require_raw_values(run: Run, num_rows: int, step: int) -> None:
    """Check that the last row that stays was kept: of others there are summaries alone, which end
    elsewhere.
    """
    for segment, first, stop in run.intact.spans():
        if first < num_rows <= stop and segment.not_kept(num_rows - 1 - first, num_rows - first):
            raise SeismogradError(
                say(
                    "{path} cannot go on from step {step}: raw values of so long ago were not kept "
                    "(--keep)",
                    path=str(run.path),
                    step=step,
                ),
                say("nothing was changed; record anew, without --resume"),
            )
