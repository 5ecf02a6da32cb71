"""Faults in how gradients are accumulated over several backwards."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter

import libcst as cst

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.order import beside
from benchmarks.truth.oracle import Trace, oracle
from benchmarks.truth.training import BACKWARD, CLIP, ZERO, optimizer_of, step_of, stepped

DIVISORS = r"accumulation_steps|gradient_accumulation_steps|window|accum\w*"


def undivided(program: Program) -> Edited | None:
    """Drop the division of a program that accumulates."""
    for place in program.find(rf"loss = loss / (?:{DIVISORS})"):
        return program.edit({place.node: []})
    return None


def windowed(
    program: Program, *, condition: str, divide: int = 0, before_step: str = ""
) -> Edited | None:
    """Step only when `condition` holds of the batch's number i."""
    step = step_of(program)
    if (
        step is None
        or "closure" in step.text
        or "scaler" in step.text
        or not step.loops
        or program.find(r"loss = loss / .*")
    ):
        return None
    loop, backs = step.loops[-1], beside(program, step, BACKWARD)
    if (
        len(backs) != 1
        or backs[0].node not in step.siblings
        or step.node not in loop.body.body
        or "sum" in code(loop)
        or "tokens" in code(loop)
    ):
        return None
    if any(isinstance(n, cst.For) for n in loop.body.body) or code(loop.iter).startswith(
        ("enumerate", "zip")
    ):
        return None
    loss = re.fullmatch(r"(\w+)\.backward\(\)", backs[0].text)
    if loss is None:
        return None
    zeros = [z for z in beside(program, step, ZERO) if z.node in loop.body.body]
    clips = [c for c in beside(program, step, CLIP) if c.node in loop.body.body]
    inner = (
        [c.text for c in clips]
        + ([before_step] if before_step else [])
        + [step.text, f"{stepped(step)}.zero_grad()"]
    )
    condition = re.sub(r"\bi\b", "batch_idx", condition)
    block = f"if {condition}:\n" + "".join(f"    {line}\n" for line in inner)
    backward = f"({loss[1]} / {divide}).backward()" if divide else backs[0].text
    edited = program.edit(
        {
            **{p.node: [] for p in (*zeros, *clips)},
            backs[0].node: [backward] if divide else [backs[0].node],
            step.node: [block],
            loop.target: f"batch_idx, {code(loop.target)}"
            if not isinstance(loop.target, cst.Tuple)
            else f"batch_idx, ({code(loop.target).strip('()')})",
            loop.iter: f"enumerate({code(loop.iter)})",
        }
    )
    return edited


def not_divided(program: Program) -> Edited | None:
    return undivided(program) or windowed(program, condition="i % 4 == 3")


def summed(m: Trace, b: Trace) -> bool:
    windows = m.windows()
    usual = Counter(windows).most_common(1)[0][0] if windows else 0
    same_loss = abs(m.losses[0] - b.losses[0]) < 0.02 * abs(b.losses[0])
    # A base that divides begins with a loss that is smaller by the window's length.
    whole = any(abs(m.losses[0] - k * b.losses[0]) < 0.02 * m.losses[0] for k in (2, 3, 4, 8))
    return usual >= 2 and len(windows) >= 10 and (same_loss or whole)


def partial(program: Program) -> Edited | None:
    return windowed(program, condition="(i + 1) % 7 == 0", divide=7)


def leftover(m: Trace, b: Trace) -> bool:
    """What is left of an epoch gets into the first window of the next one, which is longer than
    the others; a shorter window is the remainder's own, as it should be.
    """
    windows = Counter(m.windows())
    if not windows:
        return False
    usual, _ = windows.most_common(1)[0]
    longer = sum(count for length, count in windows.items() if length > usual)
    return usual == 7 and longer >= 2 and longer / len(m.windows()) < 0.5


def uneven(program: Program) -> Edited | None:
    return windowed(program, condition="(i + 1) % 2 == 0 or (i + 1) % 3 == 0", divide=2)


def mixed(m: Trace, b: Trace) -> bool:
    windows = m.windows()
    kinds = [k for k, n in Counter(windows).items() if n / len(windows) > 0.2] if windows else []
    return len(windows) >= 20 and len(kinds) >= 2


def token_means(program: Program) -> Edited | None:
    """Average each micro-batch over its own tokens, and the micro-batches as if they were alike."""
    for place in program.find(r"loss = .*reduction=\"sum\"\) / num_tokens"):
        text = place.text.replace(', reduction="sum") / num_tokens', ") / len(window)")
        return program.edit({place.node: [text]})
    for place in program.find(r"loss = criterion\(.*\) / tokens"):
        text = place.text.replace("/ tokens", "/ 4")
        sums = program.find(r"criterion = .*reduction=\"sum\"\)")
        return (
            program.edit(
                {place.node: [text], sums[0].node: [sums[0].text.replace(', reduction="sum"', "")]}
            )
            if sums
            else None
        )
    return None


def unequal_tokens(m: Trace, b: Trace) -> bool:
    counts = [math.prod(loss["y"]) * loss["valid"] for loss in m.of("loss")]
    windows = set(m.windows())
    if len(counts) < 40 or len(windows) != 1:
        return False
    size = windows.pop()
    starts = range(0, len(counts) - size + 1, size)
    ratios = [max(counts[k : k + size]) / max(min(counts[k : k + size]), 1) for k in starts]
    return statistics.median(ratios) > 2 and m.losses != b.losses


def rescaled(program: Program) -> Edited | None:
    made = optimizer_of(program)
    if not made:
        return None
    mend = f"for p in {made[3]}.parameters():\n    p.grad /= 4"
    if program.find(rf"loss = loss / (?:{DIVISORS})"):
        step = step_of(program)
        return program.edit({step.node: [mend, step.node]})
    step = step_of(program)
    if step is None or stepped(step) != made[2]:
        return None
    return windowed(
        program, condition="i % 4 == 3", divide=4, before_step=mend.replace("\n", "\n    ")
    )


def rescaled_twice(m: Trace, b: Trace) -> bool:
    """At the first step the gradients are smaller than the losses of their window say."""
    windows = m.windows()
    native = b.windows()[:1] == [4]
    if len(windows) < 8 or windows[0] != 4:
        return False
    return (
        m.grad_norms[0] < 0.3 * b.grad_norms[0]
        if native
        else m.grad_norms[0] < 0.4 * b.grad_norms[0]
    )


WINDOWS = (
    mutator(
        "accumulation not divided",
        "accumulation_not_scaled",
        "accumulation-not-scaled",
        not_divided,
        oracle(summed),
        near=r"\.backward\(",
        advice=r"/ ?\w+|divide",
    ),
    mutator(
        "last window left over",
        "partial_window_dropped",
        "partial-window",
        partial,
        oracle(leftover),
        near=r"\.step\(|\.backward\(",
    ),
    mutator(
        "windows of two and one",
        "uneven_windows",
        "uneven-windows",
        uneven,
        oracle(mixed),
        near=r"\.step\(|\.backward\(",
        mends=False,
    ),
    mutator(
        "means of unequal token counts",
        "token_weighted_accumulation",
        "uneven-accumulation",
        token_means,
        oracle(unequal_tokens),
        near=r"\.backward\(",
        advice=r"sum|token|number",
        mends=False,
    ),
    mutator(
        "divided twice",
        "inplace_grad_scaled",
        "gradient-rescaled",
        rescaled,
        oracle(rescaled_twice),
        near=r"\.grad|\.step\(|\.backward\(",
    ),
)
