"""Write the statement that computes a loss as it should read."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from seismograd.parsed_source import parsed

SQUASHES = ("softmax", "sigmoid", "log_softmax", "logsigmoid")


def mended_loss(text: str, loss: str, given: str, targets: tuple[float, float] = (0, 0)) -> str:
    """Return the statement in `text` with its input mended; empty where that cannot be shown, as
    when the input is made elsewhere. `loss` and `given` are those of a fact of kind `LOSS_INPUT`,
    `targets` the smallest and the largest one.
    """
    tree = parsed(text)
    if tree is None:
        return ""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) >= 2]
    if given == "targets":
        is_done = _mapped(calls, loss, targets)
    elif given == "broadcast":
        is_done = _same_shape([call for call in calls if _takes_prediction(call)])
    elif loss == "nll":
        is_done = _log_of(calls) if given == "softmax" else _renamed(calls)
    elif loss == "kl_div":
        is_done = _log_of(calls)
    else:
        is_done = _unwrapped(calls)
    return ast.unparse(tree) if is_done else ""


def _unwrapped(calls: Sequence[ast.Call]) -> bool:
    """Take the softmax or the sigmoid off the first argument."""
    num = 0
    for call in calls:
        inner = _squashed(call.args[0])
        if inner is not None:
            call.args[0] = inner
            num += 1
    return num > 0


def _squashed(given: ast.expr) -> ast.expr | None:
    """Return what a softmax or a sigmoid is applied to."""
    if not isinstance(given, ast.Call) or not isinstance(given.func, ast.Attribute):
        return None
    if given.func.attr not in SQUASHES:
        return None
    owner = given.func.value
    is_function = ast.unparse(owner).split(".")[0] in ("torch", "F", "nn")
    return given.args[0] if is_function and given.args else None if is_function else owner


def _log_of(calls: Sequence[ast.Call]) -> bool:
    """Make a softmax in the first argument a log_softmax."""
    for call in calls:
        match call.args[0]:
            case ast.Call(func=ast.Attribute(attr="softmax") as function):
                function.attr = "log_softmax"
                return True
            case _:
                pass
    return False


def _renamed(calls: Sequence[ast.Call]) -> bool:
    """Call cross_entropy in place of nll_loss."""
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "nll_loss":
            call.func.attr = "cross_entropy"
            return True
        if isinstance(call.func, ast.Name) and call.func.id == "nll_loss":
            call.func.id = "cross_entropy"
            return True
    return False


def _mapped(calls: Sequence[ast.Call], loss: str, targets: tuple[float, float]) -> bool:
    """Map the targets to those that the loss function expects."""
    position = 2 if loss == "cosine_embedding" else 1
    mapping = "2 * x - 1"
    if loss in ("bce", "bce_with_logits"):
        known = {(-1.0, 1.0): "(x + 1) / 2", (0.0, 255.0): "x / 255"}
        if targets not in known:
            return False
        mapping = known[targets]
    calls = [call for call in calls if len(call.args) > position]
    if len(calls) != 1:
        return False
    given = calls[0].args[position]
    operand = f"({ast.unparse(given)})"  # the brackets go again where they are not needed
    calls[0].args[position] = ast.parse(mapping.replace("x", operand), mode="eval").body
    return True


def _takes_prediction(call: ast.Call) -> bool:
    return isinstance(call.args[0], ast.Name | ast.Attribute | ast.Subscript)


def _same_shape(calls: Sequence[ast.Call]) -> bool:
    """Give the target the shape of the prediction, which has as many numbers."""
    if len(calls) != 1:
        return False
    prediction, target = calls[0].args[:2]
    calls[0].args[1] = ast.Call(ast.Attribute(target, "view_as"), [prediction], [])
    return True
