"""What to change where the first non-finite number arose: the mend for the operation, and the
script's own line as it should read where that can be shown.
"""

from __future__ import annotations

from seismograd.analysis.mended_line import mended_line
from seismograd.i18n import Message, say
from seismograd.schema import BirthReason, Fact

HALF = ("float16", "bfloat16")
GROWING = ("exp", "exp2", "expm1", "sinh", "cosh", "**")
SIGMOIDS = {  # what made the operand of a logarithm: the mend
    "sigmoid": "log_p = F.logsigmoid(logits)",
    "rsub sigmoid": "log_1_minus_p = F.logsigmoid(-logits)",
}
FINITE_WEIGHTS = "assert all(torch.isfinite(p).all() for p in model.parameters())"
FINITE_INPUT = "assert torch.isfinite(x).all()"
FINITE_MASK = "scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)"


def advice_for(fact: Fact, reason: BirthReason) -> tuple[Message, str]:
    """Return advice and excerpt."""
    operation, phase = fact.text("operation"), fact.text("phase")
    advice, excerpt = _general(fact, reason, operation, phase)
    mended = mended_line(
        fact.text("text"), operation, reason, phase, fact.text("dtype"), fact.text("logits")
    )
    return advice, mended or excerpt


def _general(fact: Fact, reason: BirthReason, operation: str, phase: str) -> tuple[Message, str]:
    if reason in (BirthReason.ZERO, BirthReason.NEGATIVE, BirthReason.OUTSIDE):
        made_by = f"{fact.text('made_by')} "
        for maker, excerpt in SIGMOIDS.items():
            if operation == "log" and made_by.startswith(f"{maker} "):
                return _log_of_sigmoid(excerpt)
        return _out_of_domain(reason, operation, phase)
    if reason is BirthReason.OVERFLOW:
        return _overflow(fact, operation)
    return _DATA[reason]


def _log_of_sigmoid(excerpt: str) -> tuple[Message, str]:
    return (
        say(
            "a sigmoid rounds to 0 and 1: compute its logarithm from the logits, with logsigmoid; "
            "the logarithm of 1 - sigmoid(x) is logsigmoid(-x)"
        ),
        excerpt,
    )


def _out_of_domain(reason: BirthReason, operation: str, phase: str) -> tuple[Message, str]:
    """Return how to keep the operand where the operation is defined."""
    if reason is BirthReason.OUTSIDE:
        return (
            say("clamp its input to a little inside of the interval where it is defined"),
            f"x.clamp(-1 + 1e-6, 1 - 1e-6).{operation}()",
        )
    if operation in ("log", "log2", "log10", "xlogy"):
        return (
            say(
                "clamp the input of the logarithm; for a probability compute its logarithm from "
                "the logits, with log_softmax or logsigmoid"
            ),
            "log_p = F.log_softmax(logits, dim=-1)",
        )
    if operation == "/":
        return (
            say(
                "keep the divisor away from zero: clamp it, or leave out the term in batches where "
                "it is zero"
            ),
            "mean = total / count.clamp(min=1)",
        )
    if phase == "backward":
        return (
            say(
                "add a small number to its input, under the root; where torch.where hides the "
                "result, hide the input instead, because the derivative is computed all the same"
            ),
            "torch.sqrt(torch.where(x > 0, x, 1.0))"
            if operation == "sqrt"
            else "norm = (x.pow(2).sum(-1) + 1e-8).sqrt()",
        )
    return (
        say("keep its input where it is defined, with clamp, and find out why it left that range"),
        f"x.clamp_min(1e-8).{operation}()" if operation.isidentifier() else "x.clamp_min(1e-8)",
    )


def _overflow(fact: Fact, operation: str) -> tuple[Message, str]:
    dtype = fact.text("dtype")
    if operation in GROWING and dtype not in HALF:
        return (
            say(
                "subtract the largest exponent first, as logsumexp and softmax do, or clamp the "
                "exponent; if it grew from step to step, lower the learning rate"
            ),
            "x.clamp(max=80).exp()" if operation != "**" else "",
        )
    if dtype in HALF:
        return (
            say(
                "compute this operation in float32, or use bfloat16, which has the range of "
                "float32; {dtype} ends at {largest}",
                dtype=dtype,
                largest="65504" if dtype == "float16" else "3.4e38",
            ),
            'with torch.autocast("cuda", enabled=False):\n    scores = q.float() @ k.float().mT',
        )
    return (
        say(
            "numbers of this size come from weights or activations that grew in the steps before: "
            "lower the learning rate, clip the gradients, or normalise the activations"
        ),
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
    )


_DATA: dict[BirthReason, tuple[Message, str]] = {
    BirthReason.CANCELLED: (
        say("look for what made the infinities: an overflow, or a mask of -inf in place of zeros"),
        FINITE_MASK,
    ),
    BirthReason.MASKED: (
        say(
            "mask with the smallest finite number of the dtype in place of -inf, or leave out rows "
            "in which nothing can be attended to"
        ),
        FINITE_MASK,
    ),
    BirthReason.EMPTY: (
        say("leave the term out where there is nothing to average, or divide by at least one"),
        "loss = total / max(count, 1)",
    ),
    BirthReason.NO_WEIGHT: (
        say("divide the sum by at least one, or leave out batches without a target"),
        'loss = F.cross_entropy(logits, target, reduction="sum") / '
        "(target != -100).sum().clamp(min=1)",
    ),
    BirthReason.ONE_SAMPLE: (
        say(
            "use correction=0, which divides by the number itself, or leave out batches of one "
            "sample (drop_last=True)"
        ),
        "x.std(0, correction=0)",
    ),
    BirthReason.TOO_LONG: (
        say(
            "check both lengths: the input needs one position per label, and one more between "
            "equal labels; leave such samples out, or let zero_infinity=True do so"
        ),
        "loss = F.ctc_loss(log_probs, targets, input_lengths, target_lengths, zero_infinity=True)",
    ),
    BirthReason.OPERAND: (
        say(
            "check the input batch and the constants that enter there: a missing value, a division "
            "by a standard deviation of zero, an overflow in the preprocessing"
        ),
        FINITE_INPUT,
    ),
    BirthReason.INPUT: (
        say(
            "check these samples and where they came from: a missing value, a division by a "
            "standard deviation of zero, an overflow in the preprocessing; remove or fix them"
        ),
        FINITE_INPUT,
    ),
    BirthReason.TARGET: (
        say("check the targets of these samples and where they came from; remove or fix them"),
        "assert torch.isfinite(target).all()",
    ),
    BirthReason.WEIGHT: (
        say("check what wrote the weights: a checkpoint, or the initialisation"),
        FINITE_WEIGHTS,
    ),
    BirthReason.EPS: (
        say(
            "give the optimizer an eps that its weights' dtype can hold, or keep the weights in "
            "float32 and use autocast"
        ),
        "optimizer = torch.optim.Adam(model.parameters(), eps=1e-4)",
    ),
    BirthReason.UPDATE: (
        say("lower the learning rate, or clip the gradients; check what the schedule set it to"),
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
    ),
    BirthReason.WRITTEN: (
        say(
            "look for code that writes weights after the step: a loaded checkpoint, an average of "
            "weights, a weight clip, a reset"
        ),
        FINITE_WEIGHTS,
    ),
    BirthReason.UNKNOWN: (
        say("look at what this operation was given, in the samples named"),
        "torch.autograd.set_detect_anomaly(True)",
    ),
}
