"""Describe a normalization over one number: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.analysis.script_names import in_script
from seismograd.i18n import Message, say
from seismograd.schema import Fact

MIN_PER_GROUP = 8  # channels, where that is possible
GROUP_NORM = "group_norm"


def words_of_constant_norm(fact: Fact) -> tuple[Message, Message, str]:
    """Return the words about a fact whose cause is `NORM_OF_ONE`."""
    operation, name = fact.text("operation"), fact.text("name")
    shown = say("`{name}` ({operation})", name=name, operation=operation) if name else operation
    cause = say(
        "{norm} normalizes groups of a single number, and each number is its own mean: what comes "
        "out is the bias, whatever goes in, so {num} {num:parameter|parameters} of it and before "
        "it, {first} among them, {num:gets|get} no gradient beyond rounding errors",
        norm=shown,
        num=int(fact.number("num")),
        first=fact.parameters[0],
    )
    owner = in_script(name, fact.text("model") or "model") if name else "norm"
    if operation == GROUP_NORM and (groups := _fewer(int(fact.number("channels")))):
        return (
            cause,
            say(
                "use fewer groups, so that each has several channels, or normalize before the "
                "pooling, where each channel has several positions"
            ),
            f"{owner} = nn.GroupNorm({groups}, {int(fact.number('channels'))})",
        )
    return (
        cause,
        say(
            "normalize over a dimension with several elements, such as all features, or leave the "
            "normalization out"
        ),
        f"{owner} = nn.Identity()",
    )


def _fewer(channels: int) -> int:
    """Return the number of groups for so many channels; 0 where there cannot be several in one."""
    for size in (MIN_PER_GROUP, 2):
        for groups in range(channels // size, 0, -1):
            if channels % groups == 0:
                return groups
    return 0
