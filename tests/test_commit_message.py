"""The commit-msg hook lets good messages pass and names what is wrong with others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOOK = ROOT / "tools" / "commit_message.py"
BODY = "Readers of a live run saw half a line, since the write was not\natomic.\n"


def checked(tmp_path: Path, message: str) -> tuple[int, str]:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(HOOK), str(file)], capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "message",
    [
        f"Replace documents atomically\n\n{BODY}",
        f"{'Fix ' + 'x' * 68}\n\n{BODY}",
        f"Process embedded lists\n\n{BODY}\nCo-authored-by: Somebody <a@b.c>\n",
        f"Pass the reason on\n\n{BODY}https://example.org/{'long' * 30}\n",
        f"Bring the reader up to date\n\n{BODY}# Please enter the commit message.\n#\n",
        f"Fix it\n\n{BODY}# {'-' * 24} >8 {'-' * 24}\ndiff --git a/a b/a\n+{'a long ' * 20}\n",
        "Merge branch 'main' into words",
        'Revert "Fix it."',
        "fixup! Fix it",
    ],
)
def test_good_messages_pass(message: str, tmp_path: Path) -> None:
    assert checked(tmp_path, message) == (0, "")


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("", "the subject is missing"),
        ("# only git's own comment\n", "the subject is missing"),
        (f"{'Fix ' + 'x' * 69}\n\n{BODY}", "the subject has 73 characters"),
        (f"Fix the reader.\n\n{BODY}", "ends with a period"),
        (f"fix the reader\n\n{BODY}", "begins with a small letter"),
        (f"Fixed the reader\n\n{BODY}", "not imperative: 'Fixed'"),
        (f"Fixes the reader\n\n{BODY}", "not imperative: 'Fixes'"),
        (f"Fixing the reader\n\n{BODY}", "not imperative: 'Fixing'"),
        ("Fix the reader\n", "there is no body"),
        ("Fix the reader\n\nSigned-off-by: Somebody <a@b.c>\n", "there is no body"),
        ("Fix the reader\n\n# a comment\n", "there is no body"),
        (f"Fix the reader\n{BODY}", "the line below the subject is not empty"),
        (f"Fix the reader\n\n{'a long line ' * 8}\n", "more than 80 characters"),
    ],
)
def test_what_is_wrong_is_named(message: str, named: str, tmp_path: Path) -> None:
    code, said = checked(tmp_path, message)
    assert (code, named in said) == (1, True)


def test_pre_commit_installs_the_hook_and_runs_it() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "default_install_hook_types: [pre-commit, commit-msg]" in config
    hook = config.split("- id: commit-message", 1)[1]
    assert "entry: .venv/bin/python tools/commit_message.py" in hook
    assert "stages: [commit-msg]" in hook
