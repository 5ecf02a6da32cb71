"""One operation as autograd's graph or torch's dispatcher shows it: its name, what it was given and
what it returned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.saved_tensors import saved_tensor

RESULTS = ("result", "output", "result0", "out")
MASKS = ("attn_mask", "attn_bias")  # masks set hidden positions to -inf
POSITIONS = {  # where an operand stands among the inputs of its node
    "self": 0,
    "input": 0,
    "log_probs": 0,
    "x1": 0,
    "query": 0,
    "other": 1,
    "weight": 1,
    "mat2": 1,
    "exponent": 1,
    "x2": 1,
    "key": 1,
    "target": 1,
    "tensor1": 1,
    "value": 2,
    "tensor2": 2,
}
IN_ADDMM = {"mat1": 1, "mat2": 2}
# what torch calls an operation, and what scripts call it
NAMES = {
    "addmm": "linear",
    "mkldnn_linear": "linear",
    "binary_cross_entropy_with_logits": "binary_cross_entropy_with_logits",
    "ctc_loss": "ctc_loss",
    "linalg_vector_norm": "norm",
    "linalg_svd": "svd",
    "linalg_inv_ex": "inv",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "mm": "matmul",
    "mv": "matmul",
    "dot": "matmul",
    "nll_loss2d": "nll_loss",
    "nll_loss_forward": "nll_loss",
    "nll_loss2d_forward": "nll_loss",
    "safe_softmax": "softmax",
    "to_copy": "to",
    "div": "/",
    "true_divide": "/",
    "reciprocal": "/",
    "addcdiv": "/",
    "rsub": "-",
    "sub": "-",
    "add": "+",
    "mul": "*",
    "pow": "**",
    "native_batch_norm": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "batch_norm_with_update": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "convolution": "conv",
    "log1_p": "log1p",
    "scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` is torch's own, `operands` the tensors it was given, by the names of its signature,
    and `settings` everything else.
    """

    name: str
    operands: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    result: torch.Tensor | None = None

    @property
    def shown(self) -> str:
        """Return its name as scripts write it."""
        return NAMES.get(self.name, self.name)

    def number(self, name: str, default: float) -> float:
        """Return a setting that is a number, or an operand that holds only one."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, int | float) else default


def name_of(node: Any) -> str:
    """Return the name of the operation whose backward a node is: `sqrt` for `SqrtBackward0`."""
    return name_from(node.name())


def name_from(node_name: str) -> str:
    """Return the same from the name of the node."""
    plain = re.sub(r"Backward\d*$", "", node_name.rpartition("::")[2])
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    return words.lower().strip("_")


def operation_of(node: Any) -> Operation:
    """Return what a node shows of its operation, with what it kept: nothing that a hook packed away
    is unpacked, and freed memory is never touched.
    """
    operands: dict[str, torch.Tensor] = {}
    settings: dict[str, Any] = {}
    result: torch.Tensor | None = None
    for attribute in dir(node):
        if attribute.startswith("_raw_saved_"):
            name = attribute.removeprefix("_raw_saved_")
            tensor = _at_hand(node, name)
            if tensor is not None and name in RESULTS:
                result = tensor
            elif tensor is not None:
                operands[name] = tensor
        elif attribute.startswith("_saved_"):
            name = attribute.removeprefix("_saved_")
            if not hasattr(node, f"_raw_saved_{name}"):
                settings[name] = getattr(node, attribute)
    return Operation(name_of(node), operands, settings, result)


def position_of(node_name: str, operand: str) -> int:
    """Return which input of a node this operand is; -1 where that is not known."""
    if node_name in ("addmm", "addmv", "baddbmm"):
        return IN_ADDMM.get(operand, -1)
    return POSITIONS.get(operand, -1)


def readable(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return what this process holds of a tensor of real numbers, if it can be read."""
    held = held_part(tensor)
    if held.layout is not torch.strided or not is_readable(held):
        return None
    return held


def _at_hand(node: Any, name: str) -> torch.Tensor | None:
    data = saved_tensor(node, name)
    return None if data is None else readable(data)
