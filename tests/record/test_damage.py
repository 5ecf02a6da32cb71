"""What is not what was written is never shown as a number: it is not measured, and said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seismograd.cli import main
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record import layout
from seismograd.record.checksums import CHECKS, checksum, log_dtype
from seismograd.record.inspection import inspect
from seismograd.record.reader import Run, open_run
from seismograd.record.resuming import resume_record
from seismograd.record.segment_opening import open_segment
from seismograd.schema import STATISTICS, Note, State
from tests import synthetic
from tests.record.edits import without_checksums
from tests.record.fuzzing import NUM_EXAMPLES

NUM_BLOCKS, ROWS = 20, 10
NORMS = 1 + np.arange(NUM_BLOCKS * ROWS)[:, None] + np.arange(3) / 4


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "healthy"
    blocks = [
        synthetic.block(
            NORMS[start : start + ROWS],
            first_iteration=start,
            loss=np.arange(start, start + ROWS) / 8,
            elements=np.ones((ROWS, 1)),
        )
        for start in range(0, len(NORMS), ROWS)
    ]
    notes = [Note("failure", step, say("a part failed: {part}", part="x")) for step in range(5)]
    return synthetic.write_run(
        path,
        blocks,
        run_info=synthetic.info(elements=["a"]),
        findings=[synthetic.finding(first_step=step) for step in range(5)],
        notes=notes,
    )


@pytest.fixture
def record(healthy: Path, tmp_path: Path) -> Path:
    shutil.copytree(healthy, tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, place: int, bit: int = 6) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def shown(run: Run) -> dict[str, np.ndarray]:
    """Every number that a run shows, by what it is."""
    numbers: dict[str, np.ndarray] = {"states": run.states.astype(np.float64)}
    numbers["states"][run.states == State.NOT_MEASURED] = np.nan
    for name in run.steps.dtype.names:
        numbers[f"steps.{name}"] = run.steps[name].astype(np.float64)
    for statistic in run.statistics:
        if statistic.sampled:
            rows, values = run.samples(statistic.name)
            whole = np.full((run.num_rows, *values.shape[1:]), np.nan)
            whole[rows] = values
            numbers[statistic.name] = whole
        else:
            numbers[statistic.name] = run.series(statistic.name)
    numbers["elements"] = run.elements[1]
    for name in ("grad_norm", "applied_norm", "update_ratio"):
        view = run.levels.parameters(name, 0, run.num_rows, 1000)
        for part in ("low", "high", "last"):
            numbers[f"levels.{name}.{part}"] = getattr(view, part)
    coarse = run.levels.parameters("grad_norm", 0, run.num_rows, 3)
    numbers["coarse"] = np.concatenate([coarse.low, coarse.high, coarse.last])
    return numbers


def assert_nothing_wrong(run: Run, whole: dict[str, np.ndarray]) -> None:
    """Each number is the one that was written, or is not shown."""
    for name, numbers in shown(run).items():
        expected = whole[name]
        same_rows = numbers if name == "coarse" else numbers[: run.num_rows]
        if name == "coarse":  # extremes of what is left
            left = same_rows[~np.isnan(same_rows)]
            assert ((left >= NORMS.min()) & (left <= NORMS.max())).all()
            continue
        wrong = (same_rows != expected[: len(same_rows)]) & ~np.isnan(same_rows)
        if name.startswith("steps.") and wrong.any():
            # whole numbers that are not measured are 0 where the loss is not measured either
            blank = np.isnan(run.steps["loss"]) & (run.steps["flags"] != 0)
            wrong &= ~blank
        assert not wrong.any(), name


FILES = [
    "steps.bin",
    "events.bin",
    "event_ends.i64",
    "elements.f64",
    "levels/1.bin",
    *(
        f"segments/0000/{name}"
        for name in (
            "grad_norm.f64",
            "zeros.u32",
            "state.u8",
            "weight_norm.f64",
            "exponents.u32",
            "sample_rows.i64",
            "levels/1.bin",
            "levels/2.bin",
        )
    ),
]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_never_a_number(name: str, healthy: Path, record: Path) -> None:
    whole = shown(open_run(healthy))
    size = (record / name).stat().st_size
    flip(record / name, size // 2)
    run = open_run(record)
    assert run.num_rows == len(NORMS)
    assert_nothing_wrong(run, whole)
    list(run.blocks())
    list(run.events)
    assert run.damage is not None or name.endswith("levels/1.bin")  # which nobody needed
    found = inspect(record)
    assert {each.file for each in found.damage} == {name}
    assert main(["fsck", str(record)]) == 1


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_tails_of_zeros_are_left_out(share: float, healthy: Path, record: Path) -> None:
    """As a power cut leaves them: the lengths are there, the content is not."""
    (record / "end.json").unlink()
    whole = shown(open_run(healthy))
    for path in record.rglob("*"):
        if path.is_file() and path.suffix not in (".json", ".txt"):
            content = path.read_bytes()
            kept = int(len(content) * (1 - share))
            path.write_bytes(content[:kept] + bytes(len(content) - kept))
    run = open_run(record)
    assert len(NORMS) * (1 - share) - 2 * ROWS <= run.num_rows < len(NORMS)
    assert run.torn is not None
    assert_nothing_wrong(run, whole)


def test_rules_see_no_row_of_which_something_is_damaged(record: Path) -> None:
    place = (record / "segments/0000/zeros.u32").stat().st_size // 2
    flip(record / "segments/0000/zeros.u32", place)
    seen = np.concatenate([block.steps["iteration"] for block in open_run(record).blocks(7)])
    assert seen.tolist() == [*range(100), *range(110, 200)]
    flip(record / "segments/0000/sample_rows.i64", 8 * 3)
    rows = [
        row
        for block in open_run(record).blocks(7)
        for row in block.steps["iteration"][block.sample_rows].tolist()
    ]
    assert rows == [step for step in range(0, 200, 10) if step not in (30, 100)]


def test_a_damaged_line_hides_no_other(record: Path) -> None:
    for name in ("findings.jsonl", "notes.jsonl"):
        place = (record / name).read_bytes().index(b'"SG201"' if name[0] == "f" else b"failed")
        flip(record / name, place + 2, 0)
    run = open_run(record)
    assert [finding.first_step for finding in run.findings] == [1, 2, 3, 4]
    assert [note.iteration for note in run.notes] == [1, 2, 3, 4]
    assert run.torn is not None
    assert main(["fsck", str(record), "--mend"]) == 0
    assert len(open_run(record).findings) == 4


def test_a_changed_name_is_damage(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record / "segments/0000/parameters.json"
    path.write_bytes(path.read_bytes().replace(b"net.0.weight", b"net.9.weight"))
    assert "net.9.weight" not in [each.name for each in open_run(record).parameters]


def test_levels_are_summed_up_again_and_mended(healthy: Path, record: Path) -> None:
    flip(record / "segments/0000/levels/2.bin", 40)
    for path in (record, healthy):
        run = open_run(path)
        view = run.levels.parameters("grad_norm", 0, run.num_rows, 3)
        assert view.high.max() == NORMS.max()
        assert view.low.min() == NORMS.min()
    assert main(["fsck", str(record), "--mend"]) == 0
    assert open_run(record).damage is None


@pytest.mark.parametrize("entry", [5, 10])
@pytest.mark.parametrize("lie", [0, 2**40])
def test_a_damaged_entry_of_the_log_leads_nobody_astray(entry: int, lie: int, record: Path) -> None:
    segment, name = record / "segments/0000", "grad_norm.f64"
    column = layout.checked_of_segment(STATISTICS).index(name)
    log = np.fromfile(segment / CHECKS, log_dtype(len(layout.checked_of_segment(STATISTICS))))
    log["end"][entry, column] = lie
    log.tofile(segment / CHECKS)
    for block in range(NUM_BLOCKS):
        if block != entry:  # of which nothing is known any more
            flip(segment / name, block * ROWS * 3 * 8 + 6)
    opened = open_segment(
        segment, {each.name: each for each in STATISTICS}, layout.checked_of_segment(STATISTICS)
    )
    assert opened is not None
    for first in range(0, len(NORMS), ROWS):
        values = opened.values("grad_norm", first, first + ROWS)
        assert first // ROWS == entry or np.isnan(values).all()


def test_numbers_whose_entry_of_the_log_is_damaged_count_as_not_measured(record: Path) -> None:
    """Whether they are what was written, nobody knows: here they are not."""
    segment = record / "segments/0000"
    whole = open_run(record).series("nonfinite")
    flip(segment / "nonfinite.u32", 0)
    flip(segment / CHECKS, 0)
    run = open_run(record)
    assert np.isnan(run.series("nonfinite")[:ROWS]).all()
    np.testing.assert_array_equal(run.series("nonfinite")[ROWS:], whole[ROWS:])
    assert np.isnan(run.series("grad_norm")[:ROWS]).all()
    assert run.damage is not None
    flip(segment / "nonfinite.u32", 0)
    for file in record.rglob("*"):
        os.utime(file, (0, 0))
    assert main(["fsck", str(record), "--mend"]) == 0  # what has no checksum is taken for right
    np.testing.assert_array_equal(open_run(record).series("nonfinite"), whole)


def test_a_log_that_was_cut_is_mended(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record / "end.json").unlink()
    for log in (record / CHECKS, record / "segments/0000" / CHECKS):
        content = log.read_bytes()
        log.write_bytes(content[: len(content) // 2 + 5])
    assert open_run(record).num_rows == len(NORMS) // 2
    main(["fsck", str(record)])
    assert "bytes without a checksum" in capsys.readouterr().out
    for file in record.rglob("*"):
        os.utime(file, (0, 0))
    assert main(["fsck", str(record), "--mend"]) == 0
    run = open_run(record)
    assert run.num_rows == len(NORMS)
    assert run.torn is None
    np.testing.assert_array_equal(run.series("grad_norm"), NORMS)


def test_a_record_of_before_there_were_checksums_reads(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(without_checksums(record))
    np.testing.assert_array_equal(run.series("grad_norm"), NORMS)
    assert len(run.findings) == len(run.notes) == 5
    assert (run.torn, run.damage) == (None, None)
    assert main(["fsck", str(record)]) == 0
    assert "has no checksums" in capsys.readouterr().out


def test_every_bit_counts() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 100, 8143, 8144, 8145, 50_001):
        data = bytearray(rng.bytes(size))
        expected = checksum(bytes(data))
        for place in rng.integers(0, size, 20) if size else ():
            data[place] ^= 1 << int(rng.integers(8))
            assert checksum(bytes(data)) != expected
            data[:] = data
            expected = checksum(bytes(data))
    page = rng.bytes(4096)
    other = rng.bytes(4096)
    assert checksum(page * 3 + other * 3) != checksum(page * 2 + other + page + other * 2)
    assert layout.CHECKED_OF_RUN[0] == layout.STEPS


@settings(
    max_examples=NUM_EXAMPLES // 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_whatever_happens_to_its_bytes_a_record_shows_what_was_written(
    healthy: Path, data: st.DataObject
) -> None:
    whole = shown(open_run(healthy))
    names = sorted(str(path.relative_to(healthy)) for path in healthy.rglob("*") if path.is_file())
    with TemporaryDirectory() as folder:
        record = Path(folder) / "run"
        shutil.copytree(healthy, record)
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
            content = bytearray((record / name).read_bytes())
            place = data.draw(st.integers(0, max(0, len(content) - 1)), label=f"place in {name}")
            match data.draw(st.sampled_from(["cut", "flip", "zeros", "noise", "swap"])):
                case "cut":
                    content = content[:place]
                case "flip" if content:
                    content[place] ^= 1 << data.draw(st.integers(0, 7))
                case "zeros":
                    content[place:] = bytes(len(content) - place)
                case "noise":
                    noise = data.draw(st.binary(min_size=1, max_size=16))
                    content[place : place + len(noise)] = noise
                case _:  # two pages of the disk change places
                    size = data.draw(st.sampled_from([8, 64, 512]))
                    first, second = content[:size], content[place : place + size]
                    if len(first) == len(second) and place >= size:
                        content[:size], content[place : place + size] = second, first
            (record / name).write_bytes(content)
        try:
            run = open_run(record)
        except SeismogradError:
            return
        if run.num_rows:
            assert_nothing_wrong(run, whole)


@pytest.fixture
def branched(record: Path) -> Path:
    """A record whose training went back twice, from its end and from step 150."""
    for step in (150, 120):
        before = open_run(record)
        resumed = resume_record(record, step, before.parameters, elements=before.info.elements)
        first = synthetic.block(NORMS[:ROWS], first_iteration=step, elements=np.ones((ROWS, 1)))
        resumed.writer.observe(first)
        resumed.writer.close()
    assert [each.name for each in open_run(record).branches] == ["1", "2"]
    return record


def test_fsck_names_damage_by_branch(branched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", str(branched)]) == 0
    capsys.readouterr()
    flip(branched / "branches/1/steps.bin", 1000)
    flip(branched / "branches/2/meta.json", 100, 0)
    assert main(["fsck", str(branched), "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["damage"]
    assert [(each["branch"], each["file"], each["kind"]) for each in found] == [
        (1, "branches/1/steps.bin", "altered"),
        (2, "branches/2", "closed"),
    ]
    assert main(["fsck", str(branched)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "branches/1/steps.bin" in told
    assert "a branch that cannot be opened" in told
    assert "meta.json" in told  # why
    assert main(["check", str(branched)]) != 2  # the record itself is whole


def test_fsck_mends_branches(branched: Path) -> None:
    whole = open_run(branched).series("grad_norm")
    lines = branched / "branches/1/findings.jsonl"
    flip(lines, lines.read_bytes().index(b'"SG201"') + 2, 0)
    log = branched / "branches/2" / CHECKS
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2 + 5])
    assert {each.branch for each in inspect(branched).all_damage} == {1, 2}
    for file in branched.rglob("*"):
        os.utime(file, (0, 0))
    assert main(["fsck", str(branched), "--mend"]) == 0
    run = open_run(branched)
    np.testing.assert_array_equal(run.series("grad_norm"), whole)
    first, second = map(open_run, run.branches)
    assert (first.num_rows, second.num_rows) == (len(NORMS), 160)
    assert second.torn is None
    np.testing.assert_array_equal(second.series("grad_norm")[:150], NORMS[:150])
    assert [each.first_step for each in first.findings] == [1, 2, 3, 4]
