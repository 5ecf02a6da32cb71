"""The page of the experiment clipping."""

from __future__ import annotations

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
from seismograd.lab.measurements.clipping_experiment import (
    BAD_SCALE,
    BAD_STEP,
    MAX_NORM,
    STEPS,
    ClippingResult,
)

FORMULA = """total_norm = sqrt(sum of g² over all scalars of all parameters)
factor = min(1, max_norm / (total_norm + 1e-6))
g = factor * g    # every scalar, of every parameter"""
LOOP = """optimizer.zero_grad()
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
optimizer.step()"""


def describe(found: ClippingResult) -> Page:
    """Return the page that describes the results."""
    return Page(
        say("Clipping: one factor for all scalars"),
        (
            *_formula(found),
            *_direction(found),
            *_bad_batch(found),
            *_place(),
        ),
        say(
            "Clipping by norm shortens the gradient and keeps its direction; it belongs between "
            "backward() and step()."
        ),
        (
            (
                say("See which steps of your run were clipped, and by how much:"),
                "seismograd run train.py\nseismograd view",
            ),
            (
                say("How a clip that shortens every step is found:"),
                "seismograd explain SG501",
            ),
        ),
    )


def _formula(found: ClippingResult) -> tuple[Block, ...]:
    return (
        Heading(say("What clip_grad_norm_ does")),
        CodeBlock(FORMULA),
        Paragraph(
            say(
                "The gradient of the small network has a norm of {norm:.4f}. Clipped to "
                "{max_norm:.4f}, every one of its scalars was multiplied by {factor:.4f} (no "
                "scalar's own factor differs from it by more than {spread:.0e}). If the norm "
                "is below max_norm, the factor is 1 and nothing changes.",
                norm=found.norm,
                max_norm=found.max_norm,
                factor=found.factor,
                spread=found.factor_spread,
            )
        ),
    )


def _direction(found: ClippingResult) -> tuple[Block, ...]:
    return (
        Heading(say("By norm or by value")),
        Paragraph(
            say(
                "clip_grad_value_ cuts each scalar by itself, here at {value:.2g}, which "
                "leaves the same norm. By norm the direction is kept: the cosine between the "
                "gradient before and after is {by_norm:.4f}. By value the large scalars are "
                "cut and the small ones are not, so the direction changes: the cosine is "
                "{by_value:.4f}.",
                value=found.max_value,
                by_norm=found.by_norm.cosine,
                by_value=found.by_value.cosine,
            )
        ),
        PageTable(
            (
                say("scalar"),
                say("before"),
                say("by norm"),
                say("factor"),
                say("by value"),
                say("factor"),
            ),
            [
                (
                    s.name,
                    f"{s.before:.6f}",
                    f"{s.by_norm:.6f}",
                    f"{s.by_norm / s.before:.3f}",
                    f"{s.by_value:.6f}",
                    f"{s.by_value / s.before:.3f}",
                )
                for s in found.scalars
            ],
        ),
    )


def _bad_batch(found: ClippingResult) -> tuple[Block, ...]:
    trainings = (
        (say("no clipping"), found.unclipped),
        (say("clipped between backward and step"), found.clipped),
        (say("clipped after step"), found.clipped_late),
    )
    steps = list(range(STEPS))
    touched = sum(factor < 1 - 1e-3 for factor in found.clipped.factors)
    return (
        Heading(say("One bad batch")),
        Paragraph(
            say(
                "The small network is trained with SGD; the images of step {step} were not "
                "divided by {scale:g}, as happens with one corrupt file. The gradient of that "
                "batch has a norm of {norm:.0f}; usual is about {usual:.1f}. Without clipping "
                "the next loss is {wild:.0f}. With max_norm={max_norm:g} the bad gradient was "
                "multiplied by {factor:.4f}, and the next loss is {calm:.2f}. Of {steps} "
                "steps, {touched} were clipped.",
                step=BAD_STEP,
                scale=BAD_SCALE,
                norm=found.clipped.norms[BAD_STEP],
                usual=sorted(found.clipped.norms)[STEPS // 2],
                wild=found.unclipped.losses[BAD_STEP + 1],
                max_norm=MAX_NORM,
                factor=found.clipped.factors[BAD_STEP],
                calm=found.clipped.losses[BAD_STEP + 1],
                steps=STEPS,
                touched=touched,
            )
        ),
        Chart(
            say("Loss by step"),
            say("step"),
            # What was clipped too late lies exactly on what was not clipped.
            [ChartSeries(name, steps, t.losses) for name, t in trainings[:2]],
            log=True,
        ),
        PageTable(
            (
                say("clipping"),
                say("loss, step {step}", step=BAD_STEP - 1),
                say("loss, step {step}", step=BAD_STEP),
                say("loss, step {step}", step=BAD_STEP + 1),
                say("loss, step {step}", step=STEPS - 1),
            ),
            [
                (
                    name,
                    *(
                        number(t.losses[k], 3)
                        for k in (BAD_STEP - 1, BAD_STEP, BAD_STEP + 1, STEPS - 1)
                    ),
                )
                for name, t in trainings
            ],
        ),
    )


def _place() -> tuple[Block, ...]:
    return (
        Heading(say("Where it belongs")),
        Paragraph(
            say(
                "Between backward, which makes the gradient, and step, which uses it. After "
                "step it is too late: the losses are the same as without clipping, number by "
                "number. With a GradScaler, call scaler.unscale_(optimizer) first; with "
                "accumulation, clip once before the step, not at each backward."
            )
        ),
        CodeBlock(LOOP),
        Paragraph(
            say(
                "Clipping limits how far one step can go. It does not make a gradient that "
                "vanishes any larger, and a layer that has too large a share of the norm "
                "keeps it, since all are multiplied by one factor."
            )
        ),
    )
