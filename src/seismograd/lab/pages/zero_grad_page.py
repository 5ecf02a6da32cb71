"""The page of the experiment zero-grad."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from seismograd.i18n import say
from seismograd.lab.lab_page import (
    Block,
    Chart,
    ChartSeries,
    CodeBlock,
    Heading,
    Page,
    PageTable,
    Paragraph,
    number,
)
from seismograd.lab.measurements.zero_grad_experiment import (
    EPOCH,
    REPEATS,
    STEPS,
    TRACED,
    WIDE,
    ZeroGradResult,
)

VERBS = """loss.backward()          # .grad += the gradient
clip_grad_norm_(...)     # .grad *= a factor up to 1   (if you clip)
optimizer.step()         # weight -= lr * .grad        (SGD)
optimizer.zero_grad()    # .grad = None"""
SMOOTHED = 10  # steps


def describe(found: ZeroGradResult) -> Page:
    """Return the page that describes the results."""
    return Page(
        say("zero_grad: why gradients are cleared, and where"),
        (
            *_sum(found),
            *_verbs(found),
            *_places(found),
            *_set_to_none(found),
        ),
        say(
            "backward() adds, step() uses, zero_grad() clears: once for each step, before the "
            "first backward or after the step."
        ),
        (
            (
                say("Find it in a training run without changing the script:"),
                "seismograd run train.py",
            ),
            (
                say("How the rules recognise gradients that are not cleared:"),
                "seismograd explain SG301",
            ),
        ),
    )


def _sum(found: ZeroGradResult) -> tuple[Block, ...]:
    return (
        Paragraph(
            say(
                "backward() adds to .grad and does not overwrite it. This allows several "
                "micro-batches, or several losses, to make up one step. But step() cannot know "
                "when the sum is complete, so you have to clear the gradients yourself. "
                "Without clearing, the third gradient is the sum of all three (error "
                "{error:.0e}).",
                error=found.sum_error,
            )
        ),
    )


def _verbs(found: ZeroGradResult) -> tuple[Block, ...]:
    index = str(list(TRACED))
    return (
        Heading(say("Three verbs, and where clipping goes")),
        CodeBlock(VERBS),
        PageTable(
            (say("call"), f"fc2.weight.grad{index}", f"fc2.weight{index}"),
            [
                (
                    each.call,
                    "None" if each.gradient is None else f"{each.gradient:.6f}",
                    f"{each.weight:.6f}",
                )
                for each in found.trace
            ],
        ),
        Paragraph(
            say(
                "One step of two micro-batches, and what each call leaves in one scalar: the "
                "second backward adds to the first, clipping multiplies what has been summed, "
                "step changes the weight and leaves .grad alone, zero_grad drops it. Because "
                "they are three calls, something can be done between them."
            )
        ),
    )


def _places(found: ZeroGradResult) -> tuple[Block, ...]:
    trainings = (
        (say("before backward (correct)"), found.right),
        (say("at the start of each epoch"), found.each_epoch),
        (say("never"), found.missing),
        (say("between backward and step"), found.misplaced),
    )
    steps = list(range(STEPS))
    return (
        Heading(say("Once for each step")),
        PageTable(
            (
                say("zero_grad"),
                say("loss, first step"),
                say("loss, step {step}", step=STEPS - 1),
                say("norm, first step"),
                say("norm, step {step}", step=STEPS - 1),
                say("change of the weights"),
            ),
            [
                (
                    name,
                    *(
                        number(x)
                        for x in (t.losses[0], t.losses[-1], t.norms[0], t.norms[-1], t.moved)
                    ),
                )
                for name, t in trainings
            ],
        ),
        Chart(
            say("Loss, mean over {count} steps", count=SMOOTHED),
            say("step"),
            [
                ChartSeries(name, steps[SMOOTHED - 1 :], _smoothed(t.losses))
                for name, t in trainings
            ],
        ),
        Paragraph(
            say(
                "Clearing belongs to each step, not to each epoch: until it is cleared, every "
                "old gradient stays in the sum, and the updates follow directions that are "
                "out of date. At first that is even faster, like a momentum that forgets "
                "nothing; then the loss goes up and down and stays high: {epoch:.2f} in the "
                "last {count} steps when cleared once in {length} steps, {never:.2f} when "
                "never, {right:.2f} when right. The norm grows to {norm:.3g}, while it is "
                "{normal:.3g} with clearing. If gradients are cleared between backward and "
                "step, step() has nothing to apply: the weights moved by {moved:g}. PyTorch "
                "reports an error in none of these cases.",
                epoch=_smoothed(found.each_epoch.losses)[-1],
                never=_smoothed(found.missing.losses)[-1],
                right=_smoothed(found.right.losses)[-1],
                count=SMOOTHED,
                length=EPOCH,
                norm=found.missing.norms[-1],
                normal=found.right.norms[-1],
                moved=found.misplaced.moved,
            )
        ),
    )


def _set_to_none(found: ZeroGradResult) -> tuple[Block, ...]:
    return (
        Heading(say("zero_grad(set_to_none=True) or False")),
        PageTable(
            (
                "zero_grad(set_to_none=…)",
                say("time"),
                say("next backward"),
                say("bytes in .grad in between"),
            ),
            [
                (
                    name,
                    f"{c.zero_grad_s * 1e6:,.0f} µs",
                    f"{c.backward_s * 1e6:,.0f} µs",
                    f"{c.held:,}",
                )
                for name, c in (("True", found.to_none), ("False", found.to_zero))
            ],
        ),
        Paragraph(
            say(
                "set_to_none=True drops the tensors; False fills them with zeros, to which the "
                "next backward adds (medians of {repeats} repetitions on this machine, with "
                "two layers of width {wide}). In torch {version}, which ran this experiment, "
                "the default is {default}; it has been True since 2.0, so plain zero_grad() "
                "drops the tensors. Afterwards .grad is None, not zero: an optimizer skips "
                "such a parameter, while with zeros it would still apply momentum and weight "
                "decay.",
                repeats=REPEATS,
                wide=WIDE,
                version=found.torch_version,
                default=str(found.default),
            )
        ),
    )


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return the mean over `SMOOTHED` steps, from the first step that has so many."""
    return [
        statistics.fmean(losses[end - SMOOTHED : end]) for end in range(SMOOTHED, len(losses) + 1)
    ]
