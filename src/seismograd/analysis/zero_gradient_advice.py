"""Describe why gradients are exactly zero: cause, advice and a line of code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seismograd.analysis.script_names import initialised_of
from seismograd.i18n import Message, say
from seismograd.schema import Fact, ZeroCause

HEALTHY = frozenset({ZeroCause.SOLVED})
# a margin that is kept costs nothing
AT_ZERO_LOSS = frozenset({ZeroCause.FLAT, ZeroCause.ZERO_INPUT, ZeroCause.MASKED, ""})


def words(
    fact: Fact | None, values: Mapping[str, str | int | float]
) -> tuple[Message, Message, str]:
    """Return the words about {optimizer}, {num} parameters and {since}: the step since when;
    without a fact the graph did not show why.
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
                    "{operation} before the loss at {line} is applied over a dimension of one "
                    "element, so its result is always the same, whatever the input: since step "
                    "{since} every gradient of {optimizer} has been exactly zero",
                    **values,
                ),
                say(
                    "for one output, use a sigmoid or a loss that includes it; for several "
                    "outputs, apply it over the class dimension"
                ),
                "F.binary_cross_entropy_with_logits(logits.squeeze(-1), target.float())",
            )
        case ZeroCause.IGNORED:
            return (
                say(
                    "every target of the loss at {line} is ignore_index, so there is nothing to "
                    "learn from: since step {since} every gradient of {optimizer} has been exactly "
                    "zero",
                    **values,
                ),
                say(
                    "check how the labels are masked: padding, masking of the prompt or a shift by "
                    "one has removed all of them"
                ),
                "assert (labels != -100).any()",
            )
        case ZeroCause.ROUNDING:
            return (
                say(
                    "the derivative of {operation}, between the parameters and the loss at {line}, "
                    "is zero everywhere, so the gradients of all parameters before it ({num}) are "
                    "exactly zero",
                    **values,
                ),
                say(
                    "use a straight-through estimator, which lets the gradient through as if "
                    "nothing were rounded, or round only values for display"
                ),
                f"y = x + (torch.{values['operation']}(x) - x).detach()",
            )
        case ZeroCause.FLAT:
            return (
                say(
                    "the derivative of {operation} before the loss at {line} is zero for all of "
                    "its inputs, so since step {since} every gradient of {optimizer} has been "
                    "exactly zero, and training cannot recover",
                    **values,
                ),
                say(
                    "remove it from the last layer, or start where its derivative is not zero: "
                    "with other weights, another bias or another scale of the input"
                ),
                "",
            )
        case ZeroCause.MASKED:
            return (
                say(
                    "{operation} masks everything before the loss at {line}: since step {since} "
                    "every gradient of {optimizer} has been exactly zero",
                    **values,
                ),
                say("check the mask: it may be inverted"),
                "assert not mask.all()",
            )
        case ZeroCause.WITH_ITSELF:
            return (
                say(
                    "the loss at {line} compares a value with itself, and both sides have a graph, "
                    "so their gradients cancel: since step {since} every gradient of {optimizer} "
                    "has been exactly zero",
                    **values,
                ),
                say(
                    "the old side or the target side must be a constant: detach it, or compute it "
                    "under torch.no_grad() before the update"
                ),
                "ratio = torch.exp(log_prob - old_log_prob.detach())",
            )
        case ZeroCause.ZERO_FACTOR:
            return (
                say(
                    "the loss at {line} is multiplied by zeros (a weight, a mask or advantages), "
                    "so since step {since} every gradient of {optimizer} has been exactly zero",
                    **values,
                ),
                say(
                    "print the factor: identical rewards give advantages of zero, and an empty "
                    "mask leaves nothing"
                ),
                "print(advantages.abs().max(), mask.sum())",
            )
        case ZeroCause.ZERO_WEIGHT | ZeroCause.ZERO_INPUT:
            return (
                say(
                    "weights that are all zero, {weight}, are multiplied by values that are zero "
                    "as well, so neither gets a gradient from the other: since step {since} all "
                    "{num} {num:parameter|parameters} of {optimizer} {num:has|have} stayed at zero",
                    **values,
                )
                if fact is not None and fact.text("weight")
                else say(
                    "the values that reach the last layers before the loss at {line} are all zero: "
                    "since step {since} every gradient of {optimizer} has been exactly zero",
                    **values,
                ),
                _initialise(),
                "nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5))  # lora_B stays zero",
            )
        case _:
            return (
                say(
                    "since step {since} every gradient of {optimizer} has been exactly zero, so "
                    "the weights do not change",
                    **values,
                ),
                say(
                    "look for a factor of zero, a mask that removes everything, or values so small "
                    "that they round to zero"
                ),
                "",
            )


def words_of_zero_weights(
    names: Sequence[str], step: int, model: str
) -> tuple[Message, Message, str]:
    """Return the words about weights that hold only zeros up to this step and multiply each
    other.
    """
    cause = say(
        "{num} {num:weight|weights}, {first} and {second} among them, hold only zeros, still at "
        "step {step}: each is multiplied by the zeros that the other makes, so none of them gets "
        "a gradient, and none will ever change",
        num=len(names),
        first=names[0],
        second=names[1],
        step=step,
    )
    first_of = {name.rpartition(".")[0]: name for name in reversed(names)}  # of each module
    chosen = [name for name in names if name in first_of.values()]
    return cause, _initialise(), initialised_of(chosen, model)


def _initialise() -> Message:
    return say(
        "initialise the weights randomly; in a low-rank adapter, only one of the two factors "
        "starts at zero"
    )
