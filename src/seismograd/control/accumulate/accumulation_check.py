"""Compare one batch with accumulation on the user's own model: by how much the gradients differ,
and why.

Shapes: P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from seismograd.control.accumulate.part_gradients import PartGradients, deviation
from seismograd.control.accumulate.state_guard import (
    LossFunction,
    num_samples,
    preserved_state,
    take_samples,
)
from seismograd.control.parameter_list import ParameterList
from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.schema import FloatArray

DeviationKind = Literal["weights", "batch norm", "dropout", "training mode", "loss"]
MAX_TOLERANCE = 0.05  # of relative errors, where bfloat16 rounds
EPSILONS = 1e3  # of the parameters' dtype that rounding may add up to


@dataclass(frozen=True, slots=True)
class DeviationCause:
    """A cause that makes accumulation differ: the relative error that it alone produces, and its
    description.
    """

    kind: DeviationKind
    error: float
    message: Message


@dataclass(frozen=True, slots=True)
class AccumulationComparison:
    """The gradient of the parts, each loss divided by their number, against that of the whole
    batch.

    `errors` and `cosines` are per parameter  # (P,), `error` and `cosine` of all: norm of the
    difference / norm of the gradient of the whole batch. `weighted_error` is with the parts
    weighted by what their losses are a mean over, `rounding` with every cause removed.
    """

    parameters: tuple[str, ...]
    errors: FloatArray
    cosines: FloatArray
    error: float
    cosine: float
    weighted_error: float
    rounding: float
    causes: tuple[DeviationCause, ...]

    def __str__(self) -> str:
        lines = [
            say(
                "relative error {error:.2e}, cosine {cosine:.6f} over all parameters",
                error=self.error,
                cosine=self.cosine,
            ).render(),
            *(cause.message.render() for cause in self.causes),
            *(
                f"  {name}: {error:.2e}, {cosine:.6f}"
                for name, error, cosine in zip(
                    self.parameters, self.errors, self.cosines, strict=True
                )
            ),
        ]
        return "\n".join(lines)


def compare_accumulation(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    steps: int = 4,
    *,
    weight: Callable[[Any], float] | None = None,
) -> AccumulationComparison:
    """Compare the gradient of a batch with that of its parts, and find out why they differ by
    removing one cause at a time.

    The model, its buffers, gradients and modes and the random numbers are the same afterwards. The
    comparison takes about ten passes over the batch.

    Args:
        model: as it is trained: `model.train()`.
        loss_fn: takes the model and a batch, gives a loss of one number.
        batch: tensors, in tuples, lists and dictionaries, with the samples along the first
            dimension.
        steps: how many parts; they differ by at most one sample.
        weight: what the loss of a part is a mean over; read from the graph of the loss unless
            given, else the number of its samples.

    Raises:
        SeismogradError: the batch has fewer samples than steps, or no parameter gets a gradient.
    """
    rows = num_samples(batch)
    if not 1 < steps <= rows:
        raise SeismogradError(
            say(
                "a batch of size {rows} cannot be split with steps={steps}", rows=rows, steps=steps
            ),
            say("use at least two steps, and at least one sample per step"),
        )
    parts = [take_samples(batch, index) for index in torch.arange(rows).tensor_split(steps)]
    with preserved_state(model):
        gradients = PartGradients(model, loss_fn, batch, parts, weight)
        return _CauseSearch(model, gradients).compare()


class _CauseSearch:
    """Compares the parts with the whole batch, with some causes left in and the others removed."""

    def __init__(self, model: nn.Module, gradients: PartGradients) -> None:
        self._model, self._gradients = model, gradients
        training: list[tuple[str, nn.Module]] = [
            named for named in cast("Any", model).named_modules() if named[1].training
        ]
        # The bases of all of their kind, also of a library's; torch has no public names for them.
        batch_norm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
        dropout = nn.modules.dropout._DropoutNd  # pyright: ignore[reportPrivateUsage]
        self._batch_norms: dict[str, nn.Module] = {
            n: m for n, m in training if isinstance(m, batch_norm)
        }
        self._dropouts: dict[str, nn.Module] = {
            n: m for n, m in training if isinstance(m, dropout) and m.p > 0
        }

    def compare(self) -> AccumulationComparison:
        """Run the whole comparison."""
        whole, equal = self._gradients.whole(), self._gradients.of_parts(weighted=False)
        if not any(bool(torch.any(gradient)) for gradient in whole):
            raise SeismogradError(
                say("no parameter gets a gradient from the loss"),
                say("pass a loss that is computed from the model"),
            )
        errors, cosines = zip(
            *(deviation([a], [b]) for a, b in zip(equal, whole, strict=True)), strict=True
        )
        error, cosine = deviation(equal, whole)
        tolerance = min(
            MAX_TOLERANCE,
            EPSILONS * max(torch.finfo(p.dtype).eps for p in self._gradients.parameters),
        )
        still = [*self._batch_norms.values(), *self._dropouts.values()]
        rounding = self._gradients.error(weighted=True, off=still)
        causes = list(self._causes(still, rounding, tolerance))
        names = {id(p): name for name, p in self._model.named_parameters()}
        return AccumulationComparison(
            tuple(names[id(p)] for p in ParameterList(tuple(self._gradients.parameters)).tensors),
            np.array(errors),
            np.array(cosines),
            error,
            cosine,
            self._gradients.error(weighted=True),
            rounding,
            tuple(sorted(causes, key=lambda cause: -cause.error)),
        )

    def _causes(
        self, still: list[nn.Module], rounding: float, tolerance: float
    ) -> list[DeviationCause]:
        limit = max(tolerance, 10 * rounding) if rounding <= tolerance else tolerance
        found: list[DeviationCause] = []
        weights = self._gradients.error(weighted=False, off=still)
        if weights > limit and weights > 2 * rounding:
            text = say(
                "the losses of the parts are means over different numbers of items; weighted "
                "equally they are off by {error:.1e}: use window.backward(loss, weight=…)",
                error=weights,
            )
            found.append(DeviationCause("weights", weights, text))
        if (
            self._batch_norms
            and (norms := self._gradients.error(weighted=True, off=self._dropouts.values())) > limit
        ):
            text = say(
                "batch norm ({names}) uses the mean and variance of each part, not of the whole "
                "batch: {error:.1e}; GroupNorm and LayerNorm do not have this problem",
                names=_listed(self._batch_norms),
                error=norms,
            )
            found.append(DeviationCause("batch norm", norms, text))
        if (
            self._dropouts
            and (drops := self._gradients.error(weighted=True, off=self._batch_norms.values()))
            > limit
        ):
            text = say(
                "dropout ({names}) draws different masks for the parts than for the whole batch: "
                "{error:.1e}; this is noise, not a mistake",
                names=_listed(self._dropouts),
                error=drops,
            )
            found.append(DeviationCause("dropout", drops, text))
        if rounding > tolerance:
            found.append(self._other(rounding, tolerance))
        return found

    def _other(self, left: float, tolerance: float) -> DeviationCause:
        """Return what remains without any of the known causes, depending on whether evaluation mode
        removes it.
        """
        if self._gradients.error(weighted=True, off=self._model.modules()) <= tolerance:
            return DeviationCause(
                "training mode",
                left,
                say(
                    "something else that model.train() enables makes them differ: {error:.1e}",
                    error=left,
                ),
            )
        text = say(
            "the loss of the batch is not the mean of the losses of its parts: {error:.1e}; it may "
            "compare samples with each other, or be a sum",
            error=left,
        )
        return DeviationCause("loss", left, text)


def _listed(modules: dict[str, nn.Module]) -> str:
    names = [name or type(module).__name__ for name, module in modules.items()]
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
