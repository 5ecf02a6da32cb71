"""Facts on their way: through the pump, to disk and back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.fact_log import MAX_OF_A_KIND, Facts
from seismograd.pipeline.pump import Pump
from seismograd.record.lazy_writer import LazyWriter
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.schema import Fact, FactKind, Note, RowBatch
from tests.record.edits import without_checksums
from tests.synthetic import block, info

FACTS = (
    Fact(
        FactKind.LOSS_INPUT,
        0,
        "train.py:3",
        0,
        ("a.weight",),
        {"loss": "cross_entropy", "rows": 4.0},
    ),
    Fact(
        "of a newer version", 7, values={"nan": math.nan, "inf": -math.inf, "word": "nan", "": 0.5}
    ),
)


def test_facts_read_back_and_say_what_a_number_is_and_what_a_word(tmp_path: Path) -> None:
    writer = LazyWriter(tmp_path, lambda path: Writer(tmp_path, info(fact_kinds=("loss_input",))))
    writer.learn(FACTS[0])
    assert list(tmp_path.iterdir()) == []
    writer.observe(block(grad_norm=[[1.0, 2.0]]))
    writer.learn(FACTS[1])
    writer.close()
    run = open_run(tmp_path)
    assert (run.facts[0], run.facts[1].kind, run.info.fact_kinds) == (
        FACTS[0],
        FACTS[1].kind,
        ("loss_input",),
    )
    assert math.isnan(run.facts[1].number("nan"))
    assert (run.facts[1].number("inf"), run.facts[1].text("word")) == (-math.inf, "nan")
    assert math.isnan(run.facts[1].number("word"))
    assert (run.facts[1].text("inf"), run.facts[1].number("")) == ("", 0.5)
    assert run.torn is None


def test_a_run_of_an_earlier_version_has_no_facts(tmp_path: Path) -> None:
    writer = Writer(tmp_path, info(fact_kinds=("loss_input",)))
    writer.close()
    without_checksums(tmp_path)
    meta = (tmp_path / "meta.json").read_text("utf-8")
    (tmp_path / "meta.json").write_text(meta.replace('"fact_kinds"', '"unknown"'), "utf-8")
    run = open_run(tmp_path)
    assert (run.facts, run.info.fact_kinds) == ((), ())


def test_facts_cut_off_are_told(tmp_path: Path) -> None:
    writer = Writer(tmp_path, info())
    writer.learn(FACTS[0])
    writer.learn(FACTS[1])
    writer.close()
    path = tmp_path / "facts.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    run = open_run(tmp_path)
    assert run.facts == FACTS[:1]
    assert run.torn is not None
    assert "facts.jsonl" in run.torn.render()


class Sink:
    def __init__(self) -> None:
        self.got: list[object] = []

    def observe(self, block: RowBatch) -> None:
        self.got.append(block)

    def note(self, note: Note) -> None:
        self.got.append(note)

    def learn(self, fact: Fact) -> None:
        self.got.append(fact)

    def close(self) -> None:
        self.got.append("closed")

    def abandon(self) -> None:
        self.got.append("abandoned")


@pytest.mark.parametrize("synchronous", [True, False])
def test_the_pump_keeps_their_order(synchronous: bool) -> None:
    sink = Sink()
    pump = Pump([sink], lambda *_: None, synchronous=synchronous)
    for fact in FACTS:
        pump.learn(fact)
    pump.close()
    pump.learn(FACTS[0])
    assert sink.got == [*FACTS, "closed"]


def test_without_sinks_no_thread_is_made_for_a_fact() -> None:
    pump = Pump([], lambda *_: None)
    pump.learn(FACTS[0])
    assert pump._thread is None


def test_of_each_kind_so_many_are_told() -> None:
    told: list[Fact] = []
    facts = Facts(told.append, CallSites(), lambda: 5)
    for index in range(MAX_OF_A_KIND + 3):
        facts.report(FactKind.LOSS_INPUT, loss="mse", rows=index)
    assert [fact.number("rows") for fact in told] == list(range(MAX_OF_A_KIND))
    assert {(fact.iteration, fact.where) for fact in told} == {(5, "")}
    assert not facts.has_room(FactKind.LOSS_INPUT)
