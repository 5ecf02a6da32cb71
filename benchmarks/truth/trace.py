"""Run a training script and write down what it did, by torch's public hooks alone.

    python -m benchmarks.truth.trace OUT SCRIPT

This is the witness of the oracles: it shares no code with seismograd. OUT becomes a JSON file with
the events in their order. An event is a dict with its kind under "e" and the line of the script
under "line":
step: opt, lr, wd, params: {index: [grad norm, weight norm, norm of the change, share of elements
      changed, how far the gradient's rows are apart, share of its rows that are zero]}, norms: [in
      train, in eval mode], drift: parameters that changed since the last step; backward: loss,
      leaves (of the graph); zero_grad; clip: norm, max; unscale; scheduler: kind; loss: name, facts
      of its inputs; optimizer: made; scaler: made.
"""

from __future__ import annotations

import functools
import gc
import json
import math
import runpy
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "kl_div",
    "mse_loss",
    "smooth_l1_loss",
)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
SCHEDULERS = (
    "LRScheduler",
    "ReduceLROnPlateau",
    "OneCycleLR",
    "SequentialLR",
    "CosineAnnealingWarmRestarts",
)


class Witness:
    """What is heard of one run."""

    def __init__(self, script: str):
        self.script = str(Path(script).resolve())
        self.events: list[dict[str, Any]] = []
        self.tensors: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        self.count = 0
        self.optimizers: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.before: dict[int, torch.Tensor] = {}
        self.after: dict[int, float] = {}
        self.modes: dict[str, dict[int, bool]] = {"norms": {}}
        self.names: dict[int, str] = {}
        self.modules: set[int] = set()
        self.frozen: set[str] = set()

    def line(self) -> int:
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self.script:
                return frame.f_lineno
            frame = frame.f_back
        return 0

    def add(self, kind: str, **facts: Any) -> None:
        self.events.append({"e": kind, "line": self.line(), **facts})

    def index(self, tensor: torch.Tensor) -> int:
        known = self.tensors.get(id(tensor))
        if known is None or known[0]() is not tensor:
            known = self.tensors[id(tensor)] = (weakref.ref(tensor), self.count)
            self.count += 1
        return known[1]

    def optimizer(self, opt: Any) -> int:
        known = self.optimizers.get(id(opt))
        if known is None or known[0]() is not opt:
            known = self.optimizers[id(opt)] = (weakref.ref(opt), len(self.events))
            held = [self.index(p) for group in opt.param_groups for p in group["params"]]
            self.events.append(
                {
                    "e": "optimizer",
                    "line": self.line(),
                    "opt": known[1],
                    "kind": type(opt).__name__,
                    "held": held,
                }
            )
            self.look()
        return known[1]

    def look(self) -> None:
        """Name the parameters of every module there is."""
        roots: dict[int, str] = {}
        # `type`: an isinstance would wake lazy proxies.
        for module in [o for o in gc.get_objects() if issubclass(type(o), nn.Module)]:
            for name, parameter in module.named_parameters():
                index = self.index(parameter)
                if len(name) > len(roots.get(index, "")):
                    roots[index] = name
                self.modules.add(index)
                if not parameter.requires_grad:
                    self.frozen.add(name)
        self.names.update(roots)

    def before_step(self, opt: Any, args: Any, kwargs: Any) -> None:
        number = self.optimizer(opt)
        drift = []
        for group in opt.param_groups:
            for p in group["params"]:
                index = self.index(p)
                self.before[index] = p.detach().clone()
                known = self.after.get(index)
                if known is not None and known != float(p.detach().double().sum()):
                    drift.append(index)
        self.open = (
            number,
            drift,
            {self.index(p): norm(p.grad) for g in opt.param_groups for p in g["params"]},
        )

    def after_step(self, opt: Any, args: Any, kwargs: Any) -> None:
        number, drift, grads = self.open
        params = {}
        for group in opt.param_groups:
            for p in group["params"]:
                index, w = self.index(p), p.detach()
                old = self.before.pop(index, w)
                changed = float((old != w).double().mean()) if w.numel() else 0.0
                # A closure makes its gradients within the step.
                grad = grads.get(index) if grads.get(index) is not None else norm(p.grad)
                params[index] = [grad, norm(w), norm(w - old), changed, spread(p), idle(p)]
                self.after[index] = float(w.double().sum())
        norms = self.modes["norms"]
        modes = [sum(norms.values()), len(norms) - sum(norms.values())]
        self.modes["norms"] = {}
        group = opt.param_groups[0]
        self.add(
            "step",
            opt=number,
            lr=float(group["lr"]),
            wd=float(group.get("weight_decay", 0) or 0),
            params=params,
            drift=drift,
            modes=modes,
        )

    def backward(self, tensors: Any) -> None:
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        leaves, nodes = reach(roots)
        value = float(roots[0].detach().float().sum())
        self.add(
            "backward", loss=value, leaves=sorted(self.index(leaf) for leaf in leaves), nodes=nodes
        )

    def loss(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> None:
        if not torch.is_grad_enabled():
            return
        x, y = args[0], args[1] if len(args) > 1 else kwargs.get("target")
        with torch.no_grad():
            v = x.detach().float()
            dim = 1 if v.dim() > 1 else 0
            facts = {
                "x": list(x.shape),
                "y": list(y.shape),
                "min": float(v.min()),
                "max": float(v.max()),
                "grad": x.requires_grad,
                "sum": float((v.sum(dim) - 1).abs().max()),
                "logsum": float(v.logsumexp(dim).abs().max()),
                "valid": float((y != kwargs.get("ignore_index", -100)).float().mean())
                if not y.is_floating_point()
                else 1.0,
                "value": float(value.detach().float().mean()),
                "grad_y": y.requires_grad,
            }
        self.add("loss", name=name, **facts)


def norm(tensor: torch.Tensor | None) -> float | None:
    if tensor is None:
        return None
    return float((tensor.to_dense() if tensor.is_sparse else tensor).detach().double().norm())


def spread(p: torch.Tensor) -> float | None:
    """Return how far the rows of a gradient are from being one row, relative to its norm."""
    g = p.grad
    if (
        g is None
        or g.is_sparse
        or g.dim() < 2
        or g.shape[0] < 2
        or not (size := float(g.double().norm()))
    ):
        return None
    return float((g.double() - g.double().mean(0, keepdim=True)).norm()) / size


def idle(p: torch.Tensor) -> float | None:
    """Return the share of a gradient's rows that are exactly zero."""
    g = p.grad
    return (
        None
        if g is None or g.is_sparse or g.dim() < 2
        else float((g.flatten(1) == 0).all(1).double().mean())
    )


def reach(roots: list[torch.Tensor]) -> tuple[list[torch.Tensor], int]:
    """Return the leaves that a graph leads to, and the number of its nodes."""
    todo, seen, leaves = [r.grad_fn for r in roots if r.grad_fn is not None], set(), []
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.append(variable)
        todo += [n for n, _ in node.next_functions if n is not None]
    return leaves, len(seen)


def patch(owner: Any, name: str, before: Any = None, after: Any = None) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def heard(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        result = original(*args, **kwargs)
        if after is not None:
            after(result, *args, **kwargs)
        return result

    setattr(owner, name, heard)


def listen(w: Witness) -> None:
    """Put the witness into torch."""
    register_optimizer_step_pre_hook(w.before_step)
    register_optimizer_step_post_hook(w.after_step)
    patch(torch.autograd, "backward", before=lambda tensors, *a, **k: w.backward(tensors))
    patch(
        torch.optim.Optimizer,
        "zero_grad",
        before=lambda opt, *a, **k: w.add("zero_grad", opt=w.optimizer(opt)),
    )
    patch(nn.Module, "zero_grad", before=lambda *a, **k: w.add("zero_grad", opt=-1))

    def clipped(result: Any, parameters: Any, max_norm: float, *a: Any, **k: Any) -> None:
        w.add("clip", norm=float(result), max=float(max_norm))

    patch(nn.utils, "clip_grad_norm_", after=clipped)
    for name in SCHEDULERS:
        cls = getattr(torch.optim.lr_scheduler, name)
        if "step" in vars(cls):
            patch(
                cls,
                "step",
                before=lambda s, *a, **k: w.add(
                    "scheduler", cls=type(s).__name__, opt=w.optimizer(s.optimizer)
                ),
            )
    patch(
        torch.amp.GradScaler,
        "unscale_",
        before=lambda s, opt: w.add("unscale", opt=w.optimizer(opt)),
    )
    patch(torch.amp.GradScaler, "__init__", before=lambda *a, **k: w.add("scaler"))
    for name in LOSSES:
        patch(
            functional,
            name,
            after=functools.partial(lambda n, result, *a, **k: w.loss(n, a, k, result), name),
        )

    def mode(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, NORMS) and torch.is_grad_enabled():
            w.modes["norms"][id(module)] = module.training

    nn.modules.module.register_module_forward_pre_hook(mode)


def main(out: str, script: str, *arguments: str) -> None:
    witness = Witness(script)
    listen(witness)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    start, error = time.perf_counter(), ""
    try:
        runpy.run_path(witness.script, run_name="__main__")
    except BaseException as raised:
        if not (isinstance(raised, SystemExit) and not raised.code):
            error = repr(raised)
    witness.look()
    trace = {
        "events": witness.events,
        "names": witness.names,
        "modules": sorted(witness.modules),
        "frozen": sorted(witness.frozen),
        "error": error,
        "seconds": time.perf_counter() - start,
    }
    Path(out).write_text(json.dumps(plain(trace)))


def plain(value: Any) -> Any:
    """Return `value` with numbers that are short, and strings for those that JSON does not have."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


if __name__ == "__main__":
    main(*sys.argv[1:])
