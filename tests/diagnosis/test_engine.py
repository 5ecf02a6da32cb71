from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.live_rules import LiveRules
from seismograd.diagnosis.whole_record import diagnose
from seismograd.i18n import Message, say
from seismograd.rules import RULES, Rule
from seismograd.schema import Conclusion, Finding, RowBatch
from tests.rules.cutting import codes, cut, result, row_by_row
from tests.rules.made import chain
from tests.synthetic import block, finding, note


@final
@dataclass
class Broken(Rule):
    """Finds something, and then fails."""

    code: ClassVar[str] = "SG999"
    name: ClassVar[str] = "broken"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()

    fails_at: int = 0

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        last = int(block.steps["iteration"][-1])
        if last >= self.fails_at:
            raise KeyError("depth")
        yield finding(code=self.code, first_step=0, last_step=last)

    def shortfall(self) -> Message | None:
        return None


@final
@dataclass
class Sampled(Rule):
    """Needs what is sampled."""

    code: ClassVar[str] = "SG998"
    name: ClassVar[str] = "sampled"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm", "weight_norm", "exponents")
    observed: int = 0

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        self.observed += 1
        yield from ()

    def shortfall(self) -> Message | None:
        return (
            say("needs {needed} steps, has {has}", needed=5, has=2) if self.observed < 2 else None
        )


FAULTY = block(np.concatenate([chain(10, 0.1, steps=30), np.full((3, 20), np.nan)]))


def test_a_rule_that_fails_says_so_and_breaks_no_other() -> None:
    findings, statuses = result([FAULTY], rules=(Broken, *RULES))
    assert (statuses[0].status, statuses[0].reason.render()) == (
        "not evaluated",
        "failed: KeyError: 'depth'",
    )
    assert (findings, statuses[1:]) == result([FAULTY])


def test_a_rule_that_fails_later_keeps_what_it_found_and_is_left_alone_from_there_on() -> None:
    findings, (status,) = result(row_by_row([FAULTY]), rules=(lambda: Broken(fails_at=10),))
    assert (findings[0].code, findings[0].last_step) == ("SG999", 9)
    assert (status.status, status.reason.render()) == ("found", "failed: KeyError: 'depth'")


def test_a_rule_that_lacks_a_statistic_is_not_asked() -> None:
    made = replace(FAULTY, values={"grad_norm": FAULTY.values["grad_norm"]})
    _, statuses = result([made])
    said = {status.code: (status.status, status.reason.render()) for status in statuses}
    assert said["SG201"] == ("not evaluated", "needs statistics that were not recorded: nonfinite")
    assert said["SG301"] == ("not evaluated", "needs statistics that were not recorded: carried")
    assert said["SG101"] == ("found", "")


def test_a_rule_that_lacks_sampled_statistics_says_so() -> None:
    unsampled = replace(FAULTY, samples={}, sample_rows=np.zeros(0, np.int64))
    assert (
        result([unsampled], rules=(Sampled,))[1][0].reason.render()
        == "needs sampled statistics: weight_norm, exponents"
    )
    assert result([FAULTY], rules=(Sampled,))[1][0].reason.render() == "needs 5 steps, has 2"
    assert result(row_by_row([FAULTY]), rules=(Sampled,))[1][0].status == "clear"


def test_an_empty_record_is_not_evaluated_by_any_rule() -> None:
    for blocks in ([], [block(np.zeros((0, 2)))]):
        findings, statuses = result(blocks)
        assert findings == ()
        assert {status.status for status in statuses} == {"not evaluated"}
        assert all(status.reason.render() for status in statuses)


def test_statuses_are_in_the_order_of_the_rules_and_have_a_reason_only_when_not_evaluated() -> None:
    _, statuses = result([FAULTY])
    assert [(status.code, status.name) for status in statuses] == [
        (rule.code, rule.name) for rule in RULES
    ]
    for status in statuses:
        assert (status.status == "not evaluated") == bool(status.reason.render())


def test_a_finding_that_a_cause_took_in_is_found_all_the_same() -> None:
    norms = np.concatenate(
        [np.ones((5, 2)), 10.0 ** np.arange(20)[:, None] * np.ones((1, 2)), np.full((3, 2), np.nan)]
    )
    findings, statuses = result([block(norms, loss=np.arange(28.0))])
    assert [finding.code for finding in findings] == ["SG102"]
    assert {status.code for status in statuses if status.status == "found"} == {"SG102", "SG201"}


def test_live_publishes_each_finding_the_moment_it_is_known_and_once() -> None:
    published: list[Finding] = []
    concluded: list[Conclusion] = []
    live = LiveRules(published.append, concluded.append)
    known: list[tuple[int, str]] = []
    for row, each in enumerate(cut(FAULTY, range(len(FAULTY)))):
        live.observe(each)
        live.note(note())
        known += [(row, finding.code) for finding in published[len(known) :]]
    assert known == [(9, "SG101"), (30, "SG201")]
    assert concluded == []
    live.close()
    assert len(published) == 2
    assert concluded == [diagnose([FAULTY]).conclusion()]
    assert concluded[0].findings == live.findings()
    assert concluded[0].statuses == live.statuses()


def test_without_a_place_for_the_conclusion_it_is_published() -> None:
    published: list[Finding] = []
    live = LiveRules(published.append)
    live.observe(FAULTY)
    num_found = len(published)
    live.close()
    assert tuple(published[num_found:]) == live.findings()


def test_what_is_only_known_at_the_end_is_concluded() -> None:
    concluded: list[Conclusion] = []
    live = LiveRules(lambda each: None, concluded.append)
    live.observe(block(chain(10, 0.1, steps=6)))
    assert live.findings() == ()
    live.close()
    assert [each.code for each in concluded[0].findings] == ["SG101"]


def test_findings_are_in_reading_order() -> None:
    findings = diagnose([FAULTY]).findings()
    assert [(each.severity, each.code) for each in findings] == [
        ("error", "SG201"),
        ("warning", "SG101"),
    ]


def test_observing_tells_what_is_new() -> None:
    diagnosis = Diagnosis()
    told = [diagnosis.observe(each) for each in cut(FAULTY, range(len(FAULTY)))]
    assert [(row, new) for row, new in enumerate(told) if new] == [
        (9, frozenset({("SG101", 0)})),
        (30, frozenset({("SG201", 0)})),
    ]


def test_columns_may_move_between_segments() -> None:
    made = block(chain(10, 0.1, steps=40))
    first, second = cut(made, [12])
    order = np.arange(20)[::-1]
    moved = replace(
        second,
        parameters=tuple(second.parameters[column] for column in order),
        state=second.state[:, order],
        values={name: values[:, order] for name, values in second.values.items()},
        samples={name: values[:, order] for name, values in second.samples.items()},
    )
    assert result([first, moved]) == result([made])
    assert codes([first, moved]) == ["SG101"]
