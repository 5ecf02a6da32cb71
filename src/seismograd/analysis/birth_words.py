"""Describe where the first non-finite number of a loss or a gradient arose: the sentence, what to
change, and the line as it should read.
"""

from __future__ import annotations

import math

from seismograd.analysis.birth_advice import advice_for
from seismograd.i18n import Message, mark, say
from seismograd.schema import BirthReason, Fact

MAX_NAMED = 8  # samples

FORWARD = {
    BirthReason.ZERO: mark(
        "{operation} got {num} {num:zero|zeros} among {numel} numbers, where it is not finite"
    ),
    BirthReason.NEGATIVE: mark(
        "{operation} got {num} negative {num:number|numbers} among {numel}, where it is not defined"
    ),
    BirthReason.OUTSIDE: mark(
        "{operation} got {num} {num:number|numbers} of {numel} at or beyond the ends of the "
        "interval where it "
        "is defined"
    ),
    BirthReason.OVERFLOW: mark(
        "{num} of the {numel} results of {operation} {num:is|are} too large for {dtype}"
    ),
    BirthReason.CANCELLED: mark(
        "{operation} got infinities that cancel each other or meet a zero, in {num} of {numel} "
        "places"
    ),
    BirthReason.MASKED: mark(
        "{operation} got rows that are masked with -inf throughout, which makes {num} of the "
        "{numel} results NaN"
    ),
    BirthReason.EMPTY: mark("{operation} averages over no elements"),
    BirthReason.NO_WEIGHT: mark(
        "every target of {operation} is ignored or has weight 0, so its mean divides by zero"
    ),
    BirthReason.ONE_SAMPLE: mark(
        "{operation} is computed over a single number and divides by zero"
    ),
    BirthReason.TOO_LONG: mark(
        "{num} of the {numel} targets of {operation} {num:is longer than its input|are longer than "
        "their inputs}, so that no alignment exists"
    ),
    BirthReason.OPERAND: mark(
        "a tensor that {operation} was given and that no layer computed, the input or a constant, "
        "holds {num} NaN or infinite {num:number|numbers} among {numel}"
    ),
    BirthReason.INPUT: mark(
        "the input of the model holds {num} NaN or infinite {num:number|numbers} among {numel}: "
        "the data is the cause"
    ),
    BirthReason.TARGET: mark(
        "the targets that {operation} was given hold {num} NaN or infinite {num:number|numbers} "
        "among {numel}: the data is the cause"
    ),
    BirthReason.WEIGHT: mark(
        "{operand} held {num} NaN or infinite {num:number|numbers} among {numel} before the first "
        "step"
    ),
    BirthReason.EPS: mark(
        "the optimizer divided by zero in the step before and wrote {num} NaN or infinite "
        "{num:number|numbers} among {numel} into {operand}: its eps is zero in {dtype}, and "
        "squared gradients are, too"
    ),
    BirthReason.UPDATE: mark(
        "the update of the step before wrote {num} NaN or infinite {num:number|numbers} among "
        "{numel} into {operand}"
    ),
    BirthReason.WRITTEN: mark(
        "{operand} holds {num} NaN or infinite {num:number|numbers} among {numel} that the "
        "optimizer cannot have written: its gradient, its state and its learning rate were finite"
    ),
    BirthReason.UNKNOWN: mark("{operation} made the first NaN or infinity out of finite numbers"),
}
# from the graph alone, which does not have the results of every operation
SEEN = mark("the first NaN or infinity that can be seen is in the result of {operation}")
BACKWARD = {
    BirthReason.ZERO: mark(
        "{operation} got {num} {num:zero|zeros} among {numel} numbers; its derivative there is "
        "infinite"
    ),
    BirthReason.OUTSIDE: mark(
        "{operation} got {num} {num:number|numbers} of {numel} at the ends of the interval where "
        "it is defined; "
        "its derivative there is infinite"
    ),
    BirthReason.OVERFLOW: mark(
        "{num} of {numel} numbers that {operation} computed, or that its backward pass did, "
        "{num:is|are} too large for {dtype}"
    ),
    BirthReason.UNKNOWN: mark(
        "the backward pass of {operation} made the first NaN or infinity out of finite numbers"
    ),
}
WITHOUT_REPLAY = {
    "changed": mark("its input was changed in place since"),
    "collective": mark("its forward pass communicates with other processes"),
    "compiled": mark("it is compiled"),
    "device": mark("its input is not on the CPU"),
    "differs": mark("its forward pass does not repeat itself"),
    "hooks": mark("it has hooks of the script's"),
    "memory": mark("its input is too large to keep"),
    "raised": mark("calling it once more raised an exception"),
    "stateful": mark("its forward pass changes what it depends on"),
}


def words(fact: Fact) -> tuple[Message, Message, str]:
    """Return what happened, advice and excerpt for a fact of kind `BIRTH`."""
    reason, phase = BirthReason(fact.text("reason")), fact.text("phase")
    template = BACKWARD.get(reason, FORWARD[reason]) if phase == "backward" else FORWARD[reason]
    if template == FORWARD[BirthReason.UNKNOWN] and fact.text("stage") != "replay":
        template = SEEN
    what = Message(
        template,
        {
            "operation": _operation(fact),
            "num": _whole(fact, "num"),
            "numel": _whole(fact, "numel"),
            "dtype": fact.text("dtype") or "?",
            "operand": fact.text("operand") or say("a weight"),
        },
    )
    advice, excerpt = advice_for(fact, reason)
    return _with_samples(fact, what), advice, excerpt


def _operation(fact: Fact) -> Message:
    """Return the operation with its line and its module, as far as they are known."""
    name, line, module = fact.text("operation"), fact.where, fact.text("module")
    if line and module:
        return say("`{name}` at {line} (in `{module}`)", name=name, line=line, module=module)
    if line:
        return say("`{name}` at {line}", name=name, line=line)
    if module:
        return say("`{name}` in `{module}`", name=name, module=module)
    return say("`{name}`", name=name)


def _with_samples(fact: Fact, what: Message) -> Message:
    why = WITHOUT_REPLAY.get(fact.text("without_replay"))
    num, batch = fact.number("num_samples"), _whole(fact, "batch")
    named = fact.text("samples").split()[:MAX_NAMED]
    if math.isfinite(num) and 0 < num < batch:
        left = int(num) - len(named)
        what = (
            say(
                "{what}: samples {samples} and {left} more of the batch of {batch}",
                what=what,
                samples=", ".join(named),
                left=left,
                batch=batch,
            )
            if left
            else say(
                "{what}: sample {sample} of the batch of {batch}",
                what=what,
                sample=named[0],
                batch=batch,
            )
            if len(named) == 1
            else say(
                "{what}: samples {samples} of the batch of {batch}",
                what=what,
                samples=", ".join(named),
                batch=batch,
            )
        )
    elif math.isfinite(num) and 1 < num == batch:
        what = say("{what}: in all {batch} samples of the batch", what=what, batch=batch)
    if why is not None:
        return say("{what} (the model was not replayed: {why})", what=what, why=Message(why))
    return what


def _whole(fact: Fact, name: str) -> int:
    number = fact.number(name)
    return int(number) if math.isfinite(number) else 0
