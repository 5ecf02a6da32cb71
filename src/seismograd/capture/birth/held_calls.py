"""Keep references to what the trained models were last called with, and to the gradients that
reached what they returned, until the step: enough to call a model once more.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor

from seismograd.capture.hooks.class_calls import UndoCall, replace_call
from seismograd.exception_origin import raised_by_user
from seismograd.measure.native import tensor_reads
from seismograd.tensors.isolation import without_user_modes

new = object.__new__
MAX_CALLS = 8  # of all models between two steps: micro-batches
MAX_BYTES = 64 * 2**20  # of a gradient that is kept
MAX_OUTPUTS = 8
MAX_DEPTH = 3  # of containers within arguments
CHECKED_EVERY = 32  # calls, of those that are held the short way

# The model; in how many calls it is checked whether the short way keeps the same, `NEVER`: it does
# not; whether its forward draws random numbers.
Followed = list[Any]
MODEL, DUE, DRAWS = range(3)
NEVER = -1

is_compiling = torch.compiler.is_dynamo_compiling  # an export without it is in modes
is_grad_enabled = torch.is_grad_enabled
has_modes = torch._C._len_torch_function_stack  # pyright: ignore
has_dispatch_modes = torch._C._len_torch_dispatch_stack  # pyright: ignore
is_in_backward = torch._C._current_graph_task_id  # pyright: ignore


class HeldCall(tensor_reads.HeldFields):
    """One call of a model. `versions`: the tensors it was given, and how often each had been
    changed; `random`: the state of the generator before it, `None` where its calls draw no number;
    `autocast`: `None` where it was on for no device. `gradients` are those of its outputs, by the
    order of its outputs; `last`: number of the last operation behind them; `problem`: why it cannot
    be repeated.
    """

    __slots__ = ()

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

    The short way (`tensor_reads.entered` and `left`) has the gradient kept by a hook of the output,
    which costs much less than one of its node but comes before those that the program gives to the
    output later, and leaves the state of the generator out where no number is drawn. So each model
    begins the other way, and every so many calls of it go that way, to see that both keep the same.
    """

    def __init__(self, any_device: bool = False) -> None:
        self._any_device = any_device  # else those on the CPU only, which may be repeated
        self.calls: list[HeldCall] = []
        self.is_paused = False  # a model is called by us, or the budget is used up
        self._models: dict[int, Followed] = {}
        self._parameters: dict[int, frozenset[int]] = {}  # ids, by the id of the model
        self._undo: dict[type, UndoCall] = {}
        with without_user_modes():  # lends its hooks to the outputs
            self._lender = torch.empty(0, device="cpu", dtype=torch.float32)

    def follow(self, models: Iterable[torch.nn.Module]) -> None:
        """Hold the calls of these models from now on."""
        for model in models:
            known = self._models.get(id(model))
            if (known is not None and known[MODEL]() is model) or not _may_follow(model):
                continue
            self._models[id(model)] = [weakref.ref(model), 0, True]
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
        calls, models, lender = self, self._models, self._lender
        hold, returned = self._hold, self._returned

        @wraps(original)
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if is_compiling():
                return original(self, *args, **kwargs)
            held = tensor_reads.entered(models, calls, self, args, kwargs, HeldCall, MAX_CALLS)
            is_short = held is not False
            if not is_short:
                held = hold(self, args, kwargs)
            result = original(self, *args, **kwargs)
            if held is not None and not (
                is_short and tensor_reads.left(held, result, lender, MAX_BYTES)
            ):
                returned(held, result)
            return result

        return replace_call(kind, __call__)

    def _hold(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HeldCall | None:
        """Return what is held of a call that begins; `None` where it is no training of ours."""
        followed = self._models.get(id(model))
        if followed is None or self.is_paused or followed[MODEL]() is not model:
            return None
        problem = ""
        try:
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
            held = new(HeldCall)  # without the call of its `__init__`
            held.model, held.args, held.kwargs = followed[MODEL], args, kwargs
            held.versions, held.random = versions, torch.default_generator.get_state()
            held.autocast = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
            held.gradients, held.last, held.problem = {}, -1, problem
            self.calls.append(held)
            if len(self.calls) > MAX_CALLS:
                del self.calls[0]
        except Exception as error:
            if raised_by_user(error):
                raise
            return None
        return held

    def _returned(self, held: HeldCall, result: Any) -> None:
        """Have the gradients of what a model returned kept when its backward comes to them."""
        try:
            followed = self._models.get(id(held.model()))
            is_due = followed is not None and _is_due(followed, held, result)
            outputs = (result,) if type(result) is Tensor else tensors_in(result)
            for number, output in enumerate(outputs):
                node: Any = output.grad_fn
                if node is None or number >= MAX_OUTPUTS:
                    continue
                held.last = max(held.last, node._sequence_nr())
                if output.nbytes > MAX_BYTES:
                    held.problem = "memory"
                    continue
                keep = tensor_reads.keeper(held.gradients, number, output.output_nr)
                if followed is not None and is_due:
                    keep = _checking(keep, node, self._lender, followed)
                node.register_prehook(keep)
        except Exception as error:
            if raised_by_user(error):
                raise


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


def _is_due(followed: Followed, held: HeldCall, result: Any) -> bool:
    """Return whether it is to be checked which gradient the short way would keep, and note what
    else decides over that way when it is due.
    """
    if followed[DUE] != 0 or held.random is None or not tensor_reads.has_extension():
        return False
    followed[DRAWS] = not torch.equal(torch.default_generator.get_state(), held.random)
    if type(result) is Tensor and result.output_nr == 0 and result.grad_fn is not None:
        return True
    followed[DUE] = CHECKED_EVERY  # of other results Python has the gradients kept in any case
    return False


def _checking(
    keep: tensor_reads.Keeper, node: Any, lender: Tensor, followed: Followed
) -> tensor_reads.Keeper:
    """Return a hook of a node that does what this one does, and notes whether the hook of its
    output that the short way has would keep the same gradient.
    """
    seen: list[Tensor] = []

    def see(gradient: Tensor | None) -> None:
        if gradient is not None and not gradient.requires_grad:  # else its graph would be in a ring
            seen[:] = [gradient]

    def check(incoming: tuple[Tensor, ...]) -> None:
        keep(incoming)
        if seen:
            followed[DUE] = CHECKED_EVERY if seen.pop() is incoming[0] else NEVER

    lender._backward_hooks = {0: see}  # type: ignore[assignment]  # pyright: ignore
    try:
        node._register_hook_dict(lender)
    finally:
        lender._backward_hooks = None
    return check


def _may_follow(model: torch.nn.Module) -> bool:
    return not isinstance(model, torch.jit.ScriptModule) and type(type(model)) is type
