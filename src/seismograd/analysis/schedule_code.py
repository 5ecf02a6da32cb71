"""Write the line of code that mends a schedule, in the names that the script uses."""

from __future__ import annotations

import ast
import re

from seismograd.parsed_source import parsed
from seismograd.schema import Fact

# the function in the statement that creates a LambdaLR, where it has a name
FUNCTION = re.compile(r"(lr_lambda\s*=\s*|LambdaLR\(\s*[\w.]+\s*,\s*)([A-Za-z_][\w.]*)(?=\s*[,)])")

# of what may raise a rate: the argument that does, and its position
RAISING = {
    "LambdaLR": ("lr_lambda", 1),
    "MultiplicativeLR": ("lr_lambda", 1),
    "ExponentialLR": ("gamma", 1),
    "StepLR": ("gamma", 2),
    "MultiStepLR": ("gamma", 2),
}

# how often a framework steps it
PER_STEP = re.compile(r"""(["']interval["']\s*:\s*["'])step(["'])""")
PER_EPOCH = re.compile(PER_STEP.pattern.replace("step", "epoch"))


def in_the_right_order(fact: Fact) -> str:
    """Return the step of the optimizer and that of the scheduler after it; empty where the script
    calls a framework instead.
    """
    step, text = fact.text("step_text"), fact.text("text")
    return f"{step}\n{text}" if step and text else ""


def once_per_epoch(fact: Fact) -> str:
    """Return the step of the scheduler where it belongs."""
    text, interval = fact.text("text"), fact.text("interval")
    if not text and interval:
        changed = PER_STEP.sub(r"\g<1>epoch\g<2>", interval, count=1)
        return changed if changed != interval else ""
    return f"{text}  # once per epoch, after the loop over the batches" if text else ""


def place_of(fact: Fact, code: str) -> str:
    """Return the line that the code of `once_per_epoch` is for; empty: that of the call."""
    return fact.text("interval_at") if PER_EPOCH.search(code) else ""


def without_its_state(fact: Fact) -> str:
    """Return what to leave out of a script that loads the state of a scheduler."""
    name = fact.text("text").partition(".step(")[0]
    return f"# {name}.load_state_dict(…)" if name else ""


def as_factor(fact: Fact) -> str:
    """Return how a LambdaLR is created whose function returns a learning rate; empty where the
    statement does not show the function.
    """
    text, base = fact.text("creation"), fact.number("base")
    changed = FUNCTION.sub(rf"\g<1>lambda step: \g<2>(step) / {base:g}", text, count=1)
    if changed != text:
        return changed
    tree = parsed(text)
    divided = tree is not None and any(_divide(node, base) for node in ast.walk(tree))
    return ast.unparse(tree) if tree is not None and divided else ""


def _divide(node: ast.AST, base: float) -> bool:
    """Divide what the function of a LambdaLR returns, where this is the call that creates one;
    return whether it is.
    """
    match node:
        case ast.Call(func=ast.Name(id="LambdaLR") | ast.Attribute(attr="LambdaLR")):
            named = [each for each in node.keywords if each.arg == "lr_lambda"]
        case _:
            return False
    function = named[0].value if named else node.args[1] if len(node.args) > 1 else None
    match function:
        case ast.Lambda():
            function.body = ast.BinOp(function.body, ast.Div(), ast.Constant(base))
            return True
        case ast.Call():
            wrapped = ast.parse(f"lambda step, rate={ast.unparse(function)}: rate(step) / {base:g}")
            (expression,) = wrapped.body
            assert isinstance(expression, ast.Expr)
            if named:
                named[0].value = expression.value
            else:
                node.args[1] = expression.value
            return True
        case _:
            return False


def fitted(fact: Fact) -> str:
    """Return how the scheduler is created for as many calls as it gets; empty where that is not
    known of its class.
    """
    kind, calls = fact.text("scheduler"), int(fact.number("calls"))
    name = fact.text("name") or "optimizer"
    settings = {
        "CosineAnnealingLR": f"T_max={calls}",
        "OneCycleLR": f"total_steps={calls}",
        "LinearLR": f"total_iters={calls}",
        "PolynomialLR": f"total_iters={calls}",
        "MultiStepLR": f"milestones=[{calls // 2}, {3 * calls // 4}], gamma=0.1",
        "StepLR": f"step_size={max(1, -(-calls // 3))}, gamma=0.1",
        "ExponentialLR": f"gamma={0.01 ** (1 / calls):.3g}" if calls else "",
    }
    return f"{kind}({name}, {settings[kind]})" if settings.get(kind) else ""


def limited(fact: Fact) -> str:
    """Return how a schedule is created that does not raise the rate above that of the optimizer;
    empty where the statement does not show what raises it.
    """
    tree, calls = parsed(fact.text("creation")), max(1.0, fact.number("calls"))
    if tree is None or not any(_limit(node, calls) for node in list(ast.walk(tree))):
        return ""
    return ast.unparse(tree)


def _limit(node: ast.AST, calls: float) -> bool:
    """Limit the factor, or invert the gamma, where this is the call that creates a scheduler;
    return whether it is. An ExponentialLR falls no further than to a hundredth in so many calls.
    """
    match node:
        case ast.Call(func=ast.Name(id=kind) | ast.Attribute(attr=kind)) if kind in RAISING:
            name, position = RAISING[kind]
        case _:
            return False
    named = next((each for each in node.keywords if each.arg == name), None)
    if named is None and len(node.args) <= position:
        return False
    given = node.args[position] if named is None else named.value
    match given:
        case ast.Lambda(body=ast.Call(func=ast.Name(id="min"))):
            return False
        case ast.Lambda():
            given.body = _expression(f"min(1.0, {ast.unparse(given.body)})")
            return True
        case ast.Name() | ast.Attribute() if name == "lr_lambda":
            changed = _expression(f"lambda step: min(1.0, {ast.unparse(given)}(step))")
        case ast.Constant(value=int() | float() as gamma) if name == "gamma" and gamma > 1:
            least = 0.01 ** (1 / calls) if kind == "ExponentialLR" else 0.0
            changed = _expression(f"{max(1 / gamma, least):.3g}")
        case _:
            return False
    if named is None:
        node.args[position] = changed
    else:
        named.value = changed
    return True


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
