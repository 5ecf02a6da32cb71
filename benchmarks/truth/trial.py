"""Run one mutant, or one healthy program, under the witness and under seismograd, and judge what was said."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.truth.catalogue import Base
from benchmarks.truth.edit import Edited, Program
from benchmarks.truth.mutator import Mutator
from benchmarks.truth.oracle import Trace

ROOT = Path(__file__).parents[2]


@dataclass
class Trial:
    """What came of one mutant."""

    base: Base
    mutator: Mutator
    outcome: str = ""  # "judged", "does not run", "does not show", "timed out"
    names: list[str] = field(default_factory=list)  # rules with a finding that is an error or a warning, in their order
    named: bool = False
    first: bool = False
    culprit: bool | None = None  # None: not named, or there is nothing to compare with
    advice: bool | None = None
    said: str = ""  # the right finding, for reading

    def row(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in ("base", "mutator")}
        return {"base": self.base.name, "style": self.base.style, "half": self.base.half, "mutator": self.mutator.name, "fault": self.mutator.fault, **own}


@dataclass(frozen=True)
class Bench:
    """Where results are kept between runs, and how long a program may take."""

    cache: Path
    timeout_s: float

    def _environment(self, seed: int) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "SEED": str(seed), "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT / "src")}

    def trace(self, source: str, seed: int = 0) -> Trace | None:
        """Return the witness's trace of a program; None when it took too long."""
        path = self.cache / f"trace-{digest(source, str(seed), (ROOT / 'benchmarks/truth/trace.py').read_text())}.json"
        if not path.exists():
            with tempfile.TemporaryDirectory() as folder:
                script = Path(folder) / "train.py"
                script.write_text(source)
                command = [sys.executable, "-m", "benchmarks.truth.trace", str(Path(folder) / "trace.json"), str(script)]
                try:
                    ran = subprocess.run(command, cwd=ROOT, env=self._environment(seed), capture_output=True, timeout=self.timeout_s)
                except subprocess.TimeoutExpired:
                    return None
                written = Path(folder) / "trace.json"
                if not written.exists():
                    return Trace({"events": [], "names": {}, "modules": [], "frozen": [], "error": ran.stderr.decode()[-300:] or "killed"})
                path.write_text(written.read_text())
        return Trace.read(path)

    def findings(self, source: str, seed: int = 0) -> list[dict[str, Any]] | None:
        """Return what `seismograd check` says of a program's run; None when it took too long."""
        path = self.cache / f"findings-{digest(source, str(seed), of_package())}.json"
        if not path.exists():
            with tempfile.TemporaryDirectory() as folder:
                script, out = Path(folder) / "train.py", Path(folder) / "record"
                script.write_text(source)
                run = [sys.executable, "-m", "seismograd", "run", "--quiet", "--out", str(out), str(script)]
                check = [sys.executable, "-m", "seismograd", "check", str(out), "--format", "json"]
                try:
                    for command in (run, check):
                        ran = subprocess.run(
                            command, cwd=folder, env=self._environment(seed), capture_output=True, text=True, timeout=self.timeout_s
                        )
                except subprocess.TimeoutExpired:
                    return None
                try:
                    path.write_text(json.dumps(json.loads(ran.stdout)["findings"]))
                except (json.JSONDecodeError, KeyError) as error:
                    raise RuntimeError(f"seismograd check answered: {ran.stdout[-300:]} {ran.stderr[-300:]}") from error
        return json.loads(path.read_text())

    def judge(self, base: Base, mutator: Mutator, edited: Edited) -> Trial:
        """Prove that the fault shows, then ask seismograd, and compare."""
        trial = Trial(base, mutator)
        healthy, faulty = self.trace(base.path.read_text()), self.trace(edited.source)
        if healthy is None or faulty is None:
            trial.outcome = "timed out"
            return trial
        if faulty.error or not faulty.events:
            trial.outcome = "does not run"
            trial.said = faulty.error[:200]
            return trial
        try:
            culprits = mutator.oracle(faulty, healthy)
        except (IndexError, ZeroDivisionError, ValueError):  # too short a trace: the fault ended the training
            culprits = None
        if culprits is None:
            trial.outcome = "does not show"
            return trial
        found = self.findings(edited.source)
        if found is None:
            trial.outcome = "timed out"
            return trial
        trial.outcome = "judged"
        compare(trial, edited, culprits, [f for f in found if f["severity"] in ("error", "warning")])
        return trial


def compare(trial: Trial, edited: Edited, culprits: tuple[str, ...], found: list[dict[str, Any]]) -> None:
    """Fill in what of the findings is right."""
    rules = trial.mutator.rules
    trial.names = [f["name"] for f in found]
    right = [f for f in found if f["name"] in rules]
    trial.named, trial.first = bool(right), bool(found) and found[0]["name"] in rules
    if not right:
        return
    trial.said = f"{right[0]['cause']} | {right[0]['advice']} | {right[0]['where']} | {right[0]['parameters'][:3]}"
    trial.culprit = any(at_culprit(f, edited, culprits, trial.mutator.near) for f in right)
    if trial.mutator.advice:
        words = " ".join(f"{f['advice']} {f['excerpt']}" for f in right)
        trial.advice = bool(re.search(trial.mutator.advice, words))


def at_culprit(finding: dict[str, Any], edited: Edited, culprits: tuple[str, ...], near: str) -> bool:
    """Return whether a finding points at a parameter or at a line that is at fault."""
    if any(_same(p, c) for p in finding["parameters"] for c in culprits):
        return True
    line = re.search(r"train\.py:(\d+)", finding["where"] or "")
    if not line:
        return False
    number, lines = int(line[1]), edited.source.splitlines()
    changed = any(abs(number - changed) <= 1 for changed in edited.lines)
    return changed or bool(near and re.search(near, lines[number - 1]))


def _same(said: str, known: str) -> bool:
    """Return whether two names are of one parameter: either may carry the name of the object that the model hangs from."""
    return said == known or said.endswith("." + known) or known.endswith("." + said)


def mutants(base: Base, mutators: tuple[Mutator, ...]) -> list[tuple[Base, Mutator, Edited]]:
    """Return each mutant of a base that there is."""
    program = Program(base.path.read_text())
    return [(base, m, edited) for m in mutators if (edited := m.mutate(program)) is not None]


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


@cache
def of_package() -> str:
    """Return a digest of seismograd's own code: findings are kept for as long as it stays the same."""
    return digest(*(p.read_text() for p in sorted((ROOT / "src" / "seismograd").rglob("*.py"))))
