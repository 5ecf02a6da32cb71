"""Facts reach the rules with the iteration in which they were seen, however the record is cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd.diagnosis.engine import CLEAR, NOT_EVALUATED, Diagnosis
from seismograd.diagnosis.rule import Rule
from seismograd.diagnosis.whole_record import diagnose
from seismograd.i18n import Message
from seismograd.schema import Fact, FactKind, Finding, RowBatch
from tests.rules.cutting import cut
from tests.synthetic import block


@dataclass
class Listening(Rule):
    """Remembers what it was given."""

    code: ClassVar[str] = "SG999"
    name: ClassVar[str] = "listening"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LOSS_INPUT,)
    seen: list[object] = field(default_factory=list, init=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self.seen.extend(block.steps["iteration"].tolist())
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self.seen.append(fact)
        return ()

    def shortfall(self) -> Message | None:
        return None


def facts_at(*iterations: int) -> list[Fact]:
    return [
        Fact(FactKind.LOSS_INPUT, iteration, values={"rows": position})
        for position, iteration in enumerate(iterations)
    ]


@given(st.sets(st.integers(1, 9)), st.lists(st.integers(0, 12), max_size=6))
def test_a_fact_comes_before_its_iteration_and_the_rest_before_the_end(
    cuts: set[int], iterations: list[int]
) -> None:
    rule = Listening()
    facts = facts_at(*iterations)
    diagnose(cut(block(np.ones((10, 2))), cuts), [lambda: rule], facts=facts)
    assert [each for each in rule.seen if isinstance(each, Fact)] == sorted(
        facts, key=lambda fact: fact.iteration
    )
    for position, each in enumerate(rule.seen):
        if isinstance(each, Fact) and each.iteration < 10:
            assert each.iteration in rule.seen[position:]


@given(st.lists(st.integers(0, 9), max_size=6).map(sorted))
def test_one_that_comes_live_comes_as_it_would_from_the_record(iterations: list[int]) -> None:
    live, offline = Listening(), Listening()
    blocks, facts = cut(block(np.ones((10, 2))), range(10)), facts_at(*iterations)
    beside = Diagnosis([lambda: live])
    for number, each in enumerate(blocks):
        for fact in facts:
            if fact.iteration == number:
                beside.learn(fact)
        beside.observe(each)
    beside.close()
    diagnose(blocks, [lambda: offline], facts=facts)
    assert live.seen == offline.seen


def test_a_record_without_such_facts_is_not_judged() -> None:
    given_ = [block(np.ones((10, 2)))]
    (status,) = diagnose(given_, [Listening], fact_kinds=()).statuses()
    assert (status.status, status.reason.render()) == (
        NOT_EVALUATED,
        "needs facts that were not recorded: loss_input",
    )
    (status,) = diagnose(given_, [Listening]).statuses()
    assert status.status == CLEAR
