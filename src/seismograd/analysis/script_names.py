"""Name things as the script does: optimizers by their variable, calls by their line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from seismograd.schema import EventKind, Finding, Optimizer, Parameter, RowBatch

MODEL = re.compile(r"(?<![\w.])model(?=[.,)])")
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


def own_text(block: RowBatch, site: int, otherwise: str) -> str:
    """Return the call at a site as the script writes it, where the line shows it; a framework's
    call that makes it is another one: return `otherwise`.
    """
    known = block.sites[site] if 0 <= site < len(block.sites) else None
    method = re.search(r"(\w+)\(", otherwise)
    if known is None or method is None:
        return otherwise
    return known.text if f"{method[1]}(" in known.text else otherwise


def undivided_of(text: str) -> str:
    """Return the backward of a loss that is not divided: `loss.backward()` of
    `(loss / 4).backward()`; empty where nothing divides it at this line.
    """
    found = re.fullmatch(r"\((\w+) / [\w.]+\)(\.backward\(.*\))", text)
    return f"{found[1]}{found[2]}" if found else ""


def scaler_step(block: RowBatch, iteration: int, optimizer: int) -> str:
    """Return the step of this optimizer through a GradScaler, as the script writes it."""
    events = block.events
    steps = (
        (events["kind"] == EventKind.STEP)
        & (events["optimizer"] == optimizer)
        & (events["iteration"] == iteration)
    )
    otherwise = f"scaler.step({optimizer_name(block, optimizer)})"
    for site in events["site"][steps].tolist():
        text = own_text(block, int(site), otherwise)
        if re.fullmatch(r"[\w.]+\.step\([\w.\[\]]+\)", text):
            return text
    return otherwise


def scaler_of(block: RowBatch) -> str:
    """Return the script's name of the GradScaler, from the lines that scale a loss."""
    found = [re.search(r"([\w.]+)\.scale\(", each.text) for each in block.sites]
    return next((each[1] for each in found if each), "scaler")


def owner_of(text: str, method: str) -> str:
    """Return what a method is called of: `self.optimizer` of `self.optimizer.step()`; empty where
    the text is no such call.
    """
    found = re.match(rf"([\w.\[\]]+)\.{method}\(", text)
    return found[1] if found else ""


def stepped_of(text: str, name: str) -> str:
    """Return the optimizer that a step steps, as the script writes it there, from what is known of
    its name: `self.opt` of `self.opt.step()` and of `scaler.step(self.opt)`.
    """
    found = re.match(r"([\w.\[\]]+)\.step\(([\w.\[\]]*)", text)
    if found is None:
        return name
    last = name.rpartition(".")[2]
    given = [each for each in found.groups() if each.rpartition(".")[2] == last]
    return given[0] if given else name if found[2] else found[1]


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


def initialised_of(names: Sequence[str], model: str) -> str:
    """Return code that gives these weights of a model random numbers."""
    name = model or "model"
    if len(names) > 3:
        return (
            f"for weight in {name}.parameters():  # before the optimizer is created\n"
            "    if weight.ndim > 1:\n        torch.nn.init.kaiming_uniform_(weight)"
        )
    return "\n".join(
        f"torch.nn.init.kaiming_uniform_({in_script(each, name)})  "
        "# before the optimizer is created"
        for each in names
    )


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


def with_model_name(finding: Finding, parameters: Sequence[Parameter]) -> Finding:
    """Return the finding with the script's own name for the model in its code, where rules write
    `model` and there is only one that may be meant.
    """
    if not MODEL.search(finding.excerpt):
        return finding
    names = models_of(parameters, finding.optimizer)
    if len(names) != 1 or names[0] == "model":
        return finding
    return replace(finding, excerpt=MODEL.sub(names[0], finding.excerpt))


def in_script(path: str, model: str = "model") -> str:
    """Return a path below a model as the script would write it."""
    if model and path != model and not path.startswith(f"{model}."):
        path = f"{model}.{path}" if path else model
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)


def _in_script(parameter: Parameter, path: str) -> str:
    return in_script(path, parameter.model or ("" if parameter.root > 0 else "model"))
