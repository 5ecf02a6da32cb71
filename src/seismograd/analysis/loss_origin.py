"""Describe a non-finite loss by where its forward pass went wrong."""

from __future__ import annotations

import numpy as np

from seismograd.analysis.advice_words import AdviceWords
from seismograd.analysis.birth_words import words
from seismograd.analysis.block_rows import integers, line_at, numbers
from seismograd.i18n import Message, mark, say
from seismograd.schema import EventKind, Fact, Origin, RowBatch

Values = dict[str, str | int | float]


_UNKNOWN = AdviceWords(
    mark("the loss itself was {loss} at step {step}: the cause is the forward pass or the data"),
    mark(
        "check the inputs and targets with torch.isfinite, and the logarithms, divisions "
        "and exponentials in the loss; if the gradients were growing in the steps before, "
        "lower the learning rate or clip the gradients"
    ),
    "assert torch.isfinite(loss), loss",
)
_WORDS: dict[Origin, AdviceWords] = {
    Origin.INPUT: AdviceWords(
        mark(
            "at step {step} the model input contained a NaN or an infinity, so the loss is "
            "{loss}: the data is the cause"
        ),
        mark(
            "check this batch and where it came from, for a missing value, a division by a "
            "standard deviation of zero, or an overflow in the preprocessing; remove or fix "
            "such samples"
        ),
        "assert torch.isfinite(x).all()",
    ),
    Origin.WEIGHT: AdviceWords(
        mark(
            "at step {step} the weights already contained NaN or infinities before the forward "
            "pass, so the loss is {loss}"
        ),
        mark(
            "check what wrote the weights before this step: an update that was too large, a "
            "step with a gradient that was not finite, a checkpoint, or the initialisation"
        ),
        "assert all(torch.isfinite(p).all() for p in model.parameters())",
    ),
    Origin.ACTIVATION: AdviceWords(
        mark(
            "the input and the weights were finite at step {step}, but an operation in the "
            "forward pass produced a NaN or an infinity, and the loss is {loss}"
        ),
        mark(
            "check the forward pass for a logarithm or square root of zero, a division by zero, "
            "or an exponential of a large number; limit the input of that operation with clamp, "
            "or add a small number to it; in float16, numbers above 65504 overflow"
        ),
        "torch.autograd.set_detect_anomaly(True)",
    ),
    Origin.LOSS: AdviceWords(
        mark("the model output was finite at step {step}, but the loss computed from it is {loss}"),
        mark(
            "check the logarithms, divisions and means in the loss: the logarithm of a "
            "probability that is zero, a division by a count that is zero, a mean over no "
            "elements, such as when all targets are ignored"
        ),
        "assert torch.isfinite(loss), loss",
    ),
}


def origin_of(block: RowBatch, row: int) -> Origin:
    """Return where the first non-finite loss of an iteration came from."""
    at = _first_loss(block, row)
    return Origin.UNKNOWN if at is None else Origin(int(block.events["detail"][at]))


def site_of_loss(block: RowBatch, row: int) -> str:
    """Return `file:line` of the backward of the first non-finite loss of an iteration, empty when
    there is none.
    """
    at = _first_loss(block, row)
    return "" if at is None else line_at(block, int(block.events["site"][at]))


def _first_loss(block: RowBatch, row: int) -> int | None:
    """Return the position among the events of the first non-finite loss of an iteration."""
    events = block.events
    wanted = (integers(events, "iteration") == int(block.steps["iteration"][row])) & (
        integers(events, "kind") == EventKind.BACKWARD
    )
    at = np.flatnonzero(wanted & ~np.isfinite(numbers(events, "value")))
    return int(at[0]) if len(at) else None


def what_made_it(
    origin: Origin, values: Values, birth: Fact | None = None
) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt. `values` hold `loss` and `step`; `birth` is where the first
    non-finite number arose, where that is known.
    """
    if birth is not None:
        what, advice, excerpt = words(birth)
        cause = say(
            "step {step}: {what}; the loss is {loss}",
            step=values["step"],
            what=what,
            loss=values["loss"],
        )
        return cause, advice, excerpt
    found = _WORDS.get(origin, _UNKNOWN)
    return Message(found.cause, values), Message(found.advice), found.code
