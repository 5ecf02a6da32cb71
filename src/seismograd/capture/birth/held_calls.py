"""Keep references to what the trained models were last called with, and to the gradients that
reached what they returned, until the step: enough to call a model once more.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, is_dataclass
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor

from seismograd.capture.hooks.class_calls import UndoCall, replace_call
from seismograd.exception_origin import raised_by_user
from seismograd.measure.native import tensor_reads

new = object.__new__
MAX_CALLS = 8  # of all models between two steps: micro-batches
MAX_BYTES = 64 * 2**20  # of a gradient that is kept
MAX_OUTPUTS = 8
MAX_DEPTH = 3  # of containers within arguments

is_compiling = torch.compiler.is_compiling
is_grad_enabled = torch.is_grad_enabled
has_modes = torch._C._len_torch_function_stack  # pyright: ignore
has_dispatch_modes = torch._C._len_torch_dispatch_stack  # pyright: ignore
is_in_backward = torch._C._current_graph_task_id  # pyright: ignore


@dataclass(slots=True)
class HeldCall:
    """One call of a model. `gradients` are those of its outputs, by the order of its outputs;
    `last`: number of the last operation behind them; `problem`: why it cannot be repeated.
    """

    model: weakref.ref[torch.nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    versions: list[tuple[Tensor, int]]
    random: Tensor
    autocast: tuple[bool, torch.dtype]
    gradients: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    last: int = -1
    problem: str = ""

    def batch(self) -> int:
        """Return how many samples it was called with; 0 where that is not known."""
        sizes = [tensor.shape[0] for tensor, _ in self.versions if tensor.dim() > 0]
        return max(set(sizes), key=sizes.count) if sizes else 0

    def is_unchanged(self) -> bool:
        """Return whether no tensor among its arguments was changed in place since."""
        return all(tensor._version == version for tensor, version in self.versions)


class HeldCalls:
    """Holds the calls of models since the last step, the oldest first. `drop` forgets those whose
    model an optimizer has stepped.
    """

    def __init__(self, any_device: bool = False) -> None:
        self._any_device = any_device  # else those on the CPU only, which may be repeated
        self.calls: list[HeldCall] = []
        self.is_paused = False  # a model is called by us, or the budget is used up
        self._models: dict[int, weakref.ref[torch.nn.Module]] = {}
        self._parameters: dict[int, frozenset[int]] = {}  # ids, by the id of the model
        self._undo: dict[type, UndoCall] = {}

    def follow(self, models: Iterable[torch.nn.Module]) -> None:
        """Hold the calls of these models from now on."""
        for model in models:
            known = self._models.get(id(model))
            if (known is not None and known() is model) or not _may_follow(model):
                continue
            self._models[id(model)] = weakref.ref(model)
            self._parameters[id(model)] = frozenset(map(id, model.parameters()))
            if type(model) not in self._undo:
                self._undo[type(model)] = self._install(type(model))

    def drop(self, parameters: Iterable[Tensor]) -> None:
        """Forget the calls of models that hold any of these parameters."""
        kept: list[HeldCall] = []
        first = next(iter(parameters), None)
        for call in self.calls if first is not None else ():
            model = call.model()
            if model is not None and id(first) not in self._parameters.get(id(model), ()):
                kept.append(call)
        self.calls = kept

    def stop(self) -> None:
        """Leave no trace."""
        for undo in self._undo.values():
            undo()
        self._undo.clear()
        self._models.clear()
        self.calls = []

    def _install(self, kind: type) -> UndoCall:
        """Give a class of models a `__call__` that holds what it is called with."""
        original: Any = kind.__call__
        hold = self._hold

        @wraps(original)
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if is_compiling():
                return original(self, *args, **kwargs)
            held = hold(self, args, kwargs)
            result = original(self, *args, **kwargs)
            if held is not None:
                _returned(held, result)
            return result

        return replace_call(kind, __call__)

    def _hold(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HeldCall | None:
        """Return what is held of a call that begins; `None` where it is no training of ours."""
        reference = self._models.get(id(model))
        if reference is None or self.is_paused or reference() is not model:
            return None
        problem = ""
        try:  # not in a method: nearly every forward pass of a training comes through here
            state = None if kwargs else tensor_reads.called(args)
            if state is None:
                if (
                    not is_grad_enabled()
                    or has_modes()
                    or is_in_backward() != -1
                    or has_dispatch_modes()
                ):
                    return None
                versions: list[tuple[Tensor, int]] = []
                for each in (*args, *kwargs.values()) if kwargs else args:
                    if type(each) is Tensor:
                        versions.append((each, each._version))
                    else:
                        versions += [(tensor, tensor._version) for tensor in tensors_in(each)]
                for tensor, _ in versions:
                    if not tensor.is_cpu:
                        if not self._any_device:
                            return None
                        problem = "device"
                autocast = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
                state = versions, torch.default_generator.get_state(), autocast
            held = new(HeldCall)  # without the call of its `__init__`
            held.model, held.args, held.kwargs = reference, args, kwargs
            held.versions, held.random, held.autocast = state
            held.gradients, held.last, held.problem = {}, -1, problem
            self.calls.append(held)
            if len(self.calls) > MAX_CALLS:
                del self.calls[0]
        except Exception as error:
            if raised_by_user(error):
                raise
            return None
        return held


def tensors_in(thing: Any, depth: int = 0) -> Iterator[Tensor]:
    """Yield the tensors among arguments or results, and in the containers and records that these
    are.
    """
    if isinstance(thing, Tensor):
        yield thing
    elif depth <= MAX_DEPTH:
        for each in _within(thing):
            yield from tensors_in(each, depth + 1)


def replaced(thing: Any, replacements: dict[int, Tensor], depth: int = 0) -> Any:
    """Return arguments with some tensors replaced, by their ids; containers are copied only where
    they hold one.
    """
    if isinstance(thing, Tensor):
        return replacements.get(id(thing), thing)
    if depth > MAX_DEPTH or type(thing) not in (tuple, list, dict):
        return thing
    if isinstance(thing, dict):
        items = cast("dict[Any, Any]", thing)
        return {key: replaced(value, replacements, depth + 1) for key, value in items.items()}
    listed = cast("list[Any]", thing)
    return type(listed)(replaced(each, replacements, depth + 1) for each in listed)


def _within(thing: Any) -> Iterable[Any]:
    """Return what a container or a record holds."""
    if isinstance(thing, dict):
        return list(cast("dict[Any, Any]", thing).values())
    if isinstance(thing, tuple | list):
        return cast("list[Any]", thing)
    kept: dict[str, Any] = getattr(thing, "__dict__", {})
    return list(kept.values()) if is_dataclass(thing) else ()


def _returned(held: HeldCall, result: Any) -> None:
    """Have the gradients of what a model returned kept when its backward comes to them."""
    try:
        last = tensor_reads.returned(result, held.gradients, MAX_BYTES)
        if last >= -1:
            held.last = last
            return
        outputs = (result,) if type(result) is Tensor else tensors_in(result)
        for number, output in enumerate(outputs):
            node: Any = output.grad_fn
            if node is None or number >= MAX_OUTPUTS:
                continue
            held.last = max(held.last, node._sequence_nr())
            if output.nbytes > MAX_BYTES:
                held.problem = "memory"
                continue
            node.register_prehook(tensor_reads.keeper(held.gradients, number, output.output_nr))
    except Exception as error:
        if raised_by_user(error):
            raise


def _may_follow(model: torch.nn.Module) -> bool:
    return not isinstance(model, torch.jit.ScriptModule) and type(type(model)) is type
