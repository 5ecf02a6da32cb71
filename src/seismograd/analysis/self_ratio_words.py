"""Describe a ratio of a policy with itself: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.schema import Fact

_KEPT = """with torch.no_grad():
    old_log_prob = policy(state).log_prob(action)  # once, when the action is drawn"""


def words_of_self_ratio(fact: Fact) -> tuple[Message, Message, str]:
    """Return the words about a fact of the kind `SELF_RATIO`."""
    cause = say(
        "the ratio at {line} compares a policy with itself: both sides have a graph that leads to "
        "the same {num} {num:parameter|parameters}, first {first}, all of its numbers are 1, and "
        "their gradients cancel, so no advantage reaches the policy, which only other terms of the "
        "loss change",
        line=fact.text("ratio") or fact.where or "?",
        num=int(fact.number("num")),
        first=fact.parameters[0],
    )
    target, _, value = fact.text("text").partition(" = ")
    if fact.number("is_alias") == 1 and value:
        return (
            cause,
            say(
                "make the old policy a frozen copy, into which the weights are loaded after the "
                "updates, or keep the log-probabilities of the rollout"
            ),
            f"{target} = copy.deepcopy({value}).requires_grad_(False)",
        )
    return (
        cause,
        say(
            "keep the log-probabilities of the rollout, or compute them under torch.no_grad() "
            "before the first update: the old side must be a constant that stays while the policy "
            "changes"
        ),
        _KEPT,
    )
