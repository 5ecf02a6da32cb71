"""Make the stored runs of `tests/stored_runs` again, and what the commands say of them; read the
difference before you commit it.

python tools/stored_runs.py            # what the commands say of the runs that are there
python tools/stored_runs.py NAME...    # these runs, too; `all`: every one
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.stored_runs.programs import NUM_PROCESSES, PROGRAMS  # noqa: E402
from tests.stored_runs.stored import RUNS, answers, pack, record, unpack  # noqa: E402


def main(names: list[str]) -> None:
    RUNS.mkdir(exist_ok=True)
    for name in PROGRAMS if names == ["all"] else names:
        with tempfile.TemporaryDirectory() as folder:
            record(name, Path(folder) / "run", NUM_PROCESSES.get(name, 1))
            pack(Path(folder) / "run", RUNS / f"{name}.zip")
    for path in sorted(RUNS.glob("*.zip")):
        with tempfile.TemporaryDirectory() as folder:
            unpack(path.stem, Path(folder) / "run")
            for kind, text in answers(Path(folder) / "run").items():
                (RUNS / f"{path.stem}.{kind}.json").write_text(text, encoding="utf-8")
        print(f"{path.stem}: {path.stat().st_size / 1000:.1f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
