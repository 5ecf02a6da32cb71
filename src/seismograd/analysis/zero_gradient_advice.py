"""Describe why gradients are exactly zero: cause, advice and a line of code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seismograd.analysis.advice_words import AdviceWords
from seismograd.analysis.script_names import initialised_of
from seismograd.i18n import Message, mark, say
from seismograd.schema import Fact, ZeroCause

HEALTHY = frozenset({ZeroCause.SOLVED})
# a margin that is kept costs nothing
AT_ZERO_LOSS = frozenset({ZeroCause.FLAT, ZeroCause.ZERO_INPUT, ZeroCause.MASKED, ""})


_INITIALISE = mark(
    "initialise the weights randomly; in a low-rank adapter, only one of the two factors starts "
    "at zero"
)
_START_OF_AN_ADAPTER = "nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5))  # lora_B stays zero"

_UNKNOWN = AdviceWords(
    mark(
        "since step {since} every gradient of {optimizer} has been exactly zero, so the weights do "
        "not change"
    ),
    mark(
        "look for a factor of zero, a mask that removes everything, or values so small that they "
        "round to zero"
    ),
)
_ZERO_WEIGHT = AdviceWords(
    mark(
        "weights that are all zero, {weight}, are multiplied by values that are zero as well, so "
        "neither gets a gradient from the other: since step {since} all {num} "
        "{num:parameter|parameters} of {optimizer} {num:has|have} stayed at zero"
    ),
    _INITIALISE,
    _START_OF_AN_ADAPTER,
)
_ZERO_VALUES = AdviceWords(
    mark(
        "the values that reach the last layers before the loss at {line} are all zero: since step "
        "{since} every gradient of {optimizer} has been exactly zero"
    ),
    _INITIALISE,
    _START_OF_AN_ADAPTER,
)
_WORDS: dict[str, AdviceWords] = {
    ZeroCause.SOFTMAX_OF_ONE: AdviceWords(
        mark(
            "{operation} before the loss at {line} is applied over a dimension of one element, "
            "so its result is always the same, whatever the input: since step {since} every "
            "gradient of {optimizer} has been exactly zero"
        ),
        mark(
            "for one output, use a sigmoid or a loss that includes it; for several outputs, "
            "apply it over the class dimension"
        ),
        "F.binary_cross_entropy_with_logits(logits.squeeze(-1), target.float())",
    ),
    ZeroCause.IGNORED: AdviceWords(
        mark(
            "every target of the loss at {line} is ignore_index, so there is nothing to learn "
            "from: since step {since} every gradient of {optimizer} has been exactly zero"
        ),
        mark(
            "check how the labels are masked: padding, masking of the prompt or a shift by one "
            "has removed all of them"
        ),
        "assert (labels != -100).any()",
    ),
    ZeroCause.ROUNDING: AdviceWords(
        mark(
            "the derivative of {operation}, between the parameters and the loss at {line}, is "
            "zero everywhere, so the gradients of all parameters before it ({num}) are exactly "
            "zero"
        ),
        mark(
            "use a straight-through estimator, which lets the gradient through as if nothing "
            "were rounded, or round only values for display"
        ),
        "y = x + (torch.{operation}(x) - x).detach()",
    ),
    ZeroCause.FLAT: AdviceWords(
        mark(
            "the derivative of {operation} before the loss at {line} is zero for all of its "
            "inputs, so since step {since} every gradient of {optimizer} has been exactly zero, "
            "and training cannot recover"
        ),
        mark(
            "remove it from the last layer, or start where its derivative is not zero: with "
            "other weights, another bias or another scale of the input"
        ),
        "",
    ),
    ZeroCause.NO_OVERLAP: AdviceWords(
        mark(
            "the loss at {line} multiplies lengths that a clamp keeps above zero, and for every "
            "sample one of them is zero, as in the overlap of boxes that do not meet: neither the "
            "product nor the clamp passes a gradient on, so since step {since} every gradient of "
            "{optimizer} has been exactly zero"
        ),
        mark(
            "use a loss that has a gradient without an overlap, such as the generalized IoU, or "
            "add a regression loss on the coordinates"
        ),
        "torchvision.ops.generalized_box_iou_loss(boxes, target, reduction='mean')",
    ),
    ZeroCause.MASKED: AdviceWords(
        mark(
            "{operation} masks everything before the loss at {line}: since step {since} every "
            "gradient of {optimizer} has been exactly zero"
        ),
        mark("check the mask: it may be inverted"),
        "assert not mask.all()",
    ),
    ZeroCause.WITH_ITSELF: AdviceWords(
        mark(
            "the loss at {line} compares a value with itself, and both sides have a graph, so "
            "their gradients cancel: since step {since} every gradient of {optimizer} has been "
            "exactly zero"
        ),
        mark(
            "the old side or the target side must be a constant: detach it, or compute it under "
            "torch.no_grad() before the update"
        ),
        "ratio = torch.exp(log_prob - old_log_prob.detach())",
    ),
    ZeroCause.ZERO_FACTOR: AdviceWords(
        mark(
            "the loss at {line} is multiplied by zeros (a weight, a mask or advantages), so "
            "since step {since} every gradient of {optimizer} has been exactly zero"
        ),
        mark(
            "print the factor: identical rewards give advantages of zero, and an empty mask "
            "leaves nothing"
        ),
        "print(advantages.abs().max(), mask.sum())",
    ),
}


_OVER_THE_CLASSES = mark(
    "apply it over the class dimension: the last one, dim=-1, has {size} elements"
)
# where other parameters have a gradient, from another loss
_IN_A_PART: dict[str, AdviceWords] = {
    ZeroCause.WITH_ITSELF: AdviceWords(
        mark(
            "the loss at {line} compares a value with itself, and both sides have a graph, so "
            "their gradients cancel: since step {since} the gradients of {num} "
            "{num:parameter|parameters} of {optimizer} have been exactly zero, though other losses "
            "reach others"
        ),
        _WORDS[ZeroCause.WITH_ITSELF].advice,
        _WORDS[ZeroCause.WITH_ITSELF].code,
    ),
    ZeroCause.SOFTMAX_OF_ONE: AdviceWords(
        mark(
            "{operation} before the loss at {line} is applied over a dimension of one element, so "
            "its result is always the same, whatever the input: since step {since} the gradients "
            "of {num} {num:parameter|parameters} of {optimizer} have been exactly zero, though "
            "other losses reach others"
        ),
        _WORDS[ZeroCause.SOFTMAX_OF_ONE].advice,
        _WORDS[ZeroCause.SOFTMAX_OF_ONE].code,
    ),
}


def words(
    fact: Fact | None, values: Mapping[str, str | int | float], *, in_a_part: bool = False
) -> tuple[Message, Message, str]:
    """Return the words about {optimizer}, {num} parameters and {since}: the step since when;
    without a fact the graph did not show why. `in_a_part`: other parameters have a gradient.
    """
    if fact is None:
        found = _UNKNOWN
    else:
        values = {
            **values,
            "operation": fact.text("operation"),
            "weight": fact.text("weight"),
            "line": fact.where or "?",
        }
        cause = fact.text("cause")
        if cause in (ZeroCause.ZERO_WEIGHT, ZeroCause.ZERO_INPUT):
            found = _ZERO_WEIGHT if fact.text("weight") else _ZERO_VALUES
        else:
            found = _WORDS.get(cause, _UNKNOWN)
            found = _IN_A_PART.get(cause, found) if in_a_part else found
        size = int(fact.number("last_size")) if "last_size" in fact.values else 0
        if cause == ZeroCause.SOFTMAX_OF_ONE and size > 1:
            values = {**values, "size": size}
            found = AdviceWords(
                found.cause, _OVER_THE_CLASSES, "probabilities = logits.softmax(dim=-1)"
            )
    cause, advice = Message(found.cause, values), Message(found.advice, values)
    return cause, advice, found.code.replace("{operation}", str(values.get("operation", "")))


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
    return cause, Message(_INITIALISE), initialised_of(chosen, model)
