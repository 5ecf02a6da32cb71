"""Stored runs: how one is recorded, kept as a file, read back, and what the commands say of it."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from seismograd.record.checksums import CHECKS
from seismograd.record.layout import LOCK
from seismograd.record.run_claim import STARTED
from seismograd.schema import EVENT_DTYPE, RANK_DTYPE, STEP_DTYPE

HERE = Path(__file__).parent
RUNS = HERE / "records"
# Of meta.json, what follows from the machine and the day.
CIRCUMSTANCES = ("created_utc", "seismograd_version", "torch_version", "python_version")
TIMES = ("time_s", "overhead_s")


def record(name: str, out: Path, num_processes: int) -> None:
    """Run a program of `programs` in processes of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    path = os.pathsep.join(
        each for each in (str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")) if each
    )
    shared = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    if num_processes > 1:
        shared |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": str(num_processes),
        }
    command = [sys.executable, "programs.py", str(out), name]
    started = [
        subprocess.Popen(
            command,
            cwd=HERE,
            env=shared
            | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_processes > 1 else {}),
        )
        for rank in range(num_processes)
    ]
    try:
        codes = [process.wait(timeout=180) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0] * num_processes


def pack(run: Path, path: Path) -> None:
    """Keep a run as one file, the same for the same run."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(each for each in run.rglob("*") if each.is_file()):
            archive.writestr(
                zipfile.ZipInfo(file.relative_to(run).as_posix()),
                file.read_bytes(),
                zipfile.ZIP_DEFLATED,
            )


def unpack(name: str, out: Path) -> None:
    """The stored run of this name, as the directory `out`."""
    with zipfile.ZipFile(RUNS / f"{name}.zip") as archive:
        archive.extractall(out)


def answers(run: Path) -> dict[str, str]:
    """What `check`, `show` and `report` say of a run, as JSON; what depends on where it lies is
    left out.
    """
    from seismograd.cli import main

    out = run.parent / "report.json"
    said: dict[str, str] = {}
    for name, arguments in {
        "check": ["check", str(run), "--format", "json"],
        "show": ["show", str(run), "--format", "json"],
        "report": ["report", str(run), "--out", str(out)],
    }.items():
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(io.StringIO()):
            code = main([*arguments, "--lang", "en"])
        assert code in ((0, 1) if name == "check" else (0,))
        said[name] = normal(
            (out.read_text("utf-8") if name == "report" else printed.getvalue()).replace(
                str(run), "run"
            )
        )
    return said


def masked(run: Path) -> dict[str, bytes]:
    """The files of a record without times and circumstances, and without what rules there were,
    which changes with each new one.
    """
    files = {
        each.relative_to(run).as_posix(): each.read_bytes()
        for each in sorted(run.rglob("*"))
        if each.is_file() and each.name != CHECKS  # times have checksums too
    }
    files = {
        name: re.sub(rb', "crc32": "\w+"', b"", content) if ".json" in name else content
        for name, content in files.items()
    }
    files.pop(LOCK, None)  # empty, and not in runs of before there was one
    files.pop(STARTED, None)  # all of it follows from the machine and the day
    meta = json.loads(files["meta.json"])
    for key in CIRCUMSTANCES:
        del meta["run"][key]
    files["meta.json"] = json.dumps(meta, indent=1).encode()
    lines = [json.loads(line) for line in files.pop("findings.jsonl", b"").splitlines()]
    found = [{key: each[key] for key in each if key != "rules"} for each in lines]
    files["findings.jsonl"] = json.dumps(found, indent=1).encode()
    for name, dtype in (
        ("steps.bin", STEP_DTYPE),
        ("events.bin", EVENT_DTYPE),
        ("ranks.bin", RANK_DTYPE),
    ):
        entries = np.frombuffer(files[name], dtype).copy() if name in files else np.empty(0, dtype)
        for time in TIMES:
            if time in (entries.dtype.names or ()):
                entries[time] = 0
        files[name] = entries.tobytes()
    return files


def to_digits(value: Any) -> Any:
    """Numbers to twelve digits: the last ones follow from the machine's instructions, as those
    of logarithms do.
    """
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: to_digits(each) for key, each in value.items()}
    return [to_digits(each) for each in value] if isinstance(value, list) else value


def normal(text: str) -> str:
    """A JSON answer as it is compared."""
    return json.dumps(to_digits(json.loads(text)), indent=1, ensure_ascii=False) + "\n"
