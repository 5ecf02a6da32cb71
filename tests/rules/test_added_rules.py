"""A rule of another package: loaded only when named, and its failures cost its own answer alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.cli import main
from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.diagnosis.whole_record import diagnose
from seismograd.errors import SeismogradError
from seismograd.settings.rule_selection import select_rules
from tests.synthetic import block, write_run

GUIDE = Path(__file__).parents[2] / "docs" / "writing_rules.md"
POINTS = """
[seismograd.rules]
ACME101 = acme_rules:LowLearningRate
ACME102 = acme_rules:missing
ACME103 = acme_rules:Raises
ACME104 = acme_rules:NotARule
SG101 = acme_rules:LowLearningRate
lower = acme_rules:LowLearningRate
"""
OTHERS = """

NotARule = dict


@dataclass
class Raises(LowLearningRate):
    code: ClassVar[str] = "ACME103"

    def observe(self, block):
        raise ZeroDivisionError("acme")
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with the rule of the guide, under another code."""
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert code is not None
    folder = tmp_path / "site"
    (folder / "acme-1.0.dist-info").mkdir(parents=True)
    (folder / "acme-1.0.dist-info" / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
    (folder / "acme-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    source = code[1].replace("SG999", "ACME101").replace("@final\n", "") + OTHERS
    (folder / "acme_rules.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("acme_rules", None)


@pytest.fixture
def run(tmp_path: Path) -> str:
    still = [block(np.ones((30, 2)), lr=np.zeros(30))]
    return str(write_run(tmp_path / "runs" / "one", still))


def test_it_runs_when_it_is_named_and_only_then(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", run, "--format", "json"])
    usual = json.loads(capsys.readouterr().out)
    assert "acme_rules" not in sys.modules
    assert not [each for each in usual["rules"] if each["code"].startswith("ACME")]
    main(["check", run, "--select", "SG,acme101", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["rules"]) == len(usual["rules"]) + 1
    assert found["rules"][-1] == {"code": "ACME101", "status": "found", "reason": ""}
    assert "ACME101" in [each["code"] for each in found["findings"]]
    for form in ("text", "github", "sarif", "junit"):
        main(["check", run, "--select", "ACME101", "--format", form])
        assert "ACME101" in capsys.readouterr().out, form


def test_it_is_listed_without_being_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    main(["rules"])
    listed = capsys.readouterr().out
    assert "ACME101" in listed
    assert "acme_rules:LowLearningRate, in the package acme; --select ACME101 uses it" in listed
    assert "\nlower\n" not in listed  # no code
    main(["rules", "--format", "json"])
    codes = [each["code"] for each in json.loads(capsys.readouterr().out)]
    assert codes[-4:] == ["ACME101", "ACME102", "ACME103", "ACME104"]
    assert "acme_rules" not in sys.modules


def test_its_threshold_and_its_name_in_a_project(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = '[tool.seismograd]\nselect = ["ACME101"]\nhalt-on = ["ACME101"]\n'
    thresholds = "[tool.seismograd.thresholds.ACME101]\nmin_steps = 40\n"
    (tmp_path / "pyproject.toml").write_text(settings + thresholds)
    main(["check", run, "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == []
    assert [each["status"] for each in found["rules"]] == ["not evaluated"]


@pytest.mark.parametrize(
    ("code", "thresholds", "reason"),
    [
        ("ACME102", {}, "cannot be loaded: AttributeError"),
        ("ACME103", {}, "failed: ZeroDivisionError: acme"),
        ("ACME104", {}, "cannot be loaded: TypeError: acme_rules:NotARule is no"),
        ("ACME101", {"no_such": 3.0}, "cannot be loaded: TypeError"),
    ],
)
def test_what_fails_is_not_evaluated_and_the_others_are(
    code: str, thresholds: dict[str, float], reason: str
) -> None:
    selection = select_rules(["SG202", code], thresholds={code: thresholds})
    still = block(np.ones((30, 2)), lr=np.zeros(30))
    first, last = diagnose([still], selected_rules(selection)).statuses()
    assert (first.code, first.status) == ("SG202", "clear")
    assert (last.code, last.status) == (code, "not evaluated")
    assert last.reason.render().startswith(reason)


def test_a_training_is_watched_with_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", select=["ACME"], quiet=True
    ) as recording:
        for _ in range(25):
            optimizer.zero_grad()
            model(torch.ones(4, 2)).sum().backward()
            optimizer.step()
    assert [each.code for each in recording.findings] == ["ACME101"]
    assert [each.code for each in seismograd.open_run(tmp_path / "run").findings] == ["ACME101"]


def test_explain_knows_it_and_no_code_of_ours_is_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--lang", "en", "explain", "acme101"]) == 0
    assert "The learning rate is next to nothing." in capsys.readouterr().out
    assert main(["--lang", "en", "explain", "ACME102"]) == 2
    assert "ACME102 cannot be loaded: AttributeError" in capsys.readouterr().err
    assert select_rules(["SG101"]).added == ()
    assert select_rules(["ACME"]).added == ("ACME101", "ACME102", "ACME103", "ACME104")
    with pytest.raises(SeismogradError, match="unknown rule"):
        select_rules(["lower"])
    with pytest.raises(SeismogradError, match="unknown rule 'NONE1'"):
        select_rules(["NONE1"])
