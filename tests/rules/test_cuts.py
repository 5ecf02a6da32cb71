from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from seismograd.diagnosis.live_rules import LiveRules
from seismograd.rules import RULES
from seismograd.schema import RowBatch
from tests.rules.cutting import cut, result, row_by_row
from tests.rules.made import runs


@given(runs(), st.data())
def test_what_is_found_does_not_depend_on_where_blocks_are_cut(
    blocks: list[RowBatch], data: st.DataObject
) -> None:
    whole = result(blocks)
    for finding in whole[0]:
        event(finding.code)
    positions = data.draw(st.lists(st.integers(1, 80), max_size=12))
    assert result(each for block in blocks for each in cut(block, positions)) == whole


@given(runs())
def test_judging_step_by_step_comes_to_the_same_as_judging_the_record(
    blocks: list[RowBatch],
) -> None:
    assert result(row_by_row(blocks)) == result(blocks)


@given(runs())
def test_each_rule_alone_finds_what_it_finds_among_the_others_before_causes_absorb(
    blocks: list[RowBatch],
) -> None:
    _, statuses = result(blocks)
    for rule in RULES:
        alone, (status,) = result(blocks, rules=(rule,))
        assert {finding.code for finding in alone} <= {rule.code}
        assert status == next(each for each in statuses if each.code == rule.code)


@given(runs())
def test_a_finding_only_grows(blocks: list[RowBatch]) -> None:
    published = []
    live = LiveRules(published.append, conclude=lambda _: None)
    first: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], int] = {}
    for block in row_by_row(blocks):
        live.observe(block)
        for finding in live._diagnosis._found.values():
            key = finding.code, finding.optimizer
            assert finding.first_step == first.setdefault(key, finding.first_step)
            assert finding.last_step >= last.get(key, finding.first_step)
            last[key] = finding.last_step
    keys = [(finding.code, finding.optimizer) for finding in published]
    assert len(keys) == len(set(keys))
