"""Record the signals of the modules that are called in one step. It holds the graph of that step,
and ends with it.
"""

from __future__ import annotations

import inspect
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.birth.held_calls import tensors_in
from seismograd.capture.graph.traversal import saved
from seismograd.capture.xray import attention
from seismograd.capture.xray.call_record import CallRecord
from seismograd.capture.xray.followed_modules import FollowedModule
from seismograd.capture.xray.measured import Fetched, Number, is_measurable, size_of
from seismograd.capture.xray.module_calls import is_in_backward, runs_here
from seismograd.capture.xray.recurrence import is_recurrent, kept_steps, rms_in_time, time_axis
from seismograd.capture.xray.saturation import kind_of, saturated_share
from seismograd.capture.xray.signal_hooks import INPUT, OUTPUT, SignalHooks
from seismograd.capture.xray.sources import way_back
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import without_user_modes

MAX_CALLS = 128  # of one module
MAX_RECORDS = 8192
ATTENTION = "scaled_dot_product_attention"

has_dispatch_modes = torch._C._len_torch_dispatch_stack  # pyright: ignore


@dataclass(eq=False, slots=True)
class Call:
    """A call that runs."""

    followed: FollowedModule
    module: Any
    args: tuple[Any, ...]
    source: CallRecord | None = None
    node: Any = None  # of its input
    number: int = 0
    given: Tensor | None = None  # its input
    leaf: Tensor | None = None  # ours, in place of an input that needs no gradient


class SignalRecorder:
    """Takes the calls of one step, and the gradients that come back through them."""

    def __init__(self, followed: dict[int, FollowedModule], thread: int) -> None:
        self._followed, self._thread = followed, thread
        self.records: list[CallRecord] = []
        self._fetched = Fetched()
        self._hooks = SignalHooks(self._fetched)
        self._known: dict[Any, CallRecord] = {}  # by the node that made the result
        self._num_calls: dict[str, int] = {}
        self._stack: list[Call] = []
        self._has_run_back = False
        self._cost_s = 0.0

    @property
    def cost_s(self) -> float:
        """Return the seconds that were spent so far."""
        return self._cost_s + self._hooks.cost_s

    def begins(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Take the input of a call."""
        followed = self._followed.get(id(module))
        if followed is None or followed.module() is not module:
            return None
        if (
            not torch.is_grad_enabled()
            or has_dispatch_modes()
            or not runs_here(self._thread)
            or is_capturing()
            or (self._stack and self._stack[-1].module is module)
            or (self._stack and self._stack[-1].followed.is_whole)
        ):
            return None
        call = Call(followed, module, args)
        if followed.is_whole:
            if not self._is_new(followed.name):
                return None
            began_s = time.perf_counter()
            self._take_input(call, args, kwargs)
            self._cost_s += time.perf_counter() - began_s
        self._stack.append(call)
        return call

    def left(self, entry: Call) -> None:
        """Note that the call is over."""
        if entry in self._stack:
            del self._stack[self._stack.index(entry) :]

    def ends(self, entry: Call, kwargs: dict[str, Any], result: Any) -> None:
        """Take the result of a call."""
        if not entry.followed.is_whole:
            return
        began_s = time.perf_counter()
        returned = _first(result)
        if returned is not None:
            followed = entry.followed
            record = self._record(followed.name, followed.type, returned, entry.source)
            record.call = self._num_calls.get(followed.name, 0)
            self._num_calls[followed.name] = record.call + 1
            if entry.node is not None:
                self._hooks.want(entry.node, entry.number, record, INPUT)
            self._saturation(record, kind_of(followed.type), entry.given, returned)
            if is_recurrent(entry.module):
                self._in_time(entry, record, returned)
            elif isinstance(entry.module, torch.nn.MultiheadAttention):
                self._attention_of(record, entry, kwargs)
        self._cost_s += time.perf_counter() - began_s

    def attends(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Take a call of the function, in the module that runs."""
        if (
            not self._stack
            or self._stack[-1].followed.is_whole
            or not torch.is_grad_enabled()
            or has_dispatch_modes()
            or not runs_here(self._thread)
            or not is_measurable(result)
        ):
            return
        began_s = time.perf_counter()
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        name = self._stack[-1].followed.name
        if self._is_new(f"{name}/{ATTENTION}") and is_measurable(given["query"]):
            record = self._record(name, ATTENTION, result, self._source(given["query"]))
            record.call = self._num_calls.get(f"{name}/{ATTENTION}", 0)
            self._num_calls[f"{name}/{ATTENTION}"] = record.call + 1
            found = attention.of_query_and_key(
                given["query"],
                given["key"],
                given.get("attn_mask"),
                bool(given.get("is_causal", False)),
                given.get("scale"),
            )
            self._add_attention(record, found)
        self._cost_s += time.perf_counter() - began_s

    def backward_ended(self) -> None:
        """Note that calls from here on are of another part of the step."""
        self._has_run_back = True

    def finish(self) -> list[CallRecord]:
        """Take everything off, and return what was recorded."""
        began_s = time.perf_counter()
        self._hooks.remove()
        self._known.clear()
        self._stack.clear()
        with without_user_modes():
            self._fetched.finish()
        self._cost_s += time.perf_counter() - began_s
        return self.records

    def _is_new(self, name: str) -> bool:
        """Return whether a call of this name is still to be recorded: in a backward, only what was
        not heard before (a checkpoint that computes anew what it had computed without a graph);
        after one, only what it did not reach.
        """
        num_calls = self._num_calls.get(name, 0)
        if is_in_backward() == -1 and self._has_run_back and num_calls:
            mine = [each for each in self.records if self._key(each) == name]
            if any(each.has_signal for each in mine):
                return False
            gone = {id(each) for each in mine}
            self.records = [each for each in self.records if id(each) not in gone]
            num_calls = self._num_calls[name] = 0
        if is_in_backward() != -1 and num_calls:
            return False
        return num_calls < MAX_CALLS and len(self.records) < MAX_RECORDS

    @staticmethod
    def _key(record: CallRecord) -> str:
        return f"{record.name}/{ATTENTION}" if record.type == ATTENTION else record.name

    def _take_input(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find where the input of a call came from."""
        given = _first(args[0]) if args and type(args[0]) is Tensor else None
        if given is None:
            given = _first((args, kwargs))
        if given is None:
            return
        call.given = given
        if given.grad_fn is not None:
            call.node, call.number = given.grad_fn, given.output_nr
            call.source = self._source(given)
        elif is_recurrent(call.module) and args and args[0] is given and not given.requires_grad:
            with without_user_modes():
                call.leaf = given.detach().requires_grad_()
            call.args = (call.leaf, *args[1:])

    def _source(self, given: Tensor) -> CallRecord | None:
        """Return the record that a tensor came from, after recording the activations and sums in
        between.
        """
        steps = list(way_back(given.grad_fn, self._known))
        source = self._known[steps.pop().node] if steps and steps[-1].kind == "known" else None
        for step in reversed(steps):
            name = "" if source is None else source.name
            is_here = step.node is given.grad_fn or step is steps[0]
            bypass = None if step.other is None else self._behind(step.other)
            record = CallRecord(name, step.kind, source=source, bypass=bypass, expects=True)
            self.records.append(record)
            if is_here:
                self._measure(record, given)
            self._saturation(
                record, kind_of(step.kind), saved(step.node, "self"), given if is_here else None
            )
            self._know(step.node, 0, record)
            source = record
        return source

    def _behind(self, node: Any) -> CallRecord | None:
        """Return the record that lies behind a node, without recording anything in between."""
        step = next((each for each in way_back(node, self._known) if each.kind == "known"), None)
        return None if step is None else self._known[step.node]

    def _record(
        self, name: str, kind: str, returned: Tensor, source: CallRecord | None
    ) -> CallRecord:
        record = CallRecord(name, kind, source=source, expects=returned.requires_grad)
        self.records.append(record)
        self._measure(record, returned)
        if returned.grad_fn is not None:
            self._know(returned.grad_fn, returned.output_nr, record)
        return record

    def _know(self, node: Any, number: int, record: CallRecord) -> None:
        self._known[node] = record
        self._hooks.want(node, number, record, OUTPUT)

    def _measure(self, record: CallRecord, tensor: Tensor) -> None:
        record.numbers["numel"] = float(tensor.numel())
        with without_user_modes():
            size = size_of(tensor)
        for name, number in zip(size._fields, size, strict=True):
            self._add(record, name, number)

    def _saturation(
        self, record: CallRecord, kind: str, given: Tensor | None, returned: Tensor | None
    ) -> None:
        if kind == "relu" and _is_known(record):
            self._add(record, "saturated", record.numbers["zeros"])
        elif kind and (given is None or is_measurable(given)):
            with without_user_modes():
                share = saturated_share(kind, given, returned)
            if share is not None:
                self._add(record, "saturated", share)

    def _in_time(self, call: Call, record: CallRecord, returned: Tensor) -> None:
        """Record the steps of a sequence."""
        given = call.given if call.leaf is None else call.leaf
        if given is None or not call.args or call.args[0] is not given:
            return  # a packed sequence, for example
        if given.dim() not in (2, 3) or returned.dim() != given.dim():
            return
        axis = time_axis(call.module, given)
        steps = kept_steps(given.shape[axis])
        in_time = rms_in_time(axis, steps)
        records = [
            CallRecord(record.name, record.type, record.call, step, record, expects=record.expects)
            for step in steps
        ]
        self.records += records
        with without_user_modes():
            for each, size in zip(records, in_time(returned), strict=True):
                self._add(each, "rms", size)
        if returned.grad_fn is not None:
            place = returned.grad_fn, returned.output_nr
            self._hooks.want_in_time(*place, records, "signal_rms", in_time)
        if call.leaf is not None:
            self._hooks.of_tensor(call.leaf, records, in_time)
        elif call.node is not None:
            self._hooks.want_in_time(call.node, call.number, records, "input_signal_rms", in_time)

    def _attention_of(self, record: CallRecord, call: Call, kwargs: dict[str, Any]) -> None:
        forward: Any = torch.nn.MultiheadAttention.forward
        given = inspect.signature(forward).bind(call.module, *call.args, **kwargs).arguments
        if is_measurable(given["query"]) and is_measurable(given["key"]):
            found = attention.of_module(call.module, given["query"], given["key"], given)
            self._add_attention(record, found)

    def _add_attention(self, record: CallRecord, found: tuple[Tensor, Tensor] | None) -> None:
        if found is not None:
            self._add(record, "attention_logit", found[0])
            self._add(record, "attention_entropy", found[1])

    def _add(self, record: CallRecord, name: str, number: Number) -> None:
        self._fetched.add(record.numbers, name, number)


def _is_known(record: CallRecord) -> bool:
    """Return whether the numbers of a result are here, and all scalars numbers."""
    return not math.isnan(record.numbers.get("largest", math.nan))


def _first(thing: Any) -> Tensor | None:
    """Return the first tensor among arguments or results that can be measured."""
    if type(thing) is Tensor:
        return thing if is_measurable(thing) else None
    return next((each for each in tensors_in(thing) if is_measurable(each)), None)
