"""Faults that give NaN or infinity."""

from __future__ import annotations

import math
import re

from benchmarks.truth.edit import Edited, Place, Program, code
from benchmarks.truth.frameworks import returned_losses
from benchmarks.truth.mutator import Mutator, mutator
from benchmarks.truth.oracle import Trace, oracle
from benchmarks.truth.training import BACKWARD

FUNCTIONS = "cross_entropy|nll_loss|mse_loss|smooth_l1_loss|binary_cross_entropy"
LOSS_CALL = rf"(?:F\.)?(?:{FUNCTIONS})|(?:self\.)?(?:criterion|loss_fn|mse|cross_entropy)"
LOSS_NAME = r"(?:^|scale\()(\w+)\)?\.backward\((?!\w+\))|backward\((\w+)\)|^return (?:.* )?(\w+)$"


def loss_place(program: Program) -> tuple[Place, str, str] | None:
    """Return where the loss is computed last, its name, and the text of the prediction."""
    backs = program.find(BACKWARD) + returned_losses(program)
    for back in reversed(backs):
        name = re.search(LOSS_NAME, back.text)
        loss = next(filter(None, name.groups())) if name else ""
        for place in reversed(program.find(rf"{loss} = .*") if loss else []):
            calls = program.calls(LOSS_CALL, place.node)
            if calls and place.function == back.function and place.siblings and calls[0].args:
                out = code(calls[0].args[0].value)
                if re.fullmatch(r"\w+(\[\w+\])?", out):
                    return place, loss, out
    return None


def penalty(program: Program, term: str) -> Edited | None:
    """Add a term with OUT in it to the loss."""
    found = loss_place(program)
    if not found:
        return None
    place, loss, out = found
    return program.edit(
        {place.node: [place.node, f"{loss} = {loss} + 0.001 * {term.replace('OUT', out)}"]}
    )


def bad_batch(program: Program) -> Edited | None:
    """Divide by a count that is zero for a batch without positives."""
    found = loss_place(program)
    if not found:
        return None
    place, loss, out = found
    lines = [
        f"weight = ({out}.detach() > 50.0).float()",
        f"{loss} = {loss} + ({out} * weight).sum() / weight.sum()",
    ]
    return program.edit({place.node: [place.node, *lines]})


def overflow_fp16(program: Program) -> Edited | None:
    """Square large numbers in float16."""
    if "float16" not in program.source or "bfloat16" in program.source:
        return None
    found = loss_place(program)
    if not found:
        return None
    place, loss, out = found
    return program.edit(
        {
            place.node: [
                place.node,
                f"{loss} = {loss} + 0.001 * (({out}.half() * 4000.0) ** 2).mean().float()",
            ]
        }
    )


def became_nonfinite(m: Trace, b: Trace) -> bool:
    bad = [not math.isfinite(g) for g in m.grad_norms] + [not math.isfinite(x) for x in m.losses]
    # A scaler skips the steps whose gradients are not finite, so no step shows them.
    skipped = bool(m.of("scaler")) and len(m.of("step")) < len(b.of("step")) // 2
    return b.finite and (sum(bad) >= 3 or skipped)


def fp16_became_nonfinite(m: Trace, b: Trace) -> bool:
    return any(not math.isfinite(x) for x in m.losses) or len(m.of("step")) < len(b.of("step")) // 2


def _kind(name: str, term: str, advice: str) -> Mutator:
    return mutator(
        name,
        "nonfinite",
        "nonfinite-gradient nonfinite-loss",
        lambda p: penalty(p, term),
        oracle(became_nonfinite),
        advice=advice,
    )


NONFINITE = (
    _kind("logarithm of zero", "torch.log(torch.relu(OUT)).mean()", r"log|eps|clamp"),
    _kind(
        "gradient of the square root of zero",
        "torch.sqrt(OUT * (OUT > 0)).mean()",
        r"sqrt|eps|clamp",
    ),
    _kind(
        "zero by zero",
        "(torch.relu(OUT) / torch.relu(OUT)).mean()",
        r"div|eps|zero|clamp|denominator",
    ),
    _kind(
        # Not the logarithm: its backward divides zero by a number, which stays zero.
        "mask after the square root",
        "torch.where(OUT > 0, torch.sqrt(OUT), torch.zeros_like(OUT)).mean()",
        r"where|sqrt|mask",
    ),
    _kind(
        "arc cosine of one",
        "torch.acos(torch.cosine_similarity(OUT, OUT.detach(), dim=0).clamp(-1, 1)).mean()",
        r"acos|clamp",
    ),
    _kind("power below one of zero", "(OUT * (OUT > 0)).pow(0.3).mean()", r"pow|eps|clamp"),
    _kind(
        "deviation of one sample",
        "OUT[:1].std(dim=0).mean()",
        r"std|unbiased|correction|var|sample",
    ),
    _kind("exponential too large", "torch.exp(OUT.abs() * 500 + 60).mean()", r"exp"),
    mutator(
        "mean over an empty mask",
        "nonfinite",
        "nonfinite-gradient nonfinite-loss",
        bad_batch,
        oracle(became_nonfinite),
        advice=r"div|zero|clamp|mask|denominator",
    ),
    mutator(
        "overflow in float16",
        "nonfinite",
        "nonfinite-gradient nonfinite-loss skipped-steps",
        overflow_fp16,
        oracle(fp16_became_nonfinite),
    ),
)
