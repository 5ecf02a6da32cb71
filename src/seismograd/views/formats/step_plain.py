"""One step in the form of lines printed in a training loop."""

from __future__ import annotations

from collections.abc import Iterator

from seismograd.i18n import translate
from seismograd.schema import State
from seismograd.views.step import GradientNumbers, RecordedStep
from seismograd.views.values import state_word


def render(step: RecordedStep) -> str:
    """Return the lines; `epoch` is the step where the run recorded no epochs."""
    return "\n".join(_lines(step))


def rounded_to_zero(step: RecordedStep) -> tuple[str, ...]:
    """Return the parameters whose gradient is not zero though its norm has only zeros in this
    form.
    """
    return tuple(
        each.parameter.name
        for each in step.gradients
        if each.state == State.FINITE and float(f"{each.norm:.6f}") == 0
    )


def _lines(step: RecordedStep) -> Iterator[str]:
    epoch = step.iteration if step.epoch is None else step.epoch
    yield translate("--- Epoch {epoch} Gradients ---").format(epoch=epoch)
    yield from (_line(gradient) for gradient in step.gradients)
    loss = translate("not measured") if step.loss is None else f"{step.loss:.4f}"
    yield translate("epoch {epoch}, loss={loss}").format(epoch=epoch, loss=loss)


def _line(gradient: GradientNumbers) -> str:
    sizes = ", ".join(map(str, gradient.parameter.shape))
    return translate(
        "parameter: {name:<20} | gradient shape: {shape:<15} | gradient norm: {norm}"
    ).format(
        name=gradient.parameter.name,
        shape=f"torch.Size([{sizes}])",
        norm=f"{gradient.norm:.6f}" if gradient.measured else state_word(gradient.state),
    )
