"""Name things as the script does: optimizers by their variable, calls by their line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from seismograd.schema import Optimizer, Parameter, RowBatch

BY_VALUE = 2  # `detail` of a clip


def optimizer_name(block: RowBatch, index: int) -> str:
    """Return the name of the variable that holds the optimizer, `optimizer` where it is not
    known.
    """
    return name_among(block.optimizers, index)


def name_among(optimizers: Iterable[Optimizer], index: int) -> str:
    """Return the same by the optimizers of the run."""
    known = [
        each.name
        for each in optimizers
        if each.index == index and each.kind and each.name not in ("", each.kind)
    ]
    return known[0] if known else "optimizer"


def optimizer_kind(block: RowBatch, index: int) -> str:
    """Return the class name of the optimizer, empty where it is not known."""
    return kind_among(block.optimizers, index)


def kind_among(optimizers: Iterable[Optimizer], index: int) -> str:
    """Return the same by the optimizers of the run."""
    return next((each.kind for each in optimizers if each.index == index), "")


def clip_of(block: RowBatch, optimizer: int, detail: int, limit: float) -> str:
    """Return the call of a clip of what this optimizer holds, by norm or by value."""
    name = "clip_grad_value_" if detail == BY_VALUE else "clip_grad_norm_"
    return f"torch.nn.utils.{name}({_held_by(block, optimizer)}, {limit:g})"


def holder_of(names: Iterable[str]) -> str:
    """Return the module that holds all of these parameters: `net.body` for `net.body.0.weight` and
    `net.body.2.bias`; empty: the model itself.
    """
    paths = [name.split(".")[:-1] for name in names]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def module_of(parameters: Sequence[Parameter]) -> str:
    """Return the module that holds all of these parameters, as the script would write it:
    `model.body[0]`.
    """
    return _in_script(parameters[0], holder_of(each.name for each in parameters))


def parameters_of(wanted: Sequence[Parameter], known: Sequence[Parameter]) -> str:
    """Return an expression for these of the known parameters: `model.head.parameters()` where a
    module holds them and no others, else a list of them.
    """
    holder = holder_of(each.name for each in wanted)
    prefix, root = f"{holder}." if holder else "", wanted[0].root
    below = sum(each.name.startswith(prefix) and each.root == root for each in known)
    if below == len(wanted):
        return f"{module_of(wanted)}.parameters()"
    names = [_in_script(each, each.name) for each in wanted[:3]]
    return f"[{', '.join(names)}{', …' if len(wanted) > 3 else ''}]"


def _held_by(block: RowBatch, optimizer: int) -> str:
    """Return an expression for the parameters of an optimizer, by the models that they are of."""
    models = models_of(block.parameters, optimizer)
    if len(models) > 2:
        groups = f"{optimizer_name(block, optimizer)}.param_groups"
        return f'[p for group in {groups} for p in group["params"]]'
    if len(models) == 2:
        return f"[{', '.join(f'*{each}.parameters()' for each in models)}]"
    return f"{models[0] if models else 'model'}.parameters()"


def models_of(parameters: Sequence[Parameter], optimizer: int) -> list[str]:
    """Return the script's names of the models that an optimizer trains; where it holds nothing,
    of all models.
    """
    held = [each for each in parameters if each.optimizer == optimizer]
    return list(dict.fromkeys(each.model for each in held or parameters if each.model))


def in_script(path: str, model: str = "model") -> str:
    """Return a path below a model as the script would write it."""
    if model and path != model and not path.startswith(f"{model}."):
        path = f"{model}.{path}" if path else model
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)


def _in_script(parameter: Parameter, path: str) -> str:
    return in_script(path, parameter.model or ("" if parameter.root > 0 else "model"))
