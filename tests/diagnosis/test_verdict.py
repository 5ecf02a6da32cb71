"""What is known of a run need not be found out twice."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.diagnosis import verdict
from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.live_rules import LiveRules
from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.diagnosis.verdict import judge, known_verdict, recorded_verdict
from seismograd.errors import TrainingHalted
from seismograd.record.reader import Run, open_run
from seismograd.record.writer import Writer
from seismograd.rules import RULES
from seismograd.schema import FactKind
from seismograd.settings.rule_selection import select_rules
from tests.rules.made import chain
from tests.synthetic import block, info


def recorded(path: Path, version: str = seismograd.__version__) -> Run:
    """A run whose gradient vanishes, with the rules beside it."""
    about = replace(info(), seismograd_version=version, fact_kinds=tuple(map(str, FactKind)))
    writer = Writer(path, about)
    live = LiveRules(writer.finding, writer.conclude, Diagnosis())
    for sink in (live, writer):
        sink.observe(block(chain(10, 0.1, steps=30)))
    for sink in (live, writer):
        sink.close()
    return open_run(path)


def test_the_conclusion_of_the_live_rules_is_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(tmp_path / "run")
    judged = judge(run)
    monkeypatch.setattr(verdict, "diagnose", lambda *_: pytest.fail("the rules ran again"))
    assert known_verdict(run) == judged
    assert [each.code for each in judged.findings] == ["SG101"]
    assert len(judged.statuses) == len(RULES)


def test_other_rules_thresholds_or_versions_have_to_look_again(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run")
    assert known_verdict(run, RULES[1:]) is None
    assert known_verdict(run, [partial(RULES[0], min_layers=5), *RULES[1:]]) is None
    assert known_verdict(recorded(tmp_path / "old", version="0.0.1")) is None


def test_a_record_of_before_statuses_were_written_is_judged_again(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run")
    path = tmp_path / "run" / "findings.jsonl"
    *others, last = path.read_text().splitlines()
    without = json.dumps({"final": json.loads(last)["final"]})
    path.write_text("\n".join((*others, without)) + "\n")
    older = open_run(tmp_path / "run")
    assert known_verdict(older) is None
    assert older.findings == run.findings
    assert recorded_verdict(older).judged == "end"


def test_a_run_that_was_killed_has_no_conclusion(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", info())
    writer.observe(block(np.ones((3, 2))))
    writer.abandon()
    run = open_run(tmp_path / "run")
    assert known_verdict(run) is None
    assert recorded_verdict(run).judged == "running"


@pytest.mark.parametrize("halts", [False, True])
def test_what_is_kept_of_a_real_training_is_what_its_record_says(
    tmp_path: Path, halts: bool
) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        for step in range(30):
            optimizer.zero_grad()
            loss = model(torch.ones(4, 3)).square().mean()
            (loss / 0 if step == 20 else loss).backward()
            optimizer.step()

    halt_on = ["error"] if halts else []
    selection = select_rules(ignore=["SG6"], halting=halt_on)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", ignore=["SG6"], halt_on=halt_on):
        if halts:
            with pytest.raises(TrainingHalted):
                train()
        else:
            train()
    run = open_run(tmp_path / "run")
    known = known_verdict(run, selected_rules(selection))
    assert known == judge(run, selected_rules(selection))
    assert known_verdict(run) is None, "these were not all rules"
    assert [each.code for each in known.findings if each.severity == "error"][:1] == ["SG201"]
