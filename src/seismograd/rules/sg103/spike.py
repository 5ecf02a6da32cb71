"""Describe a step with a gradient far larger than all others."""

from __future__ import annotations

import math

from seismograd.analysis.block_rows import flagged, iteration_at, largest_parameters, site_of
from seismograd.analysis.spike_track import SpikeBaseline
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, RowBatch, StepFlag


def spike_finding(
    rule: Rule, block: RowBatch, row: int, usual: SpikeBaseline, limit: float, is_small: bool
) -> Finding:
    """Return the finding about this row. `limit` is that of the norm; `is_small`: its batch is."""
    step, norm = iteration_at(block, row), float(block.steps["grad_norm"][row])
    loss, lr = float(block.steps["loss"][row]), float(block.steps["lr"][row])
    is_known = not flagged(block.steps, StepFlag.NO_LOSS)[row]
    evidence = [Evidence("grad_norm", "", step, norm, limit)]
    if usual.rises:
        evidence.append(Evidence("loss", "", step, loss, usual.usual_loss))
    return rule.finding(
        severity="info" if is_small else rule.severity,
        optimizer=int(block.steps["optimizer"][row]),
        first_step=step,
        parameters=largest_parameters(block, row),
        evidence=tuple(evidence),
        cause=_cause(step, norm, loss if is_known else None, usual, is_small=is_small),
        advice=say("no change is needed; drop_last=True in the DataLoader leaves such a batch out")
        if is_small
        else say(
            "check the batch of step {step} (and the schedule, if the learning rate has just "
            "been raised to {lr:.2g}); clip the gradients between backward and step, so that "
            "no single batch can do much harm",
            step=step,
            lr=lr,
        ),
        where=site_of(block, EventKind.BACKWARD, step),
        seen_only=True,
        excerpt="torch.nn.utils.clip_grad_norm_(model.parameters(), "
        "max_norm=1.0)\noptimizer.step()",
    )


def _cause(
    step: int, norm: float, loss: float | None, usual: SpikeBaseline, *, is_small: bool
) -> Message:
    """Return what the loss did while the norm jumped, as far as that is known."""
    values: dict[str, str | int | float] = {
        "step": step,
        "norm": norm,
        "times": norm / usual.norm,
        "loss": "nan" if loss is None or math.isnan(loss) else loss,
        "usual_loss": usual.usual_loss,
    }
    if is_small:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual "
            "value: the loss of this batch is over {count:g} samples, that of others over "
            "{usual_count:g}, and a mean over few varies more",
            count=usual.count,
            usual_count=usual.usual_count,
            **values,
        )
    if loss is not None and math.isnan(loss):
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
            "usually was, and the loss is {loss}",
            **values,
        )
    if loss is None or not usual.is_judged:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
            "usually was",
            **{name: values[name] for name in ("step", "norm", "times")},
        )
    if usual.rises:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual "
            "value, and the loss jumps from {usual_loss:.3g} to {loss:.3g}: this batch differs "
            "from the others, or the previous update was too large",
            **values,
        )
    return say(
        "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual value, "
        "but the loss does not jump",
        **values,
    )
