"""Describe a reference that is the policy itself: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.schema import Fact


def words_of_self_reference(fact: Fact) -> tuple[Message, Message, str]:
    """Return the words about a fact of the kind `SELF_REFERENCE`."""
    cause = say(
        "{operation} in the loss at {line} is given the difference between what the model computes "
        "with a graph and what was computed without one, and all of it was exactly 0 at each of "
        "{times} checks, with updates in between: the reference is the model itself as it is now, "
        "so the loss stays where it is (at the logarithm of 2) whatever the model learns, and "
        "nothing holds the model near a reference",
        operation=fact.text("operation"),
        line=fact.where or "?",
        times=int(fact.number("times")),
    )
    statement, model = fact.text("text"), fact.text("adapted")
    if model:
        return (
            cause,
            say("compute the reference with the adapter disabled"),
            f"with torch.no_grad(), {model}.disable_adapter():\n"
            f"    {statement or 'reference = log_prob(model, batch)'}",
        )
    return (
        cause,
        say(
            "compute the reference with weights that stay: a frozen copy that is made before the "
            "first update"
        ),
        "reference = copy.deepcopy(model).requires_grad_(False)  # before the training",
    )
