"""The visits of a steady step in C (native/), for the very objects that the short ways in this
folder have, and with the same record. Where the extension was not built, Python makes them.

The extension asks the attributes of these objects by their names, private ones, too: whoever
renames one renames it there (`native/names.inc`), else Python makes the visit and
`tests/capture/test_steady_calls.py` counts too many calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from seismograd.capture.birth.singular_operands import KEPT, MAX_OPERATIONS
from seismograd.capture.event_visits import EventVisits
from seismograd.capture.events import EventName, Listener
from seismograd.capture.graph.large_exponentials import MIN_LOSS
from seismograd.capture.graph.loss_observer import FIRST as FIRST_LOSSES
from seismograd.capture.graph.loss_reduction import COUNTS_TARGETS, MAX_HOPS
from seismograd.capture.graph.shared_forward import LOOKS as SHARING_LOOKS
from seismograd.capture.graph.traversal import LEAF
from seismograd.capture.hooks.backward import SHARED
from seismograd.capture.hooks.clip_grad import NORM, OTHER_NORM
from seismograd.capture.hooks.zero_grad import BY_OPTIMIZER, EMPTY, USED
from seismograd.capture.loop.call_sites import LIBRARY, USER
from seismograd.capture.loop.event_log import MAX_WITHOUT_STEP
from seismograd.capture.loop.iteration import (
    NOT_KNOWN,
    CapturedEvent,
    GradientReading,
    Iteration,
    OptimizerStep,
)
from seismograd.capture.loop.overhead_budget import WINDOW
from seismograd.capture.loop.pending_iterations import MAX_AGE_S
from seismograd.capture.loop.thread_state import NO_CLIP, RunningClip
from seismograd.capture.probes.group_settings import KEYS
from seismograd.capture.probes.intended_updates import COARSE
from seismograd.capture.probes.optimizer_state import EVERY, FIRST
from seismograd.capture.probes.pending_probe import PendingProbe
from seismograd.capture.probes.probed_updates import ProbedUpdates
from seismograd.capture.probes.summed_losses import NUMBERS
from seismograd.capture.probes.symmetry import LAST_EARLY_LOOK
from seismograd.capture.probes.update_probe import EVERY as TURN_EVERY
from seismograd.capture.probes.update_probe import (
    FEWEST_TURNS,
    MAX_SHARE_COPIED,
    MAX_SLICE,
    MIN_COPIED,
    MIN_SLICE,
    MOST_TURNS,
    NUM_DENSE,
)
from seismograd.capture.rows.applied_norm import AppliedClip
from seismograd.capture.rows.gradient_reading import NO_ELEMENTS, NO_SAMPLES
from seismograd.capture.rows.window_columns import NO_COLUMNS
from seismograd.capture.steady.extension import make_visits
from seismograd.capture.steady.rare_parts import RareParts
from seismograd.capture.steady.short_ways import ShortWays
from seismograd.measure.native import native_backend, tensor_reads
from seismograd.measure.native.library import DTYPE_CODES, ENTRY_WORDS
from seismograd.measure.native.native_table import NOT_KNOWN as POINTERS_NOT_KNOWN
from seismograd.measure.number_table import NumberTable
from seismograd.schema import HISTOGRAM_BINS, SAMPLE_EVERY, EventFlag, EventKind, StepFlag
from seismograd.tensors.device_scalars import Scalar

EVENTS = (
    "zero_grad_ends",
    "backward_begins",
    "backward_ends",
    "step_begins",
    "step_ends",
    "clip_begins",
    "clip_ends",
    # made by Python
    "scheduled",
)
Dispatch = Callable[..., None]


class NativeVisits:
    """Has the extension handle the events of nearly every step, and Python what it leaves.

    Args:
        short_ways: those of the session, with its parts.
        visits: what comes around the handlers of every event.
    """

    def __init__(self, short_ways: ShortWays, visits: EventVisits) -> None:
        parts = short_ways.parts
        self._event_visits, rare = visits, RareParts(parts)
        self._rare: dict[str, tuple[Callable[..., bool], ...]] = {
            "backward_begins": (rare.hold, rare.reduce, rare.xray_backward_begins),
            "backward_ends": (rare.xray_backward_ends,),
            "clip_begins": (rare.read,),
            "step_begins": (rare.read, rare.copy, rare.look, rare.state, rare.xray_step_begins),
            "step_ends": (rare.compare,),
        }
        named = _named(short_ways, visits)
        self._visits = None if named is None else make_visits(visits.lock, named)

    def forget(self) -> None:
        """Have everything asked again: something has changed without the lock of the session."""
        if self._visits is not None:
            self._visits.forget()

    def dispatcher(
        self,
        event: EventName,
        dispatch: Dispatch,
        others: Sequence[tuple[Listener, Callable[..., None]]],
        keeps: Callable[[EventName, tuple[object, ...], BaseException], bool],
    ) -> Dispatch:
        """Return what dispatches this event, where `dispatch` does it in Python. `keeps` says
        whether an exception is ours.
        """
        wakes = tuple(listener.wakes for listener, _ in others)
        # a listener that cannot be asked hears everything
        if self._visits is None or event not in EVENTS or None in wakes:
            return dispatch
        rare = (
            self._event_visits.dispatcher(event, each, (), (), keeps)
            for each in self._rare.get(event, ())
        )
        return self._visits.connect(event, dispatch, wakes, tuple(rare))


def _named(short_ways: ShortWays, visits: EventVisits) -> dict[str, Any] | None:
    """Return what the extension is given (`native/parts.inc`); `None` where gradients are not
    measured with the kernel.
    """
    parts, inspection = short_ways.parts, short_ways.parts.backwards.inspection
    reader, queue = vars(parts.reader), vars(parts.iteration_queue)  # private ones of theirs, too
    backend = reader["_backend"]
    kernel = getattr(backend, "kernel", None)
    if kernel is None or not tensor_reads.has_extension():
        return None
    return {
        "loop": parts.loop,
        "guard": parts.guard,
        "log": parts.log,
        "call_sites": parts.log.call_sites,
        "registry": parts.registry,
        "table": parts.registry.parameter_table,
        "iteration_queue": parts.iteration_queue,
        "budget": queue["_budget"],
        "endings": queue["_endings"],
        "backwards": parts.backwards,
        "inspection": inspection,
        "births": parts.births,
        "operands": parts.births.operands,
        "observer": inspection.losses,
        "sharing": vars(inspection.losses)["_sharing"],
        "reductions": parts.reductions,
        "modes": parts.modes,
        "remade": parts.remade,
        "frozen": parts.frozen,
        "xray": parts.xray,
        "step_visit": short_ways.step,
        "spent": parts.spent,
        "successors": parts.successors,
        "overwritten": parts.overwritten,
        "settings": parts.settings,
        "copies": parts.copies,
        "rates": parts.rates,
        "coverage": parts.coverage,
        "sampling": parts.sampling,
        "reader_steps": reader["_steps"],
        "sketcher": reader["_sketcher"],
        "elements": reader["_elements"],
        # which knows what part of each tensor this process holds
        "local_backend": backend if hasattr(backend, "checksum") else None,
        "native_backend": kernel,
        "visits": visits,
        "by_thread": visits.thread_states.by_thread,
        "perf_counter": time.perf_counter,
        **_CLASSES,
        **_CONSTANTS,
        **_FUNCTIONS,
    }


_CLASSES: dict[str, Any] = {
    "captured_event": CapturedEvent,
    "scalar": Scalar,
    "iteration": Iteration,
    "optimizer_step": OptimizerStep,
    "gradient_reading": GradientReading,
    "number_table": NumberTable,
    "running_clip": RunningClip,
    "applied_clip": AppliedClip,
    "pending_probe": PendingProbe,
    "probed_updates": ProbedUpdates,
    "tensor": torch.Tensor,
    "parameter": torch.nn.Parameter,
}
_CONSTANTS: dict[str, Any] = {
    "not_known": NOT_KNOWN,
    "no_clip": NO_CLIP,
    "event_flag_none": EventFlag.NONE,
    "kind_clip": EventKind.CLIP,
    "kind_norm": NORM,
    "other_norm": OTHER_NORM,
    "kind_zero_grad": EventKind.ZERO_GRAD,
    "kind_backward": EventKind.BACKWARD,
    "kind_step": EventKind.STEP,
    "by_optimizer": BY_OPTIMIZER,
    "zero": 0,
    "minus_one": -1,
    "empty": EMPTY,
    "setting_keys": KEYS,
    "used": USED,
    "nan": math.nan,
    "numbers": NUMBERS,
    "kept_operations": KEPT,
    "leaf": LEAF,
    "max_operations": MAX_OPERATIONS,
    "max_hops": MAX_HOPS,
    "step_flag_none": StepFlag.NONE,
    "no_columns": NO_COLUMNS,
    "no_samples": NO_SAMPLES,
    "no_elements": NO_ELEMENTS,
    "places": native_backend.PLACES,
    "num_numbers": len(native_backend.NUMBERS),
    "entry_words": ENTRY_WORDS,
    "norm": native_backend.NORM,
    "nonfinite": native_backend.NONFINITE,
    "dead_rows": native_backend.DEAD_ROWS,
    "pointers_not_known": POINTERS_NOT_KNOWN,
    "torch_cuda": torch.cuda,
    # in the order of `Limits` there
    "counts_targets": COUNTS_TARGETS,
    "dtype_numbers": DTYPE_CODES,
    "coarse": COARSE,
    "limits": (
        USER,
        LIBRARY,
        MAX_WITHOUT_STEP,
        FIRST_LOSSES,
        SAMPLE_EVERY,
        WINDOW,
        EVERY,
        FIRST,
        LAST_EARLY_LOOK,
        NUM_DENSE,
        MOST_TURNS,
        FEWEST_TURNS,
        TURN_EVERY,
        MAX_SLICE,
        MIN_SLICE,
        MIN_COPIED,
        SHARING_LOOKS,
        SHARED,
        HISTOGRAM_BINS,
        MAX_AGE_S,
        MIN_LOSS,
        MAX_SHARE_COPIED,
    ),
}
_FUNCTIONS: dict[str, Any] = {
    "num_modes": torch._C._len_torch_function_stack,  # pyright: ignore
    "num_dispatch_modes": torch._C._len_torch_dispatch_stack,  # pyright: ignore
    "data_ptr": torch.Tensor.data_ptr,
    "item": torch.Tensor.item,
    "is_contiguous": torch.Tensor.is_contiguous,
    "untyped_storage": torch.Tensor.untyped_storage,
    "storage_nbytes": torch.UntypedStorage.nbytes,
    "num_threads": torch.get_num_threads,
    "gradients": tensor_reads.gradients,
    "measure": tensor_reads.measure,
    "measure_sample": tensor_reads.measure_sample,
    "num_parameters_below": tensor_reads.num_parameters_below,
    "loss_as_before": tensor_reads.loss_as_before,
    "number_of_loss": tensor_reads.number_of_loss,
    "keep_slices": tensor_reads.keep_slices,
    "compare_slices": tensor_reads.compare_slices,
    "mean_of_loss": tensor_reads.mean_of_loss,
    "new_array": np.empty,
}
