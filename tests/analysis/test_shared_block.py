"""What rules read together: once a block, with the same outcome as each by itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import takewhile
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seismograd.analysis.parameter_index import is_weight
from seismograd.analysis.profile_layers import bias_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.spike_track import SpikeTrack
from seismograd.diagnosis.engine import Diagnosis
from seismograd.rules import RULES, GradientSpike
from seismograd.rules.sg104.layer_connections import NEVER_ZERO, LayerConnections, depth_number
from seismograd.schema import Parameter, RowBatch, State
from tests.rules.cutting import result, row_by_row
from tests.rules.test_sg1_cuts import signals
from tests.synthetic import block, make_parameters


@dataclass
class Counting:
    """A reader that fails from a block on."""

    fails_at: int
    read_by_now: list[RowBatch] = field(default_factory=list)

    def read(self, made: RowBatch) -> int:
        self.read_by_now.append(made)
        if len(self.read_by_now) >= self.fails_at:
            raise KeyError("column")
        return len(made)


def test_a_reader_reads_a_block_once_and_fails_all_who_share_it() -> None:
    reader, blocks = Counting(fails_at=2), [SharedBlock.of(block([[1.0]] * 3)) for _ in range(2)]
    assert [blocks[0].read_by(reader) for _ in range(3)] == [3, 3, 3]
    for _ in range(3):
        with pytest.raises(KeyError):
            blocks[1].read_by(reader)
    assert reader.read_by_now == blocks


@settings(max_examples=25)
@given(signals())
def test_a_rule_that_reads_alone_comes_to_what_it_comes_to_with_the_others(
    blocks: list[RowBatch],
) -> None:
    together = Diagnosis()
    with patch("seismograd.diagnosis.engine.share_readers"):
        apart = Diagnosis(RULES)
    for made in blocks:
        assert together.observe(made) == apart.observe(made)
    together.close()
    apart.close()
    assert repr(together.findings()) == repr(apart.findings())
    assert together.statuses() == apart.statuses()


@settings(max_examples=25)
@given(signals())
def test_no_spike_hides_where_none_is_looked_for(blocks: list[RowBatch]) -> None:
    found = result(blocks, rules=(GradientSpike,))
    with patch.object(SpikeTrack, "spans", lambda *_: True):
        assert repr(result(row_by_row(blocks), rules=(GradientSpike,))) == repr(found)


def _is_cut_off(parameters: tuple[Parameter, ...], state: np.ndarray, column: int) -> bool:
    """The same for one layer, as one would say it."""
    here = parameters[column]
    alive = [each for each, now in zip(parameters, state, strict=True) if now == State.FINITE]
    if any(each.name == bias_name(here.name) for each in alive):
        return False
    others = [each for each in alive if each.optimizer == here.optimizer and each.trainable]
    before = any(is_weight(each) and depth_number(each) < depth_number(here) for each in others)
    after = any(depth_number(each) > depth_number(here) for each in others)
    return not before and after and not _is_blocked_later(parameters, state, here)


def _is_blocked_later(
    parameters: tuple[Parameter, ...], state: np.ndarray, here: Parameter
) -> bool:
    """Layers right after it get nothing, not even in their biases, and one of them cannot be dead
    by its activation.
    """
    now = {each.name: each_state for each, each_state in zip(parameters, state, strict=True)}
    later = [
        each
        for each in sorted(parameters, key=depth_number)
        if is_weight(each)
        and each.trainable
        and each.optimizer == here.optimizer
        and depth_number(each) > depth_number(here)
    ]
    silent = takewhile(
        lambda each: now[each.name] == State.ZERO == now.get(bias_name(each.name)), later
    )
    return any(each.activation in NEVER_ZERO for each in silent)


@given(st.data(), st.integers(1, 12))
def test_a_layer_is_cut_off_when_only_what_comes_after_it_gets_a_gradient(
    data: st.DataObject, num: int
) -> None:
    def described(each: Parameter) -> Parameter:
        depth, optimizer = (
            data.draw(st.sampled_from([None, 0, 1, 2, 3])),
            data.draw(st.sampled_from([None, 0, 1])),
        )
        activation = data.draw(st.sampled_from(["", "relu"]))
        return replace(
            each,
            depth=depth,
            optimizer=optimizer,
            trainable=data.draw(st.booleans()),
            activation=activation,
        )

    parameters = tuple(described(each) for each in make_parameters(num))
    state = np.array(
        data.draw(st.lists(st.sampled_from(State), min_size=num, max_size=num)), np.uint8
    )
    columns = np.arange(num)
    found = LayerConnections(parameters).is_cut_off(state, columns)
    assert found.tolist() == [_is_cut_off(parameters, state, column) for column in columns]
