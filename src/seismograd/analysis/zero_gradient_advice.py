"""Why gradients are exactly zero, in words: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.schema import Fact, ZeroCause

HEALTHY = frozenset({ZeroCause.SOLVED})
# a margin that is kept costs nothing
AT_ZERO_LOSS = frozenset({ZeroCause.FLAT, ZeroCause.ZERO_INPUT, ZeroCause.MASKED, ""})


def words(fact: Fact | None, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    """Of {optimizer}, {num} parameters and {since}: the step since when; without a fact the
    graph did not show why.
    """
    cause = "" if fact is None else fact.text("cause")
    if fact is not None:
        values = {
            **values,
            "operation": fact.text("operation"),
            "weight": fact.text("weight"),
            "line": fact.where or "?",
        }
    match cause:
        case ZeroCause.SOFTMAX_OF_ONE:
            return (
                say(
                    "{operation} before the loss at {line} is taken over a dimension of one "
                    "element: it always gives the same, whatever it "
                    "gets, so since step {since} every gradient of {optimizer} is exactly zero",
                    **values,
                ),
                say(
                    "for one output take a sigmoid, or the loss that has it built in; for several "
                    "the dimension that has the classes"
                ),
                "F.binary_cross_entropy_with_logits(logits.squeeze(-1), target.float())",
            )
        case ZeroCause.IGNORED:
            return (
                say(
                    "every target of the loss at {line} is ignore_index, so nothing is left to "
                    "learn from: since step {since} every "
                    "gradient of {optimizer} is exactly zero",
                    **values,
                ),
                say(
                    "look at how the labels are masked: padding, the prompt or a shift by one has "
                    "taken them all"
                ),
                "assert (labels != -100).any()",
            )
        case ZeroCause.ROUNDING:
            return (
                say(
                    "{operation} on the way to the loss at {line} has a derivative of zero "
                    "everywhere, so the {num} parameters before it "
                    "get gradients that are exactly zero",
                    **values,
                ),
                say(
                    "let the gradient through as if it were not rounded (a straight-through "
                    "estimator), or round only what is shown"
                ),
                f"y = x + (torch.{values['operation']}(x) - x).detach()",
            )
        case ZeroCause.FLAT:
            return (
                say(
                    "{operation} before the loss at {line} is flat for everything that it gets, "
                    "so since step {since} every gradient of "
                    "{optimizer} is exactly zero, and nothing can bring it back",
                    **values,
                ),
                say(
                    "take it away from the last layer, or begin where it is not flat: with other "
                    "weights, a bias or a scale of the input"
                ),
                "",
            )
        case ZeroCause.MASKED:
            return (
                say(
                    "{operation} takes everything away on the way to the loss at {line}: since "
                    "step {since} every gradient of {optimizer} "
                    "is exactly zero",
                    **values,
                ),
                say("look at the mask: it may be the wrong way round"),
                "assert not mask.all()",
            )
        case ZeroCause.WITH_ITSELF:
            return (
                say(
                    "the loss at {line} compares a thing with itself, and both sides have a "
                    "graph: what one of them gets the other takes "
                    "away, so since step {since} every gradient of {optimizer} is exactly zero",
                    **values,
                ),
                say(
                    "the old or the target side is a constant: detach it, or compute it under "
                    "torch.no_grad() before the update"
                ),
                "ratio = torch.exp(log_prob - old_log_prob.detach())",
            )
        case ZeroCause.ZERO_FACTOR:
            return (
                say(
                    "the loss at {line} is multiplied by zeros (a weight, a mask or advantages), "
                    "so since step {since} every gradient of "
                    "{optimizer} is exactly zero",
                    **values,
                ),
                say(
                    "print what it is multiplied by: rewards that are all alike give advantages "
                    "of zero, an empty mask gives nothing"
                ),
                "print(advantages.abs().max(), mask.sum())",
            )
        case ZeroCause.ZERO_WEIGHT | ZeroCause.ZERO_INPUT:
            return (
                say(
                    "weights of zeros, {weight}, are multiplied by values that are zero as well: "
                    "neither side gives the other a gradient, "
                    "so since step {since} all {num} of {optimizer} stay at zero",
                    **values,
                )
                if fact is not None and fact.text("weight")
                else say(
                    "values that are all zero reach the last layers before the loss at {line}: "
                    "since step {since} every gradient of "
                    "{optimizer} is exactly zero",
                    **values,
                ),
                say(
                    "begin with random weights; of the two factors of a low-rank adapter only one "
                    "begins at zero"
                ),
                "nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5))  # lora_B stays zero",
            )
        case _:
            return (
                say(
                    "since step {since} every gradient of {optimizer} is exactly zero, so nothing "
                    "moves",
                    **values,
                ),
                say(
                    "look for a factor of zero, a mask that takes everything, or values so small "
                    "that they round to zero"
                ),
                "",
            )
