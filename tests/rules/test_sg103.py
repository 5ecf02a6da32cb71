from __future__ import annotations

import numpy as np
import pytest

from seismograd.rules import GradientSpike
from seismograd.schema import Finding, RowBatch, StepFlag
from tests.rules.cutting import cut, result
from tests.synthetic import block

SPIKE = 30


def spiking(loss: np.ndarray, flags: np.ndarray | None = None) -> RowBatch:
    norms = np.ones((60, 2))
    norms[SPIKE] = 1e6
    return block(norms, loss=loss, flags=np.zeros(60, np.int64) if flags is None else flags)


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made], rules=(GradientSpike,))
    return finding


def losses(at_the_spike: float, *, elsewhere: float = 1.0) -> np.ndarray:
    made = np.full(60, elsewhere)
    made[SPIKE] = at_the_spike
    return made


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (1e3, "and the loss jumps from 1 to 1e+03"),
        (1.0, "but the loss does not jump"),
        (np.inf, "and the loss jumps from 1 to inf"),
        (np.nan, "and the loss is nan"),
    ],
)
def test_it_says_what_the_loss_did(loss: float, said: str) -> None:
    assert said in only(spiking(losses(loss))).cause.render()


@pytest.mark.parametrize("loss", [1.0, np.nan])
def test_it_says_nothing_of_a_loss_that_is_not_known(loss: float) -> None:
    unread = np.full(60, int(StepFlag.NO_LOSS))
    assert "loss" not in only(spiking(losses(loss), unread)).cause.render()


def test_it_says_nothing_of_a_loss_with_nothing_to_compare_it_to() -> None:
    assert "loss" not in only(spiking(losses(1.0, elsewhere=np.nan))).cause.render()


@pytest.mark.parametrize("loss", [1.0, 1e3, np.inf, np.nan])
def test_the_same_is_found_in_pieces(loss: float) -> None:
    made = spiking(losses(loss))
    for at in ([], [SPIKE], [SPIKE + 1]):
        assert result(cut(made, at), rules=(GradientSpike,)) == result(
            [made], rules=(GradientSpike,)
        )
