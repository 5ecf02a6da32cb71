"""What was sampled reads back as it was, as far as it is whole, and reaches the rules in order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.rule import Rule
from seismograd.diagnosis.whole_record import diagnose
from seismograd.errors import SeismogradError
from seismograd.i18n import Message
from seismograd.pipeline.pump import Pump
from seismograd.record.lazy_writer import LazyWriter
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.schema import (
    SAMPLE_FIELDS,
    Fact,
    FactKind,
    Finding,
    Note,
    RowBatch,
    SampleBatch,
    SampleKind,
    SampleSubject,
)
from tests.record.edits import read_unsealed
from tests.rules.cutting import cut
from tests.synthetic import block, info

SIGNALS = SampleKind.MODULE_SIGNALS


def batch(
    step: int, names: Iterable[str] = ("a", "b"), kind: SampleKind = SIGNALS, seed: int = 0
) -> SampleBatch:
    """A batch with numbers of every kind, some of which were not measured."""
    subjects = tuple(SampleSubject(name, "Linear", call) for call, name in enumerate(names))
    shape = (len(subjects), len(SAMPLE_FIELDS[kind].names))
    numbers = np.random.default_rng(step + seed)
    values = numbers.normal(size=shape)
    values[numbers.random(shape) < 0.2] = np.nan
    return SampleBatch(kind, step, subjects, values, numbers.random(shape) < 0.7, step % 3 - 1)


def assert_same(one: SampleBatch, other: SampleBatch) -> None:
    assert (one.kind, one.step, one.optimizer) == (other.kind, other.step, other.optimizer)
    assert tuple(one.subjects) == tuple(other.subjects)
    assert (one.measured == other.measured).all()
    for name in SAMPLE_FIELDS[one.kind].names:
        assert np.array_equal(one.column(name), other.column(name), equal_nan=True)
        assert np.array_equal(one.was_measured(name), other.was_measured(name))


def write(path: Path, batches: Iterable[SampleBatch]) -> Path:
    writer = LazyWriter(path, lambda path: Writer(path, info()))
    for each in batches:
        writer.sampled(each)
    writer.observe(block(np.ones((3, 2))))
    writer.close()
    return path


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("abcdef"), min_size=1), st.sampled_from(tuple(SampleKind))
        ),
        max_size=6,
    )
)
@settings(max_examples=20)
def test_batches_of_every_kind_read_back(drawn: list[tuple[set[str], SampleKind]]) -> None:
    batches = [batch(10 * at, sorted(names), kind) for at, (names, kind) in enumerate(drawn)]
    with TemporaryDirectory() as directory:
        run = open_run(write(Path(directory) / "run", batches))
        for kind in SampleKind:
            written = [each for each in batches if each.kind == kind]
            series = run.sampled(kind)
            assert series.steps.tolist() == [each.step for each in written]
            for one, other in zip(written, series, strict=True):
                assert_same(one, other)


def test_a_stretch_of_steps_is_read_alone(tmp_path: Path) -> None:
    series = open_run(write(tmp_path / "run", [batch(10 * at) for at in range(5)])).sampled(
        "module_signals"
    )
    assert [each.step for each in series.between(10, 30)] == [10, 20, 30]
    latest = [series.latest(step) for step in (None, 25, 0)]
    assert [each.step for each in latest if each is not None] == [40, 20, 0]
    assert series.latest(-1) is None
    assert series[-1].step == 40


def test_a_run_without_samples_has_none_and_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [])
    assert not (path / "samples").exists()
    assert len(open_run(path).sampled(SIGNALS)) == 0
    meta = read_unsealed(path / "meta.json")
    del meta["sample_dtypes"], meta["sample_batch_dtype"]
    (path / "meta.json").write_text(json.dumps(meta), "utf-8")
    assert open_run(path).sampled(SIGNALS).latest() is None
    with pytest.raises(SeismogradError, match="nothing of the kind 'x' is sampled"):
        open_run(path).sampled("x")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_cut_anywhere_a_prefix_reads_back(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        batches = [batch(at, "abcdef"[: at + 1]) for at in range(4)]
        path = write(Path(directory) / "run", batches)
        names = sorted(file.name for file in (path / "samples").iterdir())
        for name in sorted(data.draw(st.sets(st.sampled_from(names), min_size=1))):
            file = path / "samples" / name
            whole = file.read_bytes()
            file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        read = list(open_run(path).sampled(SIGNALS))
        assert len(read) <= len(batches)
        for one, other in zip(batches, read, strict=False):
            assert_same(one, other)


def test_one_torn_row_costs_the_last_batch_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [batch(at) for at in range(4)])
    rows = path / "samples" / "module_signals.bin"
    rows.write_bytes(rows.read_bytes()[:-1])
    assert open_run(path).sampled(SIGNALS).steps.tolist() == [0, 1, 2]


def test_fields_of_another_version_are_found_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [batch(0)])
    meta = read_unsealed(path / "meta.json")
    fields = meta["sample_dtypes"]["module_signals"]
    assert fields[3][0] == "rms"
    fields[3][0] = "of_another_version"
    (path / "meta.json").write_text(json.dumps(meta), "utf-8")
    read, written = open_run(path).sampled(SIGNALS)[0], batch(0)
    assert not read.was_measured("rms").any()
    assert np.array_equal(read.column("largest"), written.column("largest"), equal_nan=True)


def with_dtype(path: Path, descr: object) -> Path:
    meta = read_unsealed(path / "meta.json")
    meta["sample_dtypes"]["module_signals"] = descr
    (path / "meta.json").write_text(json.dumps(meta), "utf-8")
    return path


@pytest.mark.parametrize("descr", [[["subject", "|O"]], "x", [], 3])
def test_a_dtype_made_to_do_harm_is_refused(tmp_path: Path, descr: object) -> None:
    with pytest.raises(SeismogradError, match=r"meta\.json"):
        open_run(with_dtype(write(tmp_path / "run", [batch(0)]), descr))


def test_rows_without_what_every_row_has_are_none(tmp_path: Path) -> None:
    path = with_dtype(write(tmp_path / "run", [batch(0)]), [["rms", "<f8"]])
    assert len(open_run(path).sampled(SIGNALS)) == 0


def test_made_up_numbers_point_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [batch(at) for at in range(3)])
    rows = np.fromfile(path / "samples/module_signals.bin", np.uint8)
    for subject in (-1, 2**31 - 1):
        changed = rows.copy()
        changed[:4] = np.frombuffer(np.int32(subject).tobytes(), np.uint8)
        (path / "samples/module_signals.bin").write_bytes(changed.tobytes())
        assert open_run(path).sampled(SIGNALS)[0].subjects[0].name == "?"
    index = np.fromfile(path / "samples/module_signals_batches.bin", "<i8")
    index.view("<i8")[:] = 2**62
    (path / "samples/module_signals_batches.bin").write_bytes(index.tobytes())
    assert len(open_run(path).sampled(SIGNALS)) == 0


def test_no_link_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [batch(0)])
    shutil.move(path / "samples", tmp_path / "elsewhere")
    (path / "samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SeismogradError, match="not a regular file or directory"):
        open_run(path).sampled(SIGNALS)


def test_the_pump_keeps_their_order_and_leaves_out_what_does_not_fit() -> None:
    got: list[object] = []

    class Sink:
        def observe(self, block: RowBatch) -> None:
            got.append(len(block))

        def note(self, note: Note) -> None:
            got.append(note)

        def learn(self, fact: Fact) -> None:
            got.append(fact)

        def sampled(self, batch: SampleBatch) -> None:
            got.append(batch)

        def close(self) -> None:
            got.append("closed")

        def abandon(self) -> None:
            got.append("abandoned")

    first, last = batch(0), batch(1)
    pump = Pump([Sink()], lambda *_: None, interval_s=60)
    pump.sampled(first)
    pump.put(block(np.ones((1, 2))))
    pump.sampled(last)
    pump.close()
    pump.sampled(first)
    assert got == [first, 1, last, "closed"]

    got.clear()
    small = Pump([Sink()], lambda *_: None, interval_s=60, max_bytes=100)
    small.sampled(first)
    small.sampled(last)  # does not fit behind the first, which one may always exceed
    small.close()
    assert got == [first, "closed"]


@dataclass
class Reading(Rule):
    """Remembers what it was given."""

    code: ClassVar[str] = "SG999"
    name: ClassVar[str] = "reading"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    reads_samples: ClassVar[tuple[SampleKind, ...]] = (SIGNALS, SampleKind.OPTIMIZER_STATE)
    seen: list[object] = field(default_factory=list, init=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self.seen.extend(block.steps["iteration"].tolist())
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self.seen.append(("fact", fact.iteration))
        return ()

    def sampled(self, batch: SampleBatch) -> Iterable[Finding]:
        self.seen.append((batch.kind, batch.step, len(batch)))
        return ()

    def shortfall(self) -> Message | None:
        return None


@given(
    st.sets(st.integers(1, 9)),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(tuple(SampleKind))), max_size=6),
    st.lists(st.integers(0, 9), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_rules_get_the_same_live_and_over_the_record(
    cuts: set[int], places: list[tuple[int, SampleKind]], facts_at: list[int]
) -> None:
    batches = [batch(step, kind=kind) for step, kind in sorted(set(places))]
    facts = [Fact(FactKind.LOSS_INPUT, at) for at in sorted(facts_at)]
    rows = block(np.ones((10, 2)))
    live, offline = Reading(), Reading()
    beside = Diagnosis([lambda: live])
    for number, each in enumerate(cut(rows, range(10))):
        for sample in batches:
            if sample.step == number:
                beside.sampled(sample)
        for fact in facts:
            if fact.iteration == number:
                beside.learn(fact)
        beside.observe(each)
    beside.close()
    with TemporaryDirectory() as directory:
        run = open_run(write(Path(directory) / "run", batches))
        diagnose(cut(rows, range(10)), [lambda: offline], facts=facts, samples=run.sampled)
        assert live.seen == offline.seen
        coarse = Reading()
        diagnose(cut(rows, cuts), [lambda: coarse], facts=facts, samples=run.sampled)
    beside_rows = [each for each in coarse.seen if not isinstance(each, int)]
    assert beside_rows == [each for each in live.seen if not isinstance(each, int)]
    for position, each in enumerate(coarse.seen):
        if not isinstance(each, int):
            assert each[1] in coarse.seen[position:]  # type: ignore[index]
    assert (SampleKind.GRADIENT_SKETCH, 0, 2) not in coarse.seen  # none asked for it
