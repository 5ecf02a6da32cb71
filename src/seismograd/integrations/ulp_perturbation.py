"""Change the numbers that flow through modules by an ulp, to see what rounding does to gradients.

Another kernel, another release of torch or another order of summation rounds otherwise in every
operation; so each module's output and what the outermost ones are given is perturbed, not only the
first input.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.modules import module as torch_module


class UlpPerturbation:
    """Perturbs all modules of the process until `remove`. Its random numbers are its own; a zero
    stays zero, and the graph is that of before but for a sum with a constant.

    Args:
        seed: of the random signs.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._depth = 0
        self._handles = [
            torch_module.register_module_forward_pre_hook(self._before),
            torch_module.register_module_forward_hook(self._after, always_call=True),
        ]

    def remove(self) -> None:
        """Leave modules alone again."""
        for handle in self._handles:
            handle.remove()

    def _before(self, _: Any, inputs: tuple[Any, ...]) -> Any:
        self._depth += 1
        return self._perturbed(inputs) if self._depth == 1 else None

    def _after(self, _: Any, __: Any, output: Any) -> Any:
        self._depth = max(0, self._depth - 1)
        return self._perturbed(output)

    def _perturbed(self, value: Any) -> Any:
        """Return the value with its floating-point tensors changed, also within containers."""
        if isinstance(value, Tensor):
            return self._moved(value)
        if type(value) in (tuple, list):
            return type(value)(self._perturbed(each) for each in value)
        if isinstance(value, dict):  # also such as the outputs of Transformers' models
            known = cast("dict[Any, Any]", value)
            for key, each in list(known.items()):
                known[key] = self._perturbed(each)
            return known
        return value

    def _moved(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            return tensor
        signs = torch.randint(-1, 2, tensor.shape, generator=self._generator)
        eps = torch.finfo(tensor.dtype).eps
        # At most one ulp either way: of a number between two powers of two an ulp is less.
        step = tensor.detach() * (signs.to(tensor.device, tensor.dtype) * eps)
        return tensor + step
