"""Advice about accumulation in the terms of the framework that calls backward."""

from __future__ import annotations

from seismograd.analysis.micro_batches import MicroBatches
from seismograd.analysis.step_window import StepWindow
from seismograd.i18n import Message, say

UNDIVIDED, DIVIDED_TWICE, UNEVEN = range(3)
TRAINERS = ("transformers", "trl")
OWN_LOOPS = (*TRAINERS, "lightning")  # packages with a training loop of their own


def framework_advice(
    window: StepWindow, micro_batches: MicroBatches, fault: int
) -> tuple[Message, str] | None:
    """Return advice and a line of code for losses of micro-batches whose weight is wrong; `None`
    where the script itself calls backward, or an unknown package.
    """
    via, num = window.via(micro_batches.last), len(micro_batches)
    if via == "accelerate":
        return _accelerate(fault, num)
    if via in TRAINERS:
        return _trainer(fault)
    if via == "lightning" and fault != UNEVEN:
        return _lightning(fault, num)
    return None


def closes_windows(window: StepWindow, micro_batches: MicroBatches) -> bool:
    """Return whether a framework divides the losses and ends a window with each epoch, short or
    not: nothing that the script does.
    """
    via = window.via(micro_batches.last)
    return via in OWN_LOOPS or (
        via == "accelerate" and "/" not in window.text(micro_batches.last, "loss.backward()")
    )


def _accelerate(fault: int, num: int) -> tuple[Message, str]:
    if fault == UNDIVIDED:
        return (
            say(
                "tell Accelerator the number of micro-batches: accelerator.backward then divides "
                "the loss by it, and accelerator.accumulate(model) decides when to step"
            ),
            f"accelerator = Accelerator(gradient_accumulation_steps={num})",
        )
    if fault == DIVIDED_TWICE:
        return (
            say(
                "pass the undivided loss to accelerator.backward: it divides by "
                "gradient_accumulation_steps itself"
            ),
            "accelerator.backward(loss)",
        )
    return (
        say(
            "sum the loss over the samples or tokens and divide by their number in the whole "
            "window; multiply by gradient_accumulation_steps, because accelerator.backward divides "
            "by it"
        ),
        "accelerator.backward(loss_sum * accelerator.gradient_accumulation_steps / num_tokens)",
    )


def _trainer(fault: int) -> tuple[Message, str]:
    if fault == DIVIDED_TWICE:
        return (
            say(
                "do not divide the loss in the model or in compute_loss: Trainer divides by "
                "gradient_accumulation_steps itself"
            ),
            "return loss",
        )
    return (
        say(
            "use num_items_in_batch: Trainer passes it to compute_loss, and to a model whose "
            "forward takes **kwargs, and then does not divide by gradient_accumulation_steps; a "
            "loss that ignores it needs trainer.model_accepts_loss_kwargs = False"
        ),
        "loss = loss_sum / num_items_in_batch",
    )


def _lightning(fault: int, num: int) -> tuple[Message, str]:
    if fault == UNDIVIDED:
        return (
            say(
                "with automatic optimization, set accumulate_grad_batches and Lightning divides "
                "the loss by it; with manual optimization, divide before self.manual_backward"
            ),
            f"self.manual_backward(loss / {num})",
        )
    return (
        say(
            "return the undivided loss from training_step: Lightning divides by "
            "accumulate_grad_batches itself"
        ),
        "return loss",
    )
