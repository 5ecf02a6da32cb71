"""Run programs under the witness and under seismograd, each once: what came of it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.truth.oracle import Trace

ROOT = Path(__file__).parents[2]
WITNESS = ROOT / "benchmarks" / "truth" / "trace.py"


@dataclass(frozen=True)
class Bench:
    """Where results are kept, and how many seconds a program may take."""

    cache: Path
    timeout_s: float

    def _python(self, module: str, *arguments: str | Path, cwd: Path, seed: int) -> str:
        """Run a module of this Python; return its standard output, whatever its exit code."""
        own = {
            "OMP_NUM_THREADS": "1",
            "SEED": str(seed),
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        }
        command = [sys.executable, "-m", module, *map(str, arguments)]
        ran = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=self.timeout_s,
            check=False,
        )
        return ran.stdout or ran.stderr[-300:]

    def trace(self, source: str, seed: int = 0) -> Trace | None:
        """Return the witness's trace of a program; None when it took too long."""
        path = self.cache / f"trace-{digest(source, str(seed), WITNESS.read_text())}.json"
        if not path.exists():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                script, written = folder / "train.py", folder / "trace.json"
                script.write_text(source)
                try:
                    said = self._python(
                        "benchmarks.truth.trace", written, script, cwd=folder, seed=seed
                    )
                except subprocess.TimeoutExpired:
                    return None
                text = written.read_text() if written.exists() else json.dumps({"error": said})
                keep(path, text)
        return Trace.read(path)

    def findings(self, source: str, seed: int = 0) -> list[dict[str, Any]] | None:
        """Return what `seismograd check` says of a program's run; None when it took too long."""
        path = self.cache / f"findings-{digest(source, str(seed), of_package())}.json"
        if not path.exists():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                script, out = folder / "train.py", folder / "record"
                script.write_text(source)
                run = ("run", "--quiet", "--out", out, script)
                try:
                    self._python("seismograd", *run, cwd=folder, seed=seed)
                    said = self._python(
                        "seismograd", "check", out, "--format", "json", cwd=folder, seed=seed
                    )
                except subprocess.TimeoutExpired:
                    return None
                keep(path, json.dumps(json.loads(said)["findings"]))
        return json.loads(path.read_text())


def keep(path: Path, text: str) -> None:
    """Write a whole file or none, so that a measurement that was stopped can go on."""
    part = path.with_suffix(f".{threading.get_ident()}")
    part.write_text(text)
    part.replace(path)


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


@cache
def of_package() -> str:
    """Return a digest of seismograd's code: findings are kept while it stays the same."""
    sources = sorted((ROOT / "src" / "seismograd").rglob("*.py"))
    return digest(*(p.read_text() for p in sources))
