"""What a loss function was given by mistake, in words: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.schema import Fact

FUNCTIONS = {
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "cross_entropy": "cross_entropy",
    "huber": "huber_loss",
    "kl_div": "kl_div",
    "l1": "l1_loss",
    "mse": "mse_loss",
    "nll": "nll_loss",
    "smooth_l1": "smooth_l1_loss",
}


def words(fact: Fact) -> tuple[Message, Message, str]:
    """Cause, advice and excerpt of a fact of kind `LOSS_INPUT`."""
    loss, given = fact.text("loss"), fact.text("input")
    function = FUNCTIONS.get(loss, loss)
    values: dict[str, str | int | float] = {
        "function": function,
        "input": given,
        "line": fact.where or "?",
        "rows": int(fact.number("rows")),
        "columns": int(fact.number("columns")),
    }
    if given == "broadcast":
        return _broadcast(function, values)
    if given == "view":
        return _view(values)
    if given.startswith("log_softmax"):
        return (
            say(
                "the log-probabilities that nll_loss gets at {line} do not add up to one over the "
                "classes (dimension 1 of "
                "{rows} × {columns}): log_softmax was taken over another dimension",
                **values,
            ),
            say("take log_softmax over the dimension of the classes"),
            "F.nll_loss(F.log_softmax(logits, dim=1), target)",
        )
    if loss == "nll":
        return _nll(given, values)
    if loss == "kl_div":
        return _kl_div(given, values)
    return _twice(fact, values)


def _twice(fact: Fact, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    """A loss that takes logits and gets probabilities."""
    function, module = values["function"], fact.text("module")
    if fact.text("loss") == "bce":
        cause = say(
            "binary_cross_entropy at {line} gets the sigmoid of a {input}: what the network gives "
            "is squeezed twice, so that no "
            "probability comes near 0 or 1",
            **values,
        )
    else:
        cause = say(
            "{function} at {line} gets the output of a {input}, and takes its own of it: it "
            "expects logits, numbers of any size; between "
            "0 and 1 the loss cannot become small and the gradients are weak",
            **values,
        )
    if module:
        return (
            cause,
            say(
                "take {module} out of the model and apply it only where probabilities are needed",
                module=module,
            ),
            "",
        )
    excerpt = f"F.{function}(logits, target)  # logits: what the last layer gives"
    return (
        cause,
        say(
            "give the loss what the last layer gives, and take the {input} only where "
            "probabilities are needed",
            **values,
        ),
        excerpt,
    )


def _nll(given: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    if given == "logits":
        cause = say(
            "nll_loss at {line} gets what a layer gives and not log-probabilities: it takes the "
            "number at the target as it is, so the loss "
            "falls without end by making all numbers larger",
            **values,
        )
    else:
        cause = say(
            "nll_loss at {line} gets the output of a {input} and not its logarithm: the loss is "
            "between -1 and 0, and wrong answers cost "
            "next to nothing",
            **values,
        )
    advice = say(
        "give nll_loss the log_softmax of the logits, or cross_entropy the logits themselves"
    )
    return cause, advice, "F.cross_entropy(logits, target)"


def _kl_div(given: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    if given == "logits":
        cause = say(
            "kl_div at {line} gets what a layer gives as its first argument, which has to be "
            "log-probabilities",
            **values,
        )
    else:
        cause = say(
            "kl_div at {line} gets probabilities (the output of a softmax) as its first argument, "
            "which has to be their logarithm: what it "
            "gives is no divergence, and its minimum is not where the two agree",
            **values,
        )
    return (
        cause,
        say(
            "take log_softmax for the first argument; the second stays probabilities, unless "
            "log_target is set"
        ),
        'F.kl_div(F.log_softmax(logits, dim=-1), target, reduction="batchmean")',
    )


def _broadcast(function: str, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    return (
        say(
            "prediction and target at {line} are of shapes [{rows}, 1] and [{rows}]: broadcast to "
            "[{rows}, {rows}], every prediction is "
            "held against every target, so that the best the model can do is to give the mean of "
            "all targets",
            **values,
        ),
        say(
            "bring both to the same shape before the loss, with squeeze(-1) or unsqueeze(-1) on "
            "one of them"
        ),
        f"F.{function}(prediction.squeeze(-1), target)",
    )


def _view(values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    return (
        say(
            "the dimension of the classes was brought to its place before {line} by view or "
            "reshape, which relabels the numbers and does "
            "not move them: what the loss takes for the {rows} classes of one target are numbers "
            "of several",
            **values,
        ),
        say("move the dimension with transpose or permute, or make one row of each target"),
        "F.cross_entropy(logits.flatten(0, -2), target.flatten())  # classes last; or "
        "logits.movedim(-1, 1)",
    )
