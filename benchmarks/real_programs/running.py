"""Runs a program in a fresh folder, plain or watched, and keeps what it left behind."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real_programs.programs import Program, Source

OBSERVER = Path(__file__).parent / "observer"
STAND_INS = Path(__file__).parent / "stand_ins"
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # sums on a GPU depend on who comes first
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

Line = dict[str, Any]
"""One that the observer wrote."""


@dataclass(frozen=True)
class Outcome:
    """What a run of a program left behind."""

    returncode: int | None
    """`None`: it had not ended when its time was up."""
    stdout: str
    stderr: str
    files: dict[str, str]
    """Every file in its folder afterwards, and a digest."""
    observed: dict[int, list[Line]]
    """For each rank, what the observer wrote down."""

    def lines(self, rank: int) -> list[Line]:
        return self.observed.get(rank, [])


def run_plain(program: Program, sources: Path, scratch: Path) -> Outcome:
    """As `python` runs it."""
    return _run(program, sources, scratch, ())


def run_watched(program: Program, sources: Path, scratch: Path) -> tuple[Outcome, Path]:
    """As `seismograd run` runs it; and its record."""
    record = scratch / "record"
    watch = ("-m", "seismograd", "run", "--quiet", "--out", str(record))
    return _run(program, sources, scratch, watch), record


def check_out(source: Source, sources: Path) -> Path:
    """Clone it unless it is there.

    Raises:
        RuntimeError: what is there is at another commit.
    """
    folder = sources / source.name
    if not folder.exists():
        _git("clone", "--quiet", source.url, str(folder))
        _git("-C", str(folder), "checkout", "--quiet", source.commit)
    head = _git("-C", str(folder), "rev-parse", "HEAD").strip()
    if head != source.commit:
        raise RuntimeError(f"{folder} is at {head}, not at {source.commit}")
    return folder


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def _run(program: Program, sources: Path, scratch: Path, watch: tuple[str, ...]) -> Outcome:
    work = scratch / "work"  # the same path both times: paths are printed and saved
    shutil.rmtree(work, ignore_errors=True)
    start = work / program.start
    if program.source is None:
        start.mkdir(parents=True)
    else:
        place = check_out(program.source, sources) / program.folder
        shutil.copytree(place, start, ignore=shutil.ignore_patterns(".git"))
    if program.prepare is not None:
        program.prepare(start)
    for name, old, new in program.edits:
        text = (start / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{program.name}: {old} is not once in {name}"
        (start / name).write_text(text.replace(old, new), encoding="utf-8")
    if _lacks_torchvision(program):
        text = (start / program.command[0]).read_text(encoding="utf-8")
        text = text.replace("torchvision", "torchvision_stand_in")
        (start / program.command[0]).write_text(text, encoding="utf-8")
    observed = scratch / "observed"
    shutil.rmtree(observed, ignore_errors=True)
    observed.mkdir()
    returncode, stdout, stderr = _call(program, start, observed, watch)
    digests = {
        str(path.relative_to(work)): _digest(path, program)
        for path in sorted(work.rglob("*"))
        if path.is_file() and not _is_left_out(path, program)
    }
    return Outcome(returncode, _settled(stdout, program), stderr, digests, _read(observed))


def _call(
    program: Program,
    start: Path,
    observed: Path,
    watch: tuple[str, ...],
) -> tuple[int | None, str, str]:
    """Its exit code, output and errors."""
    words = [sys.executable, *watch, *program.command]
    if program.ranks > 1:
        launcher = f"-m torch.distributed.run --nproc-per-node {program.ranks} --redirects 1"
        words[1:1] = [*launcher.split(), "--log-dir", str(observed / "output")]
    out, err = observed / "stdout", observed / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = subprocess.Popen(
            words,
            cwd=start,
            env=_environment(program, observed),
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        returncode = None
        try:
            returncode = child.wait(program.limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with what it has left running
            child.wait()
    of_ranks = sorted((observed / "output").rglob("stdout.log"), key=lambda path: path.parent.name)
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (err, out, *of_ranks)]
    return returncode, "".join(texts[1:]), texts[0]


def _environment(program: Program, observed: Path) -> dict[str, str]:
    paths = [str(OBSERVER), *([str(STAND_INS)] if _lacks_torchvision(program) else [])]
    for given in (program.environment, os.environ):
        paths += filter(None, [given.get("PYTHONPATH")])
    return {
        **os.environ,
        **ENVIRONMENT,
        **program.environment,
        "OBSERVED": str(observed),
        "PYTHONPATH": os.pathsep.join(paths),
        "TORCHINDUCTOR_CACHE_DIR": str(observed / "inductor"),  # cold both times
    }


def _lacks_torchvision(program: Program) -> bool:
    return program.pictures and importlib.util.find_spec("torchvision") is None


def _settled(text: str, program: Program) -> str:
    """Without what it says of time."""
    for pattern in program.varying:
        text = re.sub(pattern, "…", text)
    return text


def _is_left_out(path: Path, program: Program) -> bool:
    patterns = ("*.pyc", *program.varying_files)
    return any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)


def _digest(path: Path, program: Program) -> str:
    """Of a text without what it says of time; of anything else as it is."""
    content = path.read_bytes()
    with contextlib.suppress(UnicodeDecodeError):
        content = _settled(content.decode("utf-8"), program).encode()
    return hashlib.sha256(content).hexdigest()


def _read(observed: Path) -> dict[int, list[Line]]:
    """For each rank the lines of the process that has the most: others there train nothing."""
    read: dict[int, list[Line]] = {}
    for path in sorted(observed.glob("*.jsonl")):
        rank = int(path.name.split(".")[0])
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if len(lines) > len(read.get(rank, ())):
            read[rank] = lines
    return read
