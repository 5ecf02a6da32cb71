"""What the rules say, in words and in JSON, and the summary at the end of a run."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from seismograd.cli.terminal.run_summary import print_summary
from seismograd.diagnosis.verdict import judge, make_verdict
from seismograd.i18n import Message, say, use_language
from seismograd.record.finding_json import finding_from_json, finding_to_json
from seismograd.record.reader import Run, open_run
from seismograd.schema import Finding, RuleStatus
from seismograd.schema.finding_html import finding_html
from seismograd.views.formats import (
    diagnosis_github,
    diagnosis_json,
    diagnosis_junit,
    diagnosis_sarif,
    diagnosis_text,
)
from seismograd.views.text_layout import cell_width
from tests.synthetic import block, write_run
from tests.views.golden import assert_golden, rendered
from tests.views.samples import (
    deep,
    findings,
    small_net,
    states_of_all_kinds,
    without_steps,
)

LANGUAGES = ("en", "zh")
STATUSES = (
    RuleStatus("SG101", "vanishing-gradient", "found", Message("")),
    RuleStatus("SG102", "exploding-gradient", "clear", Message("")),
    RuleStatus(
        "SG301",
        "missing-zero-grad",
        "not evaluated",
        say("failed: {error}", error="ValueError: a bug of ours"),
    ),
)
NOTHING_LOOKED = tuple(
    RuleStatus(each.code, each.name, "not evaluated", each.reason) for each in STATUSES
)


def summary(
    run: Run,
    lang: str,
    found: tuple[Finding, ...] = (),
    statuses: tuple[RuleStatus, ...] = STATUSES,
    width: int = 80,
) -> str:
    out = io.StringIO()
    with use_language(lang):
        print_summary(make_verdict(run, found, statuses), Console(file=out, width=width))
    return "".join(
        line.rstrip() + "\n"
        for line in out.getvalue().replace(str(run.path), "runs/it").splitlines()
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_findings_in_words(tmp_path: Path, lang: str) -> None:
    said = make_verdict(small_net(tmp_path / "run"), findings(), STATUSES)
    assert_golden(f"check-{lang}", rendered(diagnosis_text.render(said), lang))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    ("name", "statuses"), [("nothing-found", STATUSES[1:]), ("nothing-looked", NOTHING_LOOKED)]
)
def test_no_findings_in_words(
    tmp_path: Path, lang: str, name: str, statuses: tuple[RuleStatus, ...]
) -> None:
    said = make_verdict(small_net(tmp_path / "run"), (), statuses)
    assert_golden(f"check-{name}-{lang}", rendered(diagnosis_text.render(said), lang))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_a_finding_is_wider_than_the_terminal(
    tmp_path: Path, lang: str, width: int
) -> None:
    said = make_verdict(small_net(tmp_path / "run"), findings(), STATUSES)
    assert (
        max(map(cell_width, rendered(diagnosis_text.render(said), lang, width).splitlines()))
        <= width
    )


def test_the_most_severe_comes_first_and_then_the_earliest(tmp_path: Path) -> None:
    said = make_verdict(small_net(tmp_path / "run"), findings(), STATUSES)
    assert [(each.severity, each.first_step) for each in said.findings] == [
        ("error", 3),
        ("warning", 0),
    ]
    assert said.has_error
    assert not make_verdict(said.run, findings()[:1], STATUSES).has_error


def test_json_is_that_of_the_design(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run")
    content = json.loads(
        diagnosis_json.render(make_verdict(run, findings(), STATUSES)), parse_constant=pytest.fail
    )
    assert list(content) == ["schema", "run", "end", "guarded", "training", "findings", "rules"]
    assert (content["schema"], content["run"]) == (1, str(run.path))
    assert content["end"] == "complete"
    assert (content["training"]["trend"], content["training"]["learned"]) == ("too few", False)
    assert content["training"]["guess_loss"] is None
    keys = {
        "code",
        "name",
        "severity",
        "optimizer",
        "first_step",
        "last_step",
        "parameters",
        "evidence",
        "cause",
        "advice",
        "where",
    }
    assert keys <= content["findings"][0].keys()
    assert content["findings"][0]["evidence"][0] == {
        "statistic": "nonfinite",
        "parameter": "net.0.weight",
        "step": 3,
        "value": "nan",
        "limit": 0.0,
    }
    assert (
        len(content["findings"][0]["evidence"]) == len(content["findings"][0]["parameters"]) == 17
    )
    assert content["rules"][1] == {"code": "SG102", "status": "clear", "reason": ""}
    assert content["rules"][2] == {
        "code": "SG301",
        "status": "not evaluated",
        "reason": "failed: ValueError: a bug of ours",
    }


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_summary_of_a_run_with_findings(tmp_path: Path, lang: str) -> None:
    assert_golden(f"summary-{lang}", summary(small_net(tmp_path / "run"), lang, findings()))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_summary_of_a_run_without_steps(tmp_path: Path, lang: str) -> None:
    assert_golden(
        f"summary-without-steps-{lang}",
        summary(without_steps(tmp_path / "run"), lang, statuses=NOTHING_LOOKED),
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_summary_of_a_deep_network_with_a_failure_of_ours(tmp_path: Path, lang: str) -> None:
    assert_golden(f"summary-deep-{lang}", summary(deep(tmp_path / "run"), lang))


def test_the_summary_of_a_killed_run_says_so(tmp_path: Path) -> None:
    assert "the run has not ended" in summary(states_of_all_kinds(tmp_path / "run"), "en")


def test_a_summary_stays_short_however_deep_the_network_and_many_the_findings(
    tmp_path: Path,
) -> None:
    text = summary(deep(tmp_path / "run", depth=500), "en", findings() * 10)
    assert len(text.splitlines()) < 75
    assert "… more findings: 17" in text


def test_a_summary_shows_what_is_not_finite_among_many(tmp_path: Path) -> None:
    run = deep(tmp_path / "run")
    assert "net.0.weight" in summary(run, "en")
    assert "net.11.bias" in summary(run, "en")
    assert "net.5.weight" not in summary(run, "en")


def test_github_gets_one_annotation_for_each_finding_at_its_line(tmp_path: Path) -> None:
    found = replace(findings()[0], where="src/train.py:42", cause=Message("50% of it,\nand more"))
    said = make_verdict(
        small_net(tmp_path / "run"),
        (found, replace(found, code="SG999", where="", severity="info")),
        STATUSES,
    )
    first, second = diagnosis_github.render(said).splitlines()
    assert first.startswith(
        f"::warning file=src/train.py,line=42,title={found.code} {found.name}::step"
    )
    assert "50%25 of it,%0Aand more" in first
    assert second.startswith("::notice title=SG999 ")
    assert diagnosis_github.render(make_verdict(said.run, (), STATUSES)) == ""


def test_sarif_has_the_rules_that_looked_and_a_result_for_each_finding(tmp_path: Path) -> None:
    found = [
        replace(each, where=where)
        for each, where in zip(findings(), ("my train.py:7", ""), strict=True)
    ]
    content = json.loads(
        diagnosis_sarif.render(make_verdict(small_net(tmp_path / "run"), found, STATUSES)),
        parse_constant=pytest.fail,
    )
    assert content["version"] == "2.1.0"
    (run,) = content["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["SG101", "SG102", "SG301"]
    assert all(rule["shortDescription"]["text"] and rule["help"]["text"] for rule in rules)
    assert {result["level"] for result in run["results"]} == {"error", "warning"}
    for result in run["results"]:
        assert (
            rules[result["ruleIndex"]]["id"] == result["ruleId"]
            if "ruleIndex" in result
            else result["ruleId"] not in {"SG101"}
        )
    (located,) = [result for result in run["results"] if "locations" in result]
    location = located["locations"][0]["physicalLocation"]
    assert location == {"artifactLocation": {"uri": "my%20train.py"}, "region": {"startLine": 7}}


def test_junit_is_xml_whatever_the_name_of_the_directory(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a\x01\x1b\ufffe<b>&\udc80", [block([[1.0]])])
    suites = ElementTree.fromstring(diagnosis_junit.render(judge(open_run(run))))
    assert suites[0].get("name", "").endswith("a<b>&")


def test_junit_fails_what_was_found_and_skips_what_could_not_look(tmp_path: Path) -> None:
    found = replace(findings()[0], code="SG101", cause=Message("a \x00 <cause> & more"))
    suite = ElementTree.fromstring(
        diagnosis_junit.render(
            make_verdict(small_net(tmp_path / "run"), (found,), STATUSES)
        ).encode()
    )[0]
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    failed, clear, skipped = suite
    assert failed[0].tag == "failure"
    assert failed[0].attrib["message"] == "a  <cause> & more"
    assert len(clear) == 0
    assert "a bug of ours" in skipped[0].attrib["message"]


def test_a_line_at_which_a_fault_only_shows_is_told_and_never_annotated(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run")
    mistake = replace(findings()[0], where="train.py:12", seen_only=False)
    shown = replace(mistake, seen_only=True)
    for finding, label, is_annotated in ((mistake, "Where", True), (shown, "Seen at", False)):
        verdict = make_verdict(run, (finding,), STATUSES)
        assert f"{label}: train.py:12" in rendered(diagnosis_text.render(verdict))
        assert ("file=train.py,line=12" in diagnosis_github.render(verdict)) == is_annotated
        (result,) = json.loads(diagnosis_sarif.render(verdict))["runs"][0]["results"]
        assert ("locations" in result) == is_annotated
        assert f"{label}: train.py:12" in diagnosis_junit.render(verdict)
        assert label in finding_html(finding)
        assert finding_from_json(json.loads(json.dumps(finding_to_json(finding)))) == finding
    assert "Seen at: train.py:12" in diagnosis_github.render(verdict)
    assert "Seen at: train.py:12" in result["message"]["text"]
