"""What processes kept that could not reach rank 0 makes the record that there would have been if
they had: every number of it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from seismograd import SeismogradError, open_run
from seismograd.cli import main
from seismograd.distributed.collector import RankCollector
from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.rank_report import RankColumns
from seismograd.distributed.rank_row import RankRow
from seismograd.distributed.report_client import ReportClient
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.world import World
from seismograd.merging.merged_record import merge
from seismograd.pipeline.pump import Pump
from seismograd.pipeline.run_reports import RunReports
from seismograd.record.inspection import inspect
from seismograd.record.reader import Run
from seismograd.record.report_file import report_files
from seismograd.record.writer import Writer
from seismograd.rules import RULES
from seismograd.schema import (
    RANK_DTYPE,
    SKETCH_WIDTH,
    STATISTICS,
    Optimizer,
    Parameter,
    RankFlag,
    SampleKind,
    State,
)
from seismograd.settings.record_settings import RecordSettings
from seismograd.tensors.shards import PLAIN, LocalShard
from tests import synthetic

NUM_STEPS = 25
PATIENT = RankTimeouts(late_s=600, exit_s=600)  # nothing here depends on how long anything takes


class Store:
    """A key-value store that all processes reach."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def set(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key]

    def check(self, keys: Sequence[str]) -> bool:
        return all(key in self.values for key in keys)


def own_parameters(rank: int) -> tuple[Parameter, ...]:
    """A matrix that is cut, a vector that all hold, and of rank 2 a layer of its own."""
    names = ("net.weight", "net.bias", *(("head",) if rank == 2 else ()))
    return synthetic.make_parameters(names=names, shapes=((6, 4), (4,), (3,))[: len(names)])


def shards(rank: int) -> tuple[LocalShard, ...]:
    part = LocalShard("shard", True, 8, (2 * rank, 0))
    return (part, PLAIN, *((PLAIN,) if rank == 2 else ()))


def rank_rows(rank: int) -> list[RankRow]:
    """The iterations of a process; its shards differ, and what all hold is the same."""
    parameters = own_parameters(rank)
    columns = RankColumns(0, parameters, shards(rank), ("",) * len(parameters))
    rows: list[RankRow] = []
    for step in range(NUM_STEPS):
        norms = [[1 + rank + step / 7, 2 + step / 3, 5.0 + step][: len(parameters)]]
        block = synthetic.block(
            norms,
            parameters=parameters,
            first_iteration=step,
            loss=[rank + step / 9],
            optimizers=(Optimizer(0, "SGD", "optimizer"),),
        )
        if step % 10 == 0:
            block.sketches[0] = np.full((len(parameters), SKETCH_WIDTH), rank + 1.0)  # type: ignore[index]
        entry = np.zeros((), RANK_DTYPE)
        entry["rank"], entry["iteration"], entry["loss"] = rank, step, rank + step / 9
        entry["replica_of"], entry["weight_checksum"] = -1, 17
        digests = (np.array([rank + 1, 5, 9][: len(parameters)], np.uint64),) if step < 3 else ()
        rows.append(RankRow(step, block, columns, entry, math.nan, time.monotonic(), {}, digests))
    return rows


@dataclass(frozen=True)
class Trained:
    """What a training of three processes left: of rank 0, and of those that did not reach it."""

    main: Path
    apart: tuple[Path, ...]


def train(folder: Path, cut_off: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Train with three processes, of which some do not reach rank 0."""
    call = ReportClient._call

    def reach(client: ReportClient, address: object) -> bool:
        return client._rank not in cut_off and call(client, address)  # type: ignore[arg-type]

    monkeypatch.setattr(ReportClient, "_call", reach)
    store, main_path = Store(), folder / "run"
    writer = Writer(main_path, synthetic.info())
    failures: list[tuple[str, BaseException]] = []
    pump = Pump((writer,), lambda *failure: failures.append(failure), synchronous=True)
    keepers = [
        RunReports(lambda: main_path, folder / "run", synthetic.info(), RecordSettings())
        for _ in range(3)
    ]
    collector = RankCollector(
        World(0, 3, store, 1),
        pump.put,
        pump.note,
        pump.learn,
        lambda: Exchange.NOTHING,
        PATIENT,
        None,
        keepers[0],
    )
    clients = [ReportClient(World(rank, 3, store, 1), PATIENT, keepers[rank]) for rank in (1, 2)]
    for rank, client in enumerate(clients, 1):
        for row in rank_rows(rank):
            client.put(row)
    for row in rank_rows(0):
        collector.put(row)
    for each in (*clients, collector):
        each.close()
    for keeper in keepers:
        keeper.close()
    pump.close()
    assert failures == []
    return Trained(main_path, tuple(folder / f"run-rank-{rank}" for rank in cut_off))


def merged(trained: Trained, out: Path) -> Run:
    return merge(
        (trained.main, *trained.apart), out, RULES, lambda items, _: (i for i, _ in items)
    ).run


def assert_same_numbers(one: Run, other: Run) -> None:
    assert one.parameters == other.parameters
    assert one.steps.tobytes() == other.steps.tobytes()
    assert one.events.tobytes() == other.events.tobytes()
    assert one.ranks.tobytes() == other.ranks.tobytes()
    np.testing.assert_array_equal(one.states, other.states)
    for each in STATISTICS:
        if each.sampled:
            for mine, theirs in zip(one.samples(each.name), other.samples(each.name), strict=True):
                np.testing.assert_array_equal(mine, theirs)
        else:
            np.testing.assert_array_equal(one.series(each.name), other.series(each.name))
    mine, theirs = (list(run.sampled(SampleKind.GRADIENT_SKETCH)) for run in (one, other))
    assert [(b.step, b.subjects) for b in mine] == [(b.step, b.subjects) for b in theirs]
    for one_batch, other_batch in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one_batch.values, other_batch.values)
    assert sorted(map(repr, one.facts)) == sorted(map(repr, other.facts))


@pytest.mark.parametrize("cut_off", [(2,), (1, 2)])
def test_the_record_is_the_one_of_a_training_in_which_all_reached_rank_0(
    cut_off: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    whole = open_run(train(tmp_path / "open", (), monkeypatch).main)
    assert report_files(whole.path) == ()
    assert (whole.states >= State.FINITE).all()
    trained = train(tmp_path, cut_off, monkeypatch)
    before = open_run(trained.main)
    assert (before.states[:, 0] == State.NOT_MEASURED).all()  # the matrix: a part is missing
    assert [note.kind for note in before.notes].count("rank") == len(cut_off)
    for path in trained.apart:
        alone = open_run(path)
        assert (alone.num_rows, alone.ended) == (0, True)
        assert "could not reach rank 0" in alone.notes[0].message.render()
    run = merged(trained, tmp_path / "whole")
    assert_same_numbers(run, whole)
    assert run.ended
    assert run.conclusion is not None
    assert [note.kind for note in run.notes] == ["merged"]
    assert inspect(run.path).damage == ()
    assert (run.ranks["flags"] & int(RankFlag.REPORTED) > 0).all()


def test_what_is_still_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train(tmp_path, (1, 2), monkeypatch)
    (file,) = report_files(trained.apart[0])
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])  # it was killed
    run = merged(Trained(trained.main, trained.apart[:1]), tmp_path / "whole")
    said = [note.message.render() for note in run.notes]
    assert said[0] == "merged from the records of several processes: ranks 0, 1"
    assert said[1].startswith("rank 1 did not report ")
    assert said[2].startswith("there was no record of rank 2 to merge")
    reported = run.ranks["flags"].reshape(-1, 3) & int(RankFlag.REPORTED) > 0
    assert reported[:, 0].all()
    assert not reported[:, 2].any()
    num = int(reported[:, 1].sum())
    assert 0 < num < NUM_STEPS
    assert reported[:num, 1].all()
    assert run.num_rows == NUM_STEPS
    assert (run.states[:, 0] == State.NOT_MEASURED).all()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return train(tmp_path_factory.mktemp("parts"), (1, 2), monkeypatch)


def test_the_command_writes_a_run_that_others_read(
    parts: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(path) for path in (*parts.apart, parts.main)]  # in any order
    assert main(["merge", *given, "--out", str(tmp_path / "whole")]) == 0
    assert "processes: 3, steps put together: 25 of 25" in capsys.readouterr().out
    for command in (["show"], ["check"], ["report", "-o", str(tmp_path / "report.html")]):
        assert main([command[0], str(tmp_path / "whole"), *command[1:]]) in (0, 1)
    assert main(["show", str(parts.apart[0])]) == 2
    assert "seismograd merge" in " ".join(capsys.readouterr().err.split())


def test_what_does_not_belong_together_is_refused_in_one_line(
    parts: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "other").mkdir()
    other = train(tmp_path / "other", (1,), monkeypatch)
    plain = synthetic.write_run(tmp_path / "plain", [synthetic.block(np.ones((3, 2)))])
    again = shutil.copytree(parts.apart[0], tmp_path / "again")
    for given, said in (
        ((parts.main,), "only one record"),
        ((parts.main, plain), "has no reports to merge"),
        ((parts.main, other.apart[0]), "is not a part of the training in"),
        ((parts.main, other.main), "are both records of rank 0"),
        ((parts.apart[0], parts.apart[1]), "none of these records is that of rank 0"),
        ((parts.main, parts.apart[0], again), "rank 1 is in both"),
        ((parts.main, tmp_path / "nothing"), "there is no run"),
    ):
        assert main(["merge", *map(str, given), "--out", str(tmp_path / "whole")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert not (tmp_path / "whole").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(SeismogradError, match="not empty"):
        merged(parts, tmp_path / "taken")
    assert (tmp_path / "taken/file").exists()


def test_a_damaged_file_of_reports_ends_where_it_is_damaged(
    parts: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = merged(parts, tmp_path / "whole")
    size = report_files(parts.apart[1])[0].stat().st_size
    for number, place in enumerate((3, size // 2, size - 3)):
        copy = shutil.copytree(parts.apart[1], tmp_path / f"copy-{number}")
        (file,) = report_files(copy)
        content = bytearray(file.read_bytes())
        content[place] ^= 64
        file.write_bytes(content)
        out = tmp_path / f"out-{number}"
        given = (parts.main, parts.apart[0], copy)
        code = main(["merge", *map(str, given), "--out", str(out)])
        assert code == (2 if number == 0 else 0)  # without its beginning it has no reports
        if code == 0:
            run = open_run(out)
            rows = run.ranks["flags"].reshape(-1, 3)[:, 2] & int(RankFlag.REPORTED) > 0
            assert rows.sum() >= (NUM_STEPS if number == 2 else 5)
            np.testing.assert_array_equal(
                run.series("grad_norm")[rows], whole.series("grad_norm")[rows]
            )
    capsys.readouterr()


def test_a_process_that_is_heard_of_nowhere_leaves_no_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is not watched."""
    monkeypatch.setattr("seismograd.distributed.report_log.GIVE_UP_S", -1.0)
    writer = Writer(tmp_path / "run", synthetic.info())
    pump = Pump((writer,), lambda *_: None, synchronous=True)
    collector = RankCollector(
        World(0, 2, Store(), 1),
        pump.put,
        pump.note,
        pump.learn,
        lambda: Exchange.NOTHING,
        RankTimeouts(0.0, 0.0),
        None,
        RunReports(lambda: tmp_path / "run", None, synthetic.info(), RecordSettings()),
    )
    for row in rank_rows(0):
        collector.put(row)
    collector.close()
    pump.close()
    assert open_run(tmp_path / "run").num_rows == NUM_STEPS
    assert report_files(tmp_path / "run") == ()


def test_files_of_reports_obey_the_size_limit(tmp_path: Path) -> None:
    keeper = RunReports(
        lambda: None, tmp_path / "run", synthetic.info(), RecordSettings(max_bytes=3000)
    )
    file = keeper.apart(1, 2)
    assert file is not None
    for _ in range(100):
        file.write(3, bytes(100))
    file.close()
    keeper.close()
    (path,) = report_files(tmp_path / "run-rank-1")
    assert 2000 < path.stat().st_size <= 3000
    other = keeper.apart(1, 2)  # a second attempt: nothing is overwritten
    assert other is not None
    other.close()
    assert (tmp_path / "run-rank-1-2").is_dir()
