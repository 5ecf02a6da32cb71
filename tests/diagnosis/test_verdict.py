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
from seismograd.diagnosis.engine import Diagnosis, LiveRules
from seismograd.diagnosis.verdict import judge, known_verdict, recorded_verdict
from seismograd.record.reader import Run, open_run
from seismograd.record.writer import Writer
from seismograd.rules import RULES
from seismograd.schema import FactKind
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
