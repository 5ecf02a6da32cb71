"""The single scalars of gradients that the user asked for, picked out at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import torch

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.schema import Parameter
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.shards import held_element
from seismograd.tensors.tensor_part import whole_shape

Refuse = Callable[[SeismogradError], None]


class RequestedElements:
    """The requested single scalars; one outside its parameter's shape is rejected once and stays
    NaN.
    """

    def __init__(self, specs: Sequence[ElementSpec], refuse: Refuse) -> None:
        self.specs = tuple(specs)
        self._refuse = refuse
        self._refused: set[ElementSpec] = set()

    def __len__(self) -> int:
        return len(self.specs)

    def unknown(self, parameters: Sequence[Parameter]) -> list[SeismogradError]:
        """Return an error for each that names none of the parameters."""
        names = [each.name for each in parameters]
        others = {alias: each.name for each in parameters for alias in each.aliases}
        errors: list[SeismogradError] = []
        for spec in self.specs:
            if spec.parameter in names:
                continue
            own = others.get(spec.parameter)
            near = [own] if own else get_close_matches(spec.parameter, names, 3, 0.4) or names[:3]
            errors.append(
                SeismogradError(
                    say(
                        "{element} was not recorded: no parameter is named {name}; the closest "
                        "names are {names}",
                        element=str(spec),
                        name=spec.parameter,
                        names=", ".join(near),
                    )
                )
            )
        return errors

    def pick(self, gradients: dict[str, torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
        """Return those of these gradients, each with its position."""
        picked: list[tuple[int, torch.Tensor]] = []
        for position, spec in enumerate(self.specs):
            gradient = gradients.get(spec.parameter)
            if gradient is None or spec in self._refused or gradient.layout is not torch.strided:
                continue
            try:
                scalar = held_element(gradient, spec.within(whole_shape(gradient)).index)
            except SeismogradError as error:
                self._refused.add(spec)
                self._refuse(error)
                continue
            if scalar is not None:
                picked.append((position, scalar))
        return picked
