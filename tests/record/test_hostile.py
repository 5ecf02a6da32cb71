"""A record that is damaged, or made to do harm, is refused in one line or read as far as it is
whole: no traceback, no waiting, no file of the reader's, no escape sequence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seismograd.cli import main
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.reader import open_run
from seismograd.schema import EVENT_DTYPE, STEP_DTYPE, Note, State
from tests import synthetic
from tests.record.edits import without_checksums
from tests.record.fuzzing import NUM_EXAMPLES

COMMANDS = (
    ("check",),
    ("check", "--format", "json"),
    ("check", "--format", "github"),
    ("show",),
    ("show", "--format", "plain"),
    ("report", "-o", "REPORT.md"),
    ("report", "-o", "REPORT.json"),
    ("report", "-o", "REPORT.html"),
)
ESCAPES = "P0\x1b]0;PWNED\x07\x1b[2J\x9b1m\u202e\n::error::gh"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    norms = np.linspace(1, 2, 40)[:, None] * np.ones((1, 3))
    path = tmp_path_factory.mktemp("hostile") / "healthy"
    return synthetic.write_run(
        path,
        [synthetic.block(norms)],
        findings=[synthetic.finding(), synthetic.finding(code="SG101", severity="warning")],
        notes=[Note("failure", 3, say("a part failed: {part}", part="clip"))],
    )


@pytest.fixture
def record(healthy: Path, tmp_path: Path) -> Path:
    shutil.copytree(healthy, tmp_path / "run")
    return tmp_path / "run"


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change the JSON of a file, or of each line of it."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    changed = []
    for line in lines:
        data = json.loads(line)
        data.pop("crc32", None)
        changed.append(json.dumps(change(data) or data))
    path.write_text("\n".join(changed) + "\n" * (path.suffix == ".jsonl"))


def put(*keys: str | int, to: object) -> Callable[[Any], None]:
    """Return a change that replaces the value at these keys."""

    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def entries(name: str, dtype: np.dtype[Any], field: str, value: float) -> Callable[[Path], None]:
    def change(record: Path) -> None:
        numbers = np.fromfile(record / name, dtype)
        numbers[field][len(numbers) // 2] = value
        numbers.tofile(record / name)

    return change


def in_json(name: str, *keys: str | int, to: object) -> Callable[[Path], None]:
    return lambda record: edit(record / name, put(*keys, to=to))


def replaced(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda record: (record / name).write_bytes(content)


def directory(name: str) -> Callable[[Path], None]:
    def change(record: Path) -> None:
        (record / name).unlink()
        (record / name).mkdir()

    return change


PARAMETERS = "segments/0000/parameters.json"
NORMS = "segments/0000/grad_norm.f64"
DEEP = b"[" * 100_000
HOSTILE: dict[str, Callable[[Path], object]] = {
    **{
        f"deep {name}": replaced(name, DEEP)
        for name in ("meta.json", "end.json", "findings.jsonl", "notes.jsonl", PARAMETERS)
    },
    **{
        f"directory for {name}": directory(name)
        for name in ("end.json", "findings.jsonl", "sites.jsonl", "steps.bin", NORMS, PARAMETERS)
    },
    **{
        f"statistic of {dtype!r}": in_json("meta.json", "statistics", 0, "dtype", to=dtype)
        for dtype in ("O", "<f16", "V8", "", None, 5, "V1000000000", "U9")
    },
    **{
        f"width of {width!r}": in_json("meta.json", "statistics", 0, "width", to=width)
        for width in (0, -1, "64", 1.5, None, 10**9)
    },
    "no step dtype": in_json("meta.json", "step_dtype", to=[]),
    "objects in steps": in_json("meta.json", "step_dtype", to=[["iteration", "|O"]]),
    "text in steps": in_json("meta.json", "step_dtype", to=[["iteration", "<U9"]]),
    "another field in steps": in_json("meta.json", "step_dtype", to=[["weather", "<f8"]]),
    "statistic outside": in_json("meta.json", "statistics", 0, "name", to="../../../etc/passwd"),
    "infinite rows": replaced("end.json", b'{"rows": Infinity, "lines": {}}'),
    "lines of text": replaced("end.json", b'{"rows": 40, "lines": []}'),
    "infinite step": replaced("findings.jsonl", b'{"code": "SG101", "first_step": Infinity}\n'),
    "no values": in_json("notes.jsonl", "message", "values", to=[]),
    "open brace": in_json("notes.jsonl", "message", "template", to="{"),
    "place by number": in_json("notes.jsonl", "message", "template", to="{0}"),
    "unknown place": in_json("notes.jsonl", "message", "template", to="{b}"),
    "unknown format": in_json("notes.jsonl", "message", "template", to="{part:x}"),
    "wide format": in_json("notes.jsonl", "message", "template", to="{part:>999999999}"),
    "attribute in a place": in_json("notes.jsonl", "message", "template", to="{part.__class__}"),
    "note in no iteration": in_json("notes.jsonl", "iteration", to=None),
    **{
        f"parameter {field} of {value!r}": in_json(PARAMETERS, "parameters", 1, field, to=value)
        for field, value in (
            ("name", None),
            ("name", 5),
            ("name", []),
            ("name", "\ud800"),
            ("shape", 3),
            ("shape", ["a"]),
            ("numel", "x"),
            ("numel", None),
            ("depth", "a"),
            ("depth", 10**20),
            ("module", None),
            ("optimizer", 10**6),
        )
    },
    **{f"first row {row}": in_json(PARAMETERS, "first_row", to=row) for row in (-1, 10**9, 10**20)},
    "far site": entries("events.bin", EVENT_DTYPE, "site", 2**30),
    "far optimizer": entries("events.bin", EVENT_DTYPE, "optimizer", 2**14),
    "kind of event": entries("events.bin", EVENT_DTYPE, "kind", 99),
    "negative iteration": entries("steps.bin", STEP_DTYPE, "iteration", -5),
    "optimizer of a step": entries("steps.bin", STEP_DTYPE, "optimizer", 2**20),
    "no state": replaced("segments/0000/state.u8", bytes([255]) * 120),
    "escapes in a name": in_json(PARAMETERS, "parameters", 0, "name", to=ESCAPES),
}


def run_commands(
    record: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    commands: Sequence[tuple[str, ...]] = COMMANDS,
) -> str:
    """Run every command on the record; return what they printed and wrote."""
    said = ""
    for command in commands:
        arguments = [str(folder / word) if word.startswith("REPORT") else word for word in command]
        code = main([arguments[0], str(record), *arguments[1:]])
        out, err = capsys.readouterr()
        assert code in (0, 1, 2), command
        assert "Traceback" not in err
        if code == 2 and command[0] != "check":  # which also says so where no rule could look
            assert err.splitlines()[-1].startswith("seismograd: ")
        said += out + err
    return said


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_no_command_ends_in_a_traceback(
    hostile: Callable[[Path], object],
    record: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile(without_checksums(record))
    said = run_commands(record, tmp_path, capsys)
    assert "this command failed" not in said  # refused, or read, for a reason that is known
    assert "\x1b" not in said
    assert "\n::error::gh" not in said
    assert main(["runs", str(tmp_path)]) in (0, 2)


def test_one_bad_run_hides_no_other(
    healthy: Path, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(healthy, tmp_path / "good")
    (record / "meta.json").write_bytes(DEEP)
    assert main(["runs", str(tmp_path)]) == 0
    assert "good" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["meta.json", "end.json", "findings.jsonl", "sites.jsonl", NORMS])
def test_a_pipe_is_not_waited_for(name: str, record: Path) -> None:
    (record / name).unlink()
    os.mkfifo(record / name)
    done = subprocess.run(
        [sys.executable, "-m", "seismograd", "check", record],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["meta.json", "end.json", "notes.jsonl", "steps.bin", NORMS, "segments"]
)
def test_a_link_does_not_show_a_file_of_the_reader(
    name: str, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    (record / name).rename(secret)
    (record / name).symlink_to(secret)
    assert main(["show", str(record), "--format", "json"]) == 2
    assert f"{Path(name).name} is not a regular file" in capsys.readouterr().err
    with pytest.raises(SeismogradError):
        open_run(record)


def test_a_tail_of_zeros_is_left_out(record: Path) -> None:
    """A power cut may leave the length of a file and lose its content."""
    without_checksums(record)
    for path in (record / "steps.bin", record / "segments/0000/sample_rows.i64"):
        content = path.read_bytes()
        kept = len(content) // 4 * 3
        path.write_bytes(content[:kept] + bytes(len(content) - kept))
    run = open_run(record)
    assert run.num_rows == 30
    assert run.steps["iteration"].tolist() == list(range(30))
    assert run.samples("weight_norm")[0].tolist() == [0, 10, 20]
    assert run.torn is not None


def test_a_byte_that_is_no_state_is_not_measured(record: Path) -> None:
    without_checksums(record)
    path = record / "segments/0000/state.u8"
    content = bytearray(path.read_bytes())
    content[4] = 77
    path.write_bytes(content)
    run = open_run(record)
    assert run.states[1, 1] == State.NOT_MEASURED
    assert np.isnan(run.series("grad_norm")[1, 1])


@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_whatever_is_done_to_a_file_it_is_read_or_refused(
    healthy: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    names = sorted(str(path.relative_to(healthy)) for path in healthy.rglob("*") if path.is_file())
    with TemporaryDirectory() as folder:
        record = Path(folder) / "run"
        shutil.copytree(healthy, record)
        if data.draw(st.booleans(), label="of an earlier version"):
            without_checksums(record)
        for name in data.draw(
            st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
        ):
            path = record / name
            if not path.exists():  # an earlier version had none
                continue
            content = bytearray(path.read_bytes())
            place = data.draw(st.integers(0, max(0, len(content) - 1)), label=f"place in {name}")
            match data.draw(
                st.sampled_from(["cut", "flip", "zeros", "other", "gone", "text", "link", "folder"])
            ):
                case "cut":
                    content = content[:place]
                case "flip" if content:
                    content[place] ^= 1 << data.draw(st.integers(0, 7))
                case "zeros":
                    content[place:] = bytes(len(content) - place)
                case "other":
                    content = bytearray((healthy / data.draw(st.sampled_from(names))).read_bytes())
                case "text":
                    content[place:place] = data.draw(
                        st.sampled_from([b"null", b"-1", b"[]", b"9e9"])
                    )
                case "link":
                    path.unlink()
                    path.symlink_to(data.draw(st.sampled_from(["run", "/dev/zero", *names])))
                    continue
                case "folder":
                    path.unlink()
                    path.mkdir()
                    continue
                case _:
                    path.unlink(missing_ok=True)
                    continue
            path.write_bytes(content)
        # two of them, which the examples take in turns: a report takes longer than all the rest
        commands = data.draw(
            st.lists(st.sampled_from(COMMANDS), min_size=2, max_size=2, unique=True)
        )
        run_commands(record, Path(folder), capsys, commands)
