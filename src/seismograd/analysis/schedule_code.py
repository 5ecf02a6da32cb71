"""Write the line of code that mends a schedule, in the names that the script uses."""

from __future__ import annotations

from seismograd.schema import Fact


def in_the_right_order(fact: Fact) -> str:
    """Return the step of the optimizer and that of the scheduler after it; empty where the script
    calls a framework instead.
    """
    step, text = fact.text("step_text"), fact.text("text")
    return f"{step}\n{text}" if step and text else ""


def once_per_epoch(fact: Fact) -> str:
    """Return the step of the scheduler where it belongs."""
    text = fact.text("text")
    return f"{text}  # once per epoch, after the loop over the batches" if text else ""


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
