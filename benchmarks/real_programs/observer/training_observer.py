"""Notes what a training does at every step, with torch's own hooks and nothing of seismograd.

torch calls `begin` at the end of its import, whatever imports it and in whatever order: this
folder is on PYTHONPATH and has an entry point of the group `torch.backends`. It writes one line of
JSON for each parameter when it is first seen, one for each step of an optimizer, one at the end.
"""

from __future__ import annotations

import atexit
import functools
import gc
import hashlib
import itertools
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SEED = 7  # of programs that seed nothing themselves


def begin() -> None:
    """Seed what has no seed, and note every step from now on."""
    import torch

    random.seed(SEED)
    torch.manual_seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    Observer(Path(os.environ["OBSERVED"]))


class Observer:
    """Hashes of weights and random states, norms, rates and names, into a file of this process.

    It holds no tensor and no optimizer: those that a program lets go of must go.
    """

    def __init__(self, folder: Path) -> None:
        from torch.optim import optimizer
        from torch.utils.weak import WeakIdKeyDictionary

        self._path = folder / f"{os.environ.get('RANK', '0')}.{os.getpid()}.jsonl"
        self._pid = os.getpid()
        self._numbers = itertools.count()
        self._keys: Any = WeakIdKeyDictionary()  # a number for each tensor of an optimizer
        self._told: Any = WeakIdKeyDictionary()  # those that have been written down
        self._unheard: Any = WeakIdKeyDictionary()  # frozen ones: whether they had a gradient
        self._optimizers: Any = WeakIdKeyDictionary()  # a number for each that has stepped
        self._num_optimizers = 0
        self._stepped: set[int] = set()
        self._new_gradient = False
        self._iteration = -1
        self._consumed: dict[int, dict[int, float]] = {}
        optimizer.register_optimizer_step_pre_hook(self._before)
        optimizer.register_optimizer_step_post_hook(self._after)
        atexit.register(self._end)

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(tensor not in self._told for tensor in _held(optimizer)):
            self._look_around(optimizer)
        self._hear(_held(optimizer))
        number = self._optimizers[optimizer]
        _, *given = args  # torch hands the optimizer over as the first argument as well
        closure = given[0] if given else kwargs.get("closure")
        evaluates = closure is not None  # with a backward of its own
        if self._iteration < 0 or self._new_gradient or number in self._stepped or evaluates:
            self._iteration += 1
            self._stepped.clear()
        self._consumed.pop(number, None)
        if closure is None:
            self._consume(optimizer)
            return None

        @functools.wraps(closure)
        def evaluated(*words: Any, **named: Any) -> Any:
            loss = closure(*words, **named)
            if number not in self._consumed:  # LBFGS evaluates it often; its first tells the step
                self._consume(optimizer)
            return loss

        if given:
            return (optimizer, evaluated, *given[1:]), kwargs
        return args, {**kwargs, "closure": evaluated}

    def _consume(self, optimizer: Any) -> None:
        with_gradient = [tensor for tensor in _held(optimizer) if tensor.grad is not None]
        norms = {self._keys[tensor]: _norm(tensor.grad) for tensor in with_gradient}
        self._consumed[self._optimizers[optimizer]] = norms

    def _after(self, optimizer: Any, *_: Any) -> None:
        number = self._optimizers[optimizer]
        self._write(
            kind="step",
            iteration=self._iteration,
            optimizer=number,
            lr=float(optimizer.param_groups[0]["lr"]),
            weights=_digest(_held(optimizer)),
            random=_random_state(),
            norms=self._consumed.pop(number, {}),
        )
        self._stepped.add(number)
        self._new_gradient = False

    def _look_around(self, optimizer: Any) -> None:
        """Note all optimizers and what they hold: a backward may come before their first step."""
        import torch

        if optimizer not in self._optimizers:
            self._optimizers[optimizer] = self._num_optimizers
            self._num_optimizers += 1
        for each in (optimizer, *_alive(torch.optim.Optimizer)):
            for tensor in _held(each):
                if tensor not in self._keys:
                    self._keys[tensor] = next(self._numbers)
                    self._unheard[tensor] = tensor.grad is not None
            self._hear(() if each is optimizer else _held(each))
        names = _names_in_modules()
        for tensor in _held(optimizer):
            if tensor not in self._told:
                self._told[tensor] = True
                self._write(
                    kind="parameter",
                    key=self._keys[tensor],
                    name=names.get(id(tensor), ""),
                    optimizer=self._optimizers[optimizer],
                    split=any(place.is_shard() for place in getattr(tensor, "placements", ())),
                )

    def _hear(self, tensors: Iterable[Any]) -> None:
        """Be told of gradients; a frozen tensor cannot tell, so look whether one has come since."""
        for tensor in tensors:
            if tensor in self._unheard and tensor.requires_grad:
                had_gradient = self._unheard.pop(tensor)
                self._new_gradient |= tensor.grad is not None and not had_gradient
                tensor.register_post_accumulate_grad_hook(self._gradient_came)

    def _gradient_came(self, _: Any) -> None:
        self._new_gradient = True

    def _end(self) -> None:
        import torch

        if os.getpid() != self._pid:  # a fork
            return
        gc.collect()  # what nobody holds any more might be gone in one run and not in the other
        digests = sorted(
            _digest((*module.parameters(recurse=False), *module.buffers(recurse=False)))
            for module in _alive(torch.nn.Module)
            if "_buffers" in module.__dict__
        )
        if digests:
            weights = hashlib.sha256("".join(digests).encode()).hexdigest()
            names = [] if self._told else sorted(_names_in_modules().values())
            self._write(kind="end", weights=weights, random=_random_state(), names=names)

    def _write(self, **line: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _alive(kind: type) -> list[Any]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kind)]


def _held(optimizer: Any) -> Iterator[Any]:
    for group in getattr(optimizer, "param_groups", ()):
        yield from group["params"]


def _names_in_modules() -> dict[int, str]:
    """The name of each parameter in the outermost module that holds it, as if not compiled."""
    import torch

    names: dict[int, str] = {}
    for module in _alive(torch.nn.Module):
        if "_parameters" not in module.__dict__:
            continue
        for name, parameter in module.named_parameters():
            parts = [part for part in name.split(".") if part != "_orig_mod"]
            if len(parts) > names.get(id(parameter), "").count(".") + (id(parameter) in names):
                names[id(parameter)] = ".".join(parts)
    return names


def _local(tensor: Any) -> Any:
    """What this process holds of it."""
    if "torch.distributed.tensor" in sys.modules:
        from torch.distributed.tensor import DTensor

        if isinstance(tensor, DTensor):
            return tensor.to_local()
    return tensor


def _norm(gradient: Any) -> float:
    """The L2 norm of what this process holds, in double precision."""
    import numpy as np
    import torch

    local = _local(gradient.detach())
    local = local.coalesce().values() if local.is_sparse else local
    return float(np.linalg.norm(local.cpu().to(torch.float64).reshape(-1).numpy()))


def _digest(tensors: Iterable[Any]) -> str:
    import torch

    digest = hashlib.sha256()
    for tensor in tensors:
        local = _local(tensor.detach()).cpu().contiguous().reshape(-1)
        digest.update(local.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _random_state() -> str:
    """Of torch, of NumPy and of Python."""
    import torch

    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if "numpy" in sys.modules:
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        digest.update(repr((kind, rest)).encode() + keys.tobytes())
    digest.update(repr(random.getstate()).encode())
    return digest.hexdigest()
