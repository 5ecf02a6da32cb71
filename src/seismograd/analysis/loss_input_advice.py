"""Describe an input that does not suit its loss function: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.analysis.batch_sum_words import words_of_batch_sum
from seismograd.analysis.crossed_product_words import words_of_crossed_product
from seismograd.analysis.mended_loss import mended_loss
from seismograd.analysis.reduced_focal_words import words_of_reduced_focal
from seismograd.i18n import Message, say
from seismograd.schema import Fact

FUNCTIONS = {
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "cosine_embedding": "cosine_embedding_loss",
    "cross_entropy": "cross_entropy",
    "ctc": "ctc_loss",
    "hinge_embedding": "hinge_embedding_loss",
    "huber": "huber_loss",
    "kl_div": "kl_div",
    "l1": "l1_loss",
    "mse": "mse_loss",
    "nll": "nll_loss",
    "smooth_l1": "smooth_l1_loss",
    "soft_margin": "soft_margin_loss",
}


def words(fact: Fact) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt for a fact of kind `LOSS_INPUT`: the script's own statement
    as it should read, where that can be shown.
    """
    if fact.text("input") == "batch sum":
        return words_of_batch_sum(fact)
    if fact.text("loss") == "product":
        return words_of_crossed_product(fact)
    if fact.text("input") == "reduced focal":
        return words_of_reduced_focal(fact)
    cause, advice, excerpt = _general(fact)
    targets = fact.number("low"), fact.number("high")
    if fact.text("input").startswith("tokens"):
        return cause, advice, excerpt
    if fact.text("input") == "similarity":
        return cause, advice, excerpt
    mended = mended_loss(fact.text("text"), fact.text("loss"), fact.text("input"), targets)
    return cause, advice, mended or excerpt


def _general(fact: Fact) -> tuple[Message, Message, str]:
    loss, given = fact.text("loss"), fact.text("input")
    function = FUNCTIONS.get(loss, loss)
    values: dict[str, str | int | float] = {
        "function": function,
        "input": given,
        "line": fact.text("place") or fact.where or "?",
        "rows": int(fact.number("rows")),
        "columns": int(fact.number("columns")),
    }
    if given == "broadcast":
        return _broadcast(function, values)
    if given == "targets":
        return _targets(fact, values)
    if given == "cosine":
        return _cosine(fact, values)
    if given == "similarity":
        return _similarity(fact, values)
    if given.startswith("tokens"):
        return _tokens(given, values)
    if loss == "ctc":
        return _ctc(given, values)
    if given == "view":
        return _view(values)
    if given.startswith("log_softmax"):
        return (
            say(
                "the log-probabilities passed to nll_loss at {line} do not sum to one over the "
                "classes (dimension 1 of {rows} × {columns}): log_softmax was applied over another "
                "dimension",
                **values,
            ),
            say("apply log_softmax over the class dimension"),
            "F.nll_loss(F.log_softmax(logits, dim=1), target)",
        )
    if loss == "nll":
        return _nll(given, values)
    if loss == "kl_div":
        return _kl_div(given, values)
    return _twice(fact, values)


def _targets(fact: Fact, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    function = values["function"]
    if fact.text("loss") in ("bce", "bce_with_logits"):
        return (
            say(
                "the targets of {function} at {line} lie between {low:.3g} and {high:.3g}, but it "
                "expects probabilities between 0 and 1: with others the loss has no minimum, "
                "becomes negative and falls for ever",
                low=fact.number("low"),
                high=fact.number("high"),
                **values,
            ),
            say(
                "map the targets to 0 and 1: divide a mask of 0 and 255 by 255, take (target + 1) "
                "/ 2 of -1 and 1, and use cross_entropy for more than two classes"
            ),
            f"F.{function}(logits, (target > 0).float())",
        )
    return (
        say(
            "some targets of {function} at {line} are 0, but it expects 1 (alike) and -1 "
            "(different): pairs with another target count as neither, so nothing tells the network "
            "to move different ones apart",
            **values,
        )
        if fact.text("loss") == "cosine_embedding"
        else say(
            "some targets of {function} at {line} are 0, but it expects 1 and -1: for others it "
            "computes something else",
            **values,
        ),
        say("map targets of 0 and 1 to -1 and 1: 2 * target - 1"),
        f"F.{function}(…, 2 * target - 1)",
    )


def _bounds(fact: Fact) -> dict[str, float]:
    """Return the scale of cosines, how far their logits lie apart at most, and the lowest loss."""
    scale = fact.number("low")
    return {"scale": scale, "range": 2 * scale, "lowest": fact.number("high")}


def _cosine(fact: Fact, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    return (
        say(
            "the logits of cross_entropy at {line} are cosines multiplied by {scale:.3g}, so they "
            "differ by at most {range:.3g}: with {columns} classes the loss cannot fall below "
            "{lowest:.3g}, and the weights go on being pushed when all is right",
            **_bounds(fact),
            **values,
        ),
        say("multiply the cosines by a scale, such as 16 to 64, or by one that is learned"),
        "logits = 16 * cosine",
    )


def _similarity(fact: Fact, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    return (
        say(
            "the logits of cross_entropy at {line} are cosines between samples, multiplied by "
            "{scale:.3g}, so they differ by at most {range:.3g}: with {columns} of them the loss "
            "cannot fall below {lowest:.3g}, however well samples are told apart",
            **_bounds(fact),
            **values,
        ),
        say("divide the similarities by the temperature, in place of multiplying them by it"),
        f"logits = similarity / {fact.number('low'):.3g}",
    )


def _tokens(given: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    if given == "tokens two ahead":
        return (
            say(
                "the targets of cross_entropy at {line} are the tokens two positions ahead of "
                "those that the model was given ({rows} × {columns}): they were shifted twice, and "
                "the model learns to leave out a token",
                **values,
            ),
            say(
                "shift the labels in one place only: the models of transformers do it themselves "
                "and take labels that are equal to input_ids"
            ),
            "labels = input_ids.clone()",
        )
    return (
        say(
            "the targets of cross_entropy at {line} are the tokens that the model was given, at "
            "the same positions ({rows} × {columns}), and its attention is causal: it has to copy "
            "its input, and learns nothing about the token that comes next",
            **values,
        ),
        say("compare the output at each position with the next token"),
        "loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())",
    )


def _ctc(given: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    if given.startswith("log_softmax"):
        cause = say(
            "the log-probabilities passed to ctc_loss at {line} do not sum to one over the classes "
            "(the last dimension): log_softmax was applied over another dimension",
            **values,
        )
    elif given == "logits":
        cause = say(
            "ctc_loss at {line} gets numbers that are not log-probabilities, such as the output of "
            "a layer: the loss can fall without limit if all numbers become larger",
            **values,
        )
    else:
        cause = say(
            "ctc_loss at {line} gets the output of a {input}, probabilities between 0 and 1, but "
            "it expects their logarithms: the loss is negative, and wrong answers cost almost "
            "nothing",
            **values,
        )
    return (
        cause,
        say("pass the log_softmax of the logits over the classes, the last dimension, to ctc_loss"),
        "log_probs = logits.log_softmax(2)  # time × batch × classes",
    )


def _twice(fact: Fact, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    """Describe a loss that takes logits and gets probabilities."""
    function, module = values["function"], fact.text("module")
    if fact.text("loss") == "bce":
        cause = say(
            "binary_cross_entropy at {line} gets the sigmoid of a {input}: the output of the "
            "network is squashed twice, so no probability gets close to 0 or 1",
            **values,
        )
    else:
        cause = say(
            "{function} at {line} gets the output of a {input} and applies its own on top: it "
            "expects logits, numbers of any size; with inputs between 0 and 1 the loss cannot "
            "become small, and the gradients are weak",
            **values,
        )
    if module:
        return (
            cause,
            say(
                "remove {module} from the model and apply it only where probabilities are needed",
                module=module,
            ),
            "",
        )
    excerpt = f"F.{function}(logits, target)  # logits: what the last layer gives"
    return (
        cause,
        say(
            "pass the output of the last layer to the loss, and apply the {input} only where "
            "probabilities are needed",
            **values,
        ),
        excerpt,
    )


def _nll(given: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    if given == "logits":
        cause = say(
            "nll_loss at {line} gets the output of a layer instead of log-probabilities: it uses "
            "the number at the target as it is, so the loss can fall without limit if all numbers "
            "become larger",
            **values,
        )
    else:
        cause = say(
            "nll_loss at {line} gets the output of a {input} instead of its logarithm: the loss is "
            "between -1 and 0, and wrong answers cost almost nothing",
            **values,
        )
    advice = say(
        "pass the log_softmax of the logits to nll_loss, or the logits themselves to cross_entropy"
    )
    return cause, advice, "F.cross_entropy(logits, target)"


def _kl_div(given: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    if given == "logits":
        cause = say(
            "the first argument of kl_div at {line} is the output of a layer, but it has to be "
            "log-probabilities",
            **values,
        )
    else:
        cause = say(
            "the first argument of kl_div at {line} is probabilities (the output of a softmax), "
            "but it has to be their logarithm: the result is not a divergence, and its minimum is "
            "not where the two distributions agree",
            **values,
        )
    return (
        cause,
        say(
            "use log_softmax for the first argument; the second remains probabilities, unless "
            "log_target is set"
        ),
        'F.kl_div(F.log_softmax(logits, dim=-1), target, reduction="batchmean")',
    )


def _broadcast(function: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    return (
        say(
            "prediction and target at {line} have the shapes [{rows}, 1] and [{rows}]: they are "
            "broadcast to [{rows}, {rows}], and every prediction is compared with every target, so "
            "the best the model can do is to predict the mean of all targets",
            **values,
        ),
        say(
            "bring both to the same shape before the loss, with squeeze(-1) or unsqueeze(-1) on "
            "one of them"
        ),
        f"{'F.' if values['function'] in FUNCTIONS.values() else ''}"
        f"{function}(prediction.squeeze(-1), target)",
    )


def _view(values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    return (
        say(
            "before {line}, view or reshape was used to move the class dimension, but they only "
            "change the shape and do not move any numbers: what the loss takes for the {rows} "
            "classes of one target are numbers of several targets",
            **values,
        ),
        say(
            "move the dimension with transpose or permute, or reshape so that each target is one "
            "row"
        ),
        "F.cross_entropy(logits.flatten(0, -2), target.flatten())  # classes last; or "
        "logits.movedim(-1, 1)",
    )
