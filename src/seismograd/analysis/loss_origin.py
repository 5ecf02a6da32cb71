"""What is said of a loss that is not finite, by where its forward pass went wrong."""

from __future__ import annotations

import numpy as np

from seismograd.analysis.block_rows import integers, line_at, numbers
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Origin, RowBatch

Values = dict[str, str | int | float]


def origin_of(block: RowBatch, row: int) -> Origin:
    """Where the first loss of an iteration that is not finite came from."""
    at = _first_loss(block, row)
    return Origin.UNKNOWN if at is None else Origin(int(block.events["detail"][at]))


def site_of_loss(block: RowBatch, row: int) -> str:
    """`file:line` of the backward of the first loss of an iteration that is not finite, empty
    when there is none.
    """
    at = _first_loss(block, row)
    return "" if at is None else line_at(block, int(block.events["site"][at]))


def _first_loss(block: RowBatch, row: int) -> int | None:
    """The place among the events of the first loss of an iteration that is not finite."""
    events = block.events
    wanted = (integers(events, "iteration") == int(block.steps["iteration"][row])) & (
        integers(events, "kind") == EventKind.BACKWARD
    )
    at = np.flatnonzero(wanted & ~np.isfinite(numbers(events, "value")))
    return int(at[0]) if len(at) else None


def what_made_it(origin: Origin, values: Values) -> tuple[Message, Message, str]:
    """Cause, advice and excerpt. `values` hold `loss` and `step`."""
    if origin is Origin.INPUT:
        return (
            say(
                "at step {step} the model was given a NaN or an infinity, so the loss is {loss}: "
                "the data made it",
                **values,
            ),
            say(
                "look at this batch and where it came from: a missing value, a division by a "
                "standard deviation of zero, or an overflow in "
                "the preprocessing; leave such samples out, or mend them"
            ),
            "assert torch.isfinite(x).all()",
        )
    if origin is Origin.WEIGHT:
        return (
            say(
                "at step {step} the weights were NaN or infinite before the forward pass, so the "
                "loss is {loss}",
                **values,
            ),
            say(
                "look at what wrote the weights before this step: an update that was too large, a "
                "step on a gradient that was not finite, "
                "a checkpoint, or an initialisation"
            ),
            "assert all(torch.isfinite(p).all() for p in model.parameters())",
        )
    if origin is Origin.ACTIVATION:
        return (
            say(
                "input and weights were finite at step {step}, but an operation of the forward "
                "pass gave a NaN or an infinity, and the "
                "loss is {loss}",
                **values,
            ),
            say(
                "look for a logarithm or a root of zero, a division by zero, or an exponential of "
                "a large number in the forward pass: "
                "bound its input with clamp, or add a small number; in float16 numbers above "
                "65504 overflow"
            ),
            "torch.autograd.set_detect_anomaly(True)",
        )
    if origin is Origin.LOSS:
        return (
            say(
                "what the model gave was finite at step {step}, but the loss made of it is {loss}",
                **values,
            ),
            say(
                "take a loss that works on logits (cross_entropy, "
                "binary_cross_entropy_with_logits) instead of the logarithm of a "
                "probability, and see that it is not a mean over nothing, such as targets that "
                "are all ignored"
            ),
            "loss = F.cross_entropy(logits, target)",
        )
    return (
        say(
            "the loss itself was {loss} at step {step}: the forward pass or the data made it",
            **values,
        ),
        say(
            "check inputs and targets with torch.isfinite, and logarithms, divisions and "
            "exponentials in the loss; if the steps before had "
            "growing gradients, lower the learning rate or clip"
        ),
        "assert torch.isfinite(loss), loss",
    )
