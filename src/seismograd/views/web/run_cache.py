"""A cache of the shown runs by index: the index of a run stays while the server runs, and a run is
read again when it has grown.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from seismograd.diagnosis.verdict import Verdict, judge, recorded_verdict
from seismograd.errors import SeismogradError
from seismograd.record import layout
from seismograd.record.compatibility import is_run
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run, open_run
from seismograd.record.run_activity import is_going_on
from seismograd.record.run_listing import ListedRun, open_listed
from seismograd.schema import RunState, State
from seismograd.views.page_api.page_verdict import is_quickly_judged, verdict_at_once
from seismograd.views.page_api.run_overview import ending
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.page_api.translations import rendered

_MOST_OPEN = 4
_JUDGED_AFTER_S = 1.5  # the page is drawn first
_AT_ONCE = 2  # answers: more threads wait longer for each other than they gain
_MOST_KEPT = 2**25  # bytes of answers
_COURSE = 60  # losses of a run in the list

Signature = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RunNews:
    """The state of a run as an open page sees it; another `version` means that there is more to ask
    for.
    """

    version: str
    rows: int
    state: RunState


@dataclass(frozen=True, slots=True)
class _CachedRun:
    """A run as it was at a signature, and its cached answers."""

    signature: Signature
    source: RunSource
    kept: dict[object, Future[bytes]] = field(default_factory=dict[object, Future[bytes]])


class RunCache:
    """The runs in a directory, or a single one. Every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self.is_single = is_run(path)
        self._directory = path
        self._paths: list[Path] = []
        self._open: OrderedDict[int, _CachedRun] = OrderedDict()
        self._listed: dict[int, tuple[Signature, dict[str, object]]] = {}
        self._verdict: dict[int, tuple[Signature, Verdict]] = {}
        self._judging: set[int] = set()
        self._lock = threading.RLock()
        self._answering = threading.BoundedSemaphore(_AT_ONCE)
        self.look()

    def look(self) -> None:
        """Add runs that have begun since."""
        with self._lock:
            found = [self._directory] if self.is_single else _runs_in(self._directory)
            self._paths += [path for path in found if path not in self._paths]

    def list(self) -> list[dict[str, object]]:
        """Return the summary of each run, the latest first."""
        self.look()
        with self._lock:
            listed = [
                self._entry(index)
                for index in range(len(self._paths))
                if is_run(self._paths[index])
            ]
        return sorted(
            listed, key=lambda each: (str(each["created"]), str(each["name"])), reverse=True
        )

    def source(self, index: int) -> RunSource:
        """Return a run as it is now; raises as `answer`."""
        return self._opened(index).source

    def answer(self, index: int, question: str, given: Mapping[str, str]) -> bytes:
        """Return the answer of a run as it is now.

        Raises:
            LookupError: there is no run of that index, or it was removed.
            SeismogradError: it cannot be read.
            ValueError: there is no such question.
        """
        opened = self._opened(index)
        key = opened.source.asked(question, given)
        with self._lock:
            known = opened.kept.get(key)
            coming = known or opened.kept.setdefault(key, Future[bytes]())
        if known is None:
            self._fulfil(coming, opened, key, question, given)
        return coming.result()

    def _fulfil(
        self,
        coming: Future[bytes],
        opened: _CachedRun,
        key: object,
        question: str,
        given: Mapping[str, str],
    ) -> None:
        """Compute an answer, once for all who ask for it meanwhile. The latest answers are kept, up
        to some size.
        """
        try:
            with self._answering:
                answer = opened.source.answer(question, given)
        except BaseException as error:
            with self._lock:
                opened.kept.pop(key, None)
            coming.set_exception(error)
            return
        coming.set_result(answer)
        with self._lock:
            done = [each for each, future in opened.kept.items() if future.done() and each != key]
            size = len(answer) + sum(len(opened.kept[each].result()) for each in done)
            for each in done:
                if size <= _MOST_KEPT:
                    break
                size -= len(opened.kept.pop(each).result())

    def _opened(self, index: int) -> _CachedRun:
        with self._lock:
            path = self._path(index)
            signature = self._signature(index)
            known = self._open.get(index)
            if known is None or known.signature != signature:
                known = self._open[index] = _CachedRun(
                    signature, self._read(index, path, signature)
                )
            self._open.move_to_end(index)
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return known

    def look_ahead(self) -> None:
        """Read what a page asks first, while the browser is still starting; the page itself reports
        any failure.
        """
        if self.is_single:
            with suppress(LookupError, SeismogradError, OSError):
                self.answer(0, "meta", {})
                self.answer(0, "heat", {})

    def news(self, index: int) -> RunNews:
        """Return the news of a run; raises as `source`."""
        source = self.source(index)
        with self._lock:
            version = f"{hash(self._signature(index)) & 0xFFFFFFFF:x}"
        return RunNews(version, source.run.num_rows, RunState.of(source.run.ended, source.going_on))

    def _path(self, index: int) -> Path:
        if not 0 <= index < len(self._paths) or not is_run(self._paths[index]):
            raise LookupError(index)
        return self._paths[index]

    def _signature(self, index: int) -> Signature:
        """Return a value that changes when something is written, when the run becomes idle, and
        when it has been judged.
        """
        path = self._paths[index]
        sizes = tuple(
            _size(path / name) for name in (layout.STEPS, layout.FINDINGS, layout.NOTES, layout.END)
        )
        verdict = self._verdict.get(index)
        return (*sizes, is_going_on(path), verdict is not None and verdict[0] == sizes)

    def _read(self, index: int, path: Path, signature: Signature) -> RunSource:
        run, going_on, sizes = open_run(path), is_going_on(path), signature[:4]
        known = self._verdict.get(index)
        if known is not None and known[0] == sizes:
            return RunSource(replace(known[1], run=run), going_on)
        at_once = verdict_at_once(run, going_on)
        if at_once is not None:
            return RunSource(at_once, going_on)
        if is_quickly_judged(run):
            return RunSource(judge(run), going_on)
        if index not in self._judging:
            self._judging.add(index)
            begin = threading.Timer(_JUDGED_AFTER_S, self._judge, args=(index, run, sizes))
            begin.daemon = True
            begin.start()
        return RunSource(recorded_verdict(run), going_on)

    def _judge(self, index: int, run: Run, sizes: Signature) -> None:
        """Run the rules in another thread; the page is notified when they are done."""
        try:
            verdict = judge(run)
            with self._lock:
                self._verdict[index] = sizes, verdict
        except FileNotFoundError:
            return  # it was removed meanwhile
        finally:
            with self._lock:
                self._judging.discard(index)

    def _entry(self, index: int) -> dict[str, object]:
        signature = self._signature(index)
        known = self._listed.get(index)
        if known is None or known[0] != signature:
            opened = self._open.get(index)
            run = (
                opened.source.run if opened is not None and opened.signature == signature else None
            )
            known = self._listed[index] = signature, _entry(index, self._paths[index], run)
        return known[1]


def _runs_in(directory: Path) -> list[Path]:
    """Return the runs; none where the directory was removed."""
    try:
        return sorted(child for child in directory.iterdir() if is_run(child))
    except FileNotFoundError:
        return []


def _entry(index: int, path: Path, run: Run | None) -> dict[str, object]:
    entry: dict[str, object] = {"index": index, "name": path.name, "problem": None}
    listed = ListedRun(path, run) if run is not None else open_listed(path)
    if listed.run is None:
        return {
            **entry,
            "script": "",
            "created": "",
            "rows": 0,
            "state": str(RunState.BROKEN),
            "end": None,
            "findings": {},
            "loss": None,
            "course": [],
            "problem": rendered(listed.problem),
        }
    run = listed.run
    course = _course(run)
    found = Counter(finding.severity for finding in run.findings)
    return {
        **entry,
        "script": run.info.script,
        "created": run.info.created_utc,
        "rows": run.num_rows,
        "state": str(RunState.of(run.ended, is_going_on(path))),
        "end": ending(run),
        "findings": dict(found),
        "loss": course[-1] if course else None,
        "course": course,
    }


def _course(run: Run) -> list[float | None]:
    """Return the loss at some steps and at the last: `None` where it was not measured, NaN where it
    was not finite.
    """
    if not run.num_rows:
        return []
    loss = STEP_SCALARS.index("loss")
    view = run.levels.steps(0, run.num_rows, _COURSE)
    values = np.where(view.counts[:, State.NONFINITE, loss] > 0, np.nan, view.last[:, loss])
    is_known = view.counts[:, [State.ZERO, State.FINITE, State.NONFINITE], loss].sum(axis=1) > 0
    return [float(value) if known else None for value, known in zip(values, is_known, strict=True)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
