"""Say in words how the gradients of two runs compare."""

from __future__ import annotations

import math
from collections.abc import Iterator

from seismograd.i18n import say, translate
from seismograd.views.parity.parameter_parity import Difference, ParameterParity
from seismograd.views.parity.run_parity import Outcome, RunParity
from seismograd.views.values import count, number, state_word


def headline(parity: RunParity) -> str:
    """Return the verdict in a sentence; empty where there is nothing to compare."""
    if parity.outcome is Outcome.SAME:
        return _same(parity)
    if parity.outcome is Outcome.DRIFT and parity.culprit is not None:
        return translate(
            "The gradients are the same to rounding in the first {count:,} steps; at step {step} "
            "training has amplified rounding past {tolerance:g}, little by little, first at {name}"
        ).format(
            count=parity.found.num_same,
            step=parity.step,
            tolerance=parity.tolerance.norm,
            name=parity.culprit.name,
        )
    if parity.outcome is Outcome.FACTOR:
        return translate(
            "Step {step}: every gradient of the first run is ×{factor} that of the second"
        ).format(step=parity.step, factor=number(parity.factor, 6))
    if parity.culprit is not None:
        return translate(
            "Step {step}: from the loss on, {name} is the first whose gradient differs: {how}"
        ).format(step=parity.step, name=parity.culprit.name, how=how(parity.culprit))
    return ""


def _same(parity: RunParity) -> str:
    known = sum(each.difference is Difference.SAME for each in parity.parameters)
    if math.isnan(parity.found.largest):
        template = (
            translate("Step {step}: the gradients are the same to rounding in sixteen bits")
            if parity.is_half
            else translate("Step {step}: the gradients are the same to rounding")
        )
        return template.format(step=parity.step)
    template = (
        translate(
            "The gradients are the same to rounding in sixteen bits: {num:,} parameters, "
            "{steps:,} steps, norms at most {largest} apart"
        )
        if parity.is_half
        else translate(
            "The gradients are the same to rounding: {num:,} parameters, {steps:,} steps, norms at "
            "most {largest} apart"
        )
    )
    return template.format(
        num=known, steps=parity.num_steps, largest=number(parity.found.largest, 2)
    )


def details(parity: RunParity) -> Iterator[str]:
    """Yield what is known beside the verdict, a sentence each."""
    if parity.culprit is None:
        return
    if parity.outcome is Outcome.DIFFERENT and parity.num_behind:
        yield say(
            "the {num:gradient|gradients} of {num} {num:parameter|parameters} nearer to the loss "
            "{num:is|are} the same",
            num=parity.num_behind,
        ).render()
    if parity.found.num_same and parity.outcome is not Outcome.DRIFT:
        yield say(
            "{num} {num:step before it is|steps before it are} the same to rounding",
            num=parity.found.num_same,
        ).render()
    for reason in parity.reasons:
        yield translate("×{factor} is {reason}").format(
            factor=number(parity.factor, 6), reason=reason.reason.render()
        )
    if parity.factor > 0 and not parity.reasons:
        yield translate("×{factor} is none of the factors that are known").format(
            factor=number(parity.factor, 6)
        )
    for clue in parity.clues:
        yield clue.render()


def how(each: ParameterParity) -> str:
    """Return how one gradient differs, in a few words."""
    if each.difference is Difference.SAME:
        return translate("the same")
    if each.difference is Difference.FACTOR:
        return translate("×{factor}, in the same direction").format(factor=number(each.ratio, 6))
    if each.difference is Difference.MOVED:
        return translate("the same numbers in other places")
    if each.difference is Difference.SHAPE and each.several[1]:
        return translate("one tensor and {num:,} different ones").format(num=each.several[1])
    if each.difference is Difference.SHAPE:
        return translate("{first} and {second} scalars").format(
            first=count(each.first.parameter.numel), second=count(each.second.parameter.numel)
        )
    if each.difference is Difference.STATE:
        return translate("{first} and {second}").format(
            first=state_word(each.first.state), second=state_word(each.second.state)
        )
    if each.difference is Difference.UNKNOWN:
        return translate("not measured")
    if math.isnan(each.cosine):
        return translate("norm ×{ratio}").format(ratio=number(each.ratio, 4))
    return translate("norm ×{ratio}, cosine {cosine}").format(
        ratio=number(each.ratio, 4), cosine=number(each.cosine, 3)
    )
