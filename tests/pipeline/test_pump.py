"""The pump keeps order, never waits, bounds its memory, and outlives any sink."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd import open_run
from seismograd.pipeline import pump as pump_module
from seismograd.pipeline.batch import batch_bytes, block_limit
from seismograd.pipeline.pump import Pump
from seismograd.schema import (
    SAMPLE_FIELDS,
    STATISTICS,
    Fact,
    Note,
    RowBatch,
    SampleBatch,
    SampleKind,
    SampleSubject,
)
from tests import synthetic
from tests.record.processes import run_python


@dataclass
class Collector:
    """A sink that keeps everything, and waits for `gate` first."""

    gate: threading.Event = field(default_factory=threading.Event)
    got: list[RowBatch | Note | Fact | SampleBatch] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    num_closed: int = 0

    def observe(self, block: RowBatch) -> None:
        self.gate.wait()
        self.threads.add(threading.get_ident())
        self.got.append(block)

    def note(self, note: Note) -> None:
        self.got.append(note)

    def learn(self, fact: Fact) -> None:
        self.got.append(fact)

    def sampled(self, batch: SampleBatch) -> None:
        self.got.append(batch)

    def close(self) -> None:
        self.num_closed += 1

    def order(self) -> list[int | str]:
        """Iterations, kinds of notes and samples, in the order in which they came."""
        named = {Note: lambda note: note.kind, SampleBatch: lambda batch: f"sample {batch.step}"}
        return [
            each
            for item in self.got
            for each in (
                [named[type(item)](item)]
                if type(item) in named
                else item.steps["iteration"].tolist()
            )
        ]


class Broken(Collector):
    """A sink that fails at its second block."""

    def observe(self, block: RowBatch) -> None:
        super().observe(block)
        if len(self.got) == 2:
            raise OSError(28, "no space")


def rows_of(num: int, num_parameters: int = 2) -> list[RowBatch]:
    return list(synthetic.block(np.ones((num, num_parameters))).split(1))


def open_collector() -> Collector:
    collector = Collector()
    collector.gate.set()
    return collector


def ignore(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name} failed") from error


@given(
    st.lists(st.sampled_from(["row", "note", "other parameters"]), max_size=30),
    st.booleans(),
    st.integers(1, 40),
)
def test_order_is_kept_and_a_block_has_one_set_of_parameters(
    kinds: list[str], synchronous: bool, kilobytes: int
) -> None:
    collector = open_collector()
    pump = Pump(
        [collector],
        ignore,
        max_bytes=10**9 if synchronous else 2**30 + kilobytes,
        synchronous=synchronous,
    )
    parameters = synthetic.make_parameters(2)
    expected: list[int | str] = []
    for index, (kind, row) in enumerate(
        zip(kinds, rows_of(len(kinds)) if kinds else [], strict=True)
    ):
        if kind == "note":
            pump.note(synthetic.note(kind=f"note {index}"))
            expected.append(f"note {index}")
            continue
        if kind == "other parameters":
            parameters = tuple(
                replace(parameter, name=f"{parameter.name}{index}") for parameter in parameters
            )
        pump.put(replace(row, parameters=parameters))
        expected.append(index)
    pump.close()
    assert collector.order() == expected
    assert pump.dropped == 0
    assert collector.num_closed == 1


def test_equal_parameters_share_a_block_though_they_are_not_the_same_tuple() -> None:
    collector = open_collector()
    pump = Pump([collector], ignore, interval_s=60)
    for row in rows_of(5):
        pump.put(replace(row, parameters=tuple(replace(parameter) for parameter in row.parameters)))
    pump.close()
    assert [len(block) for block in collector.got] == [5]


def sample(step: int) -> SampleBatch:
    values = np.zeros((1, len(SAMPLE_FIELDS[SampleKind.OPTIMIZER_STATE].names)))
    return SampleBatch(SampleKind.OPTIMIZER_STATE, step, (SampleSubject("w"),), values)


def test_a_sample_comes_before_the_rows_around_it_which_make_one_block() -> None:
    """Not before the first rows, with which a record is opened, nor before what was told earlier."""
    collector = open_collector()
    pump = Pump([collector], ignore, interval_s=60)
    rows = rows_of(6)
    pump.put(rows[0])
    pump.sampled(sample(7))
    pump.drain()
    pump.put(rows[1])
    pump.sampled(sample(8))
    pump.put(rows[2])
    pump.note(synthetic.note(kind="told"))
    pump.put(rows[3])
    pump.sampled(sample(9))
    pump.put(rows[4])
    pump.put(rows[5])
    pump.close()
    assert collector.order() == [0, "sample 7", "sample 8", 1, 2, "told", "sample 9", 3, 4, 5]
    assert [len(each) for each in collector.got if isinstance(each, RowBatch)] == [1, 2, 3]


def test_a_block_has_the_dtypes_of_the_record_and_finite_stays_finite() -> None:
    collector = open_collector()
    row = rows_of(1, 1)[0]
    huge = {name: np.array([[1e300]]) for name in row.values}
    pump = Pump([collector], ignore)
    pump.put(replace(row, values=huge))
    pump.close()
    for statistic in STATISTICS:
        values = (collector.got[0].samples if statistic.sampled else collector.got[0].values)[
            statistic.name
        ]
        assert values.dtype == np.dtype(statistic.dtype)
        assert np.isfinite(values).all()


def test_synchronous_hands_each_row_on_at_once_on_the_calling_thread() -> None:
    collector = open_collector()
    pump = Pump([collector], ignore, synchronous=True)
    for index, row in enumerate(rows_of(3)):
        pump.put(row)
        assert len(collector.order()) == index + 1
    assert collector.threads == {threading.get_ident()}
    pump.close()


def test_a_sink_that_fails_is_reported_once_and_the_others_go_on() -> None:
    failures: list[tuple[str, str]] = []
    broken, collector = Broken(), open_collector()
    broken.gate.set()
    pump = Pump(
        [broken, collector],
        lambda name, error: failures.append((name, type(error).__name__)),
        synchronous=True,
    )
    for row in rows_of(5):
        pump.put(row)
    pump.close()
    assert failures == [("Broken", "OSError")]
    assert len(broken.got) == 2
    assert broken.num_closed == 0
    assert collector.order() == [0, 1, 2, 3, 4]
    assert collector.num_closed == 1


def test_a_row_that_makes_no_block_is_counted_and_the_next_ones_arrive() -> None:
    failures: list[str] = []
    collector = open_collector()
    pump = Pump([collector], lambda name, error: failures.append(name), synchronous=True)
    rows = rows_of(3)
    pump.put(rows[0])
    pump.put(replace(rows[1], state=np.zeros((1, 7), np.uint8)))
    pump.put(rows[2])
    pump.close()
    assert failures == ["Pump"]
    assert collector.order() == [0, 2]
    assert pump.dropped == 1


class Weighed:
    """Makes rows and knows how many bytes of those it made are still alive."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def rows(self, num: int) -> Iterator[RowBatch]:
        pattern = rows_of(2, 64)[1]
        for _ in range(num):
            owned = {name: values.copy() for name, values in pattern.values.items()}
            row = replace(pattern, values=owned, state=pattern.state.copy())
            size = (
                sum(values.nbytes for values in owned.values())
                + row.state.nbytes
                + row.events.nbytes
            )
            self.num_bytes += size
            weakref.finalize(owned["grad_norm"], self._gone, size)
            yield row

    def _gone(self, size: int) -> None:
        self.num_bytes -= size


def block_bytes(item: RowBatch | Note) -> int:
    return (
        sum(values.nbytes for values in item.values.values())
        + item.steps.nbytes
        + item.state.nbytes
        + item.events.nbytes
    )


def test_a_slow_sink_costs_bounded_memory_and_no_waiting() -> None:
    max_bytes = 200_000
    collector, weighed = Collector(), Weighed()
    pump = Pump([collector], ignore, max_bytes=max_bytes, interval_s=0.001)
    num_put = 0
    for _ in range(3):  # the sink takes nothing: each `put` returns all the same
        for row in weighed.rows(300):
            pump.put(row)
            num_put += 1
            del row
            assert weighed.num_bytes <= max_bytes
    assert pump.dropped > 0
    assert weighed.num_bytes > 0
    collector.gate.set()
    pump.close()
    assert weighed.num_bytes == 0
    assert len(collector.order()) + pump.dropped == num_put
    assert max(map(block_bytes, collector.got)) <= max_bytes // 4


def test_a_full_block_is_handed_on_without_waiting_and_is_no_larger() -> None:
    collector, came = open_collector(), threading.Event()
    pump = Pump([collector], ignore, interval_s=600, look=came.set)
    row = synthetic.block(np.ones((1, 1000)), sample_rows=[])
    fitting = 2**21 // batch_bytes(row)
    for _ in range(3 * fitting):
        pump.put(row)
    assert came.wait(60)
    pump.close()
    blocks = [len(block) for block in collector.got if isinstance(block, RowBatch)]
    assert sum(blocks) == 3 * fitting
    assert max(blocks) == fitting


def test_a_block_of_very_many_parameters_has_some_rows_and_of_few_all_of_a_second() -> None:
    many = synthetic.block(np.ones((1, 10_000)), sample_rows=[])
    assert 7 <= block_limit(many, 2**30) // batch_bytes(many) <= 8
    assert block_limit(many, 2**20) == 2**18
    few = synthetic.block(np.ones((1, 4)), sample_rows=[])
    assert block_limit(few, 2**30) // batch_bytes(few) > 500


def test_a_row_larger_than_the_queue_still_passes() -> None:
    collector = open_collector()
    pump = Pump([collector], ignore, max_bytes=10, synchronous=True)
    for row in rows_of(2):
        pump.put(row)
    pump.close()
    assert collector.order() == [0, 1]


def test_closing_again_and_using_it_afterwards_do_nothing() -> None:
    collector = open_collector()
    pump = Pump([collector], ignore)
    pump.put(rows_of(1)[0])
    pump.close()
    pump.close()
    pump.put(rows_of(1)[0])
    pump.note(synthetic.note())
    assert collector.order() == [0]
    assert collector.num_closed == 1


def test_no_thread_is_left_and_none_is_made_for_nothing() -> None:
    before = threading.active_count()
    pump = Pump([open_collector()], ignore)
    assert threading.active_count() == before
    pump.put(rows_of(1)[0])
    pump.close()
    assert threading.active_count() == before


def test_a_dead_sink_does_not_keep_the_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "_PATIENCE_S", 0.05)
    failures: list[tuple[str, str]] = []
    dead = Collector()
    pump = Pump([dead], lambda name, error: failures.append((name, type(error).__name__)))
    pump.put(rows_of(1)[0])
    pump.close()
    assert failures == [("Pump", "TimeoutError")]
    dead.gate.set()


def test_a_sink_may_close_the_pump() -> None:
    class Closer(Collector):
        def note(self, note: Note) -> None:
            pump.close()

    closer = Closer()
    closer.gate.set()
    pump = Pump([closer], ignore)
    pump.note(synthetic.note())
    pump.close()
    assert closer.num_closed == 1


RECORD = """
import atexit, os, sys
from pathlib import Path
from seismograd.pipeline.batch import batch_bytes, block_limit
from seismograd.pipeline.pump import Pump
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

pump = Pump([Writer(Path(sys.argv[1]), synthetic.info())], print, interval_s=float(sys.argv[2]))
rows = list(endless_block(0, 100).split(1))
"""


def test_what_waits_is_written_at_the_exit_of_the_interpreter(tmp_path: Path) -> None:
    code = RECORD + "atexit.register(pump.close)\nfor row in rows: pump.put(row)\nsys.exit(3)"
    done = run_python(code, tmp_path / "run", "60")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    run = open_run(tmp_path / "run")
    assert len(run.steps) == 100
    assert run.ended


def test_a_forked_child_leaves_the_record_to_its_parent(tmp_path: Path) -> None:
    fork = """
for row in rows[:50]: pump.put(row)
child = os.fork()
if child == 0:
    pump.abandon()
    for row in rows: pump.put(row)
    pump.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for row in rows[50:]: pump.put(row)
pump.close()
"""
    quiet = (
        "import warnings; warnings.filterwarnings('ignore', 'This process .* is multi-threaded')\n"
    )
    done = run_python(quiet + RECORD + fork, tmp_path / "run", "0.001")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run = open_run(tmp_path / "run")
    assert run.steps["iteration"].tolist() == list(range(100))
    assert run.torn is None
    assert run.ended


def test_more_may_wait_while_a_record_is_read_that_goes_on() -> None:
    """Then eight times as much, and no more."""
    began, gate = threading.Event(), threading.Event()
    rows = list(synthetic.block(np.ones((200, 2)), sample_rows=[]).split(1))  # of one size
    size = pump_module.batch_bytes(rows[0])

    def adapt(item: object) -> object:
        began.set()
        gate.wait()
        return item

    collector = open_collector()
    pump = Pump(
        [collector],
        ignore,
        interval_s=0.01,
        max_bytes=10 * size,
        adapt=adapt,  # type: ignore[arg-type]
    )
    pump.put(rows[0])
    began.wait()
    for row in rows[1:]:
        pump.put(row)
    assert pump.dropped == 120
    gate.set()
    pump.close()
    assert collector.order() == list(range(80))
