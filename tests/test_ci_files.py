"""The action, its workflow and the hook: their YAML is what GitHub and pre-commit ask for, and
their commands do what they say.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documented_code import code_in
from tests.synthetic import block, finding, write_run

ROOT = Path(__file__).parents[1]


def read(path: str) -> Any:
    return pytest.importorskip("yaml").safe_load((ROOT / path).read_text(encoding="utf-8"))


def documented() -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return [yaml.safe_load(each) for each in code_in("ci.md", "yaml")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """As on a runner: `python` is the one with seismograd."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "python").chmod(0o755)
    summary = str(tmp_path / "summary.md")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": summary, "LC_ALL": "C.UTF-8"}


def checked(
    folder: Path, environment: dict[str, str], **inputs: str
) -> subprocess.CompletedProcess[str]:
    """Run the step of the action as a runner does, its inputs filled in."""
    action = read("action.yml")
    assert set(inputs) <= {name.replace("-", "_") for name in action["inputs"]}
    given = {name: each["default"] for name, each in action["inputs"].items()}
    given |= {name.replace("_", "-"): value for name, value in inputs.items()}
    step = action["runs"]["steps"][-1]
    assert "${{" not in step["run"]  # where an input could be a command
    filled = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], value)
        for name, value in step["env"].items()
    }
    line = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
    return subprocess.run(
        line, cwd=folder, env=environment | filled, capture_output=True, text=True, check=False
    )


def test_the_action_judges_annotates_and_writes_sarif(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    import numpy as np

    norms = np.array([[1.0, np.nan]] * 3)
    states = np.array([[3, 4]] * 3, np.uint8)
    write_run(tmp_path / "runs" / "bad", [block(norms, state=states)], findings=[finding()])
    ran = checked(tmp_path, environment, run="runs/bad", select="SG2")
    assert ran.returncode == 1, ran.stderr
    assert "::error" in ran.stdout
    sarif = json.loads((tmp_path / "seismograd.sarif").read_text())
    assert [each["ruleId"] for each in sarif["runs"][0]["results"]] == ["SG201"]
    assert "SG201" in (tmp_path / "summary.md").read_text()
    hostile = checked(tmp_path, environment, run="runs/bad; touch broken", select="$(touch broken)")
    assert hostile.returncode == 2
    assert not (tmp_path / "broken").exists()


def test_the_workflow_uses_what_the_action_has() -> None:
    action, (workflow, hooks) = read("action.yml"), documented()
    assert action["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" for step in action["runs"]["steps"])
    steps = workflow["jobs"]["gradients"]["steps"]
    (used,) = [step for step in steps if step.get("uses") == "./seismograd"]
    assert set(used["with"]) <= set(action["inputs"])
    (upload,) = [step for step in steps if "upload-sarif" in step.get("uses", "")]
    (output,) = re.findall(r"steps\.check\.outputs\.(\w+)", upload["with"]["sarif_file"])
    assert output in action["outputs"]
    assert workflow["permissions"]["security-events"] == "write"
    offered = read(".pre-commit-hooks.yaml")[0]
    described = {name: value for name, value in offered.items() if name != "description"}
    assert hooks["repos"][0]["hooks"] == [described]


def test_the_hook_runs_the_tests_that_pin_gradients(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.gradients\n"
        "def test_pinned(): pass\n"
        "def test_other(): raise AssertionError\n"
    )
    words = shlex.split(read(".pre-commit-hooks.yaml")[0]["entry"])
    plugin = ["-p", "no:seismograd", "-p", "seismograd.integrations.pytest_plugin"]
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    ran = subprocess.run(
        [*words, *plugin],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 deselected" in ran.stdout, ran.stdout + ran.stderr
