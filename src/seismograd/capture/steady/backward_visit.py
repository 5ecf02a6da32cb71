"""The short way of a backward."""

from __future__ import annotations

from typing import Any

import torch

from seismograd.capture.graph.large_exponentials import MIN_LOSS
from seismograd.capture.hooks.backward import SHARED
from seismograd.capture.loop.look_schedule import LOOKS
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.probes.summed_losses import NUMBERS
from seismograd.capture.steady.steady_parts import SteadyParts
from seismograd.exception_origin import raised_by_user
from seismograd.measure.native import tensor_reads
from seismograd.schema import EventKind
from seismograd.tensors.device_scalars import Scalar


class BackwardVisit:
    """Handles what `capture.hooks.backward.BackwardHooks` does with the backward of one loss into
    the only optimizer, when nothing is to be looked at that is looked at now and then only.
    """

    def __init__(self, parts: SteadyParts) -> None:
        self._loop, self._guard, self._log = parts.loop, parts.guard, parts.log
        self._registry, self._iteration_queue = parts.registry, parts.iteration_queue
        self._backwards, self._reductions = parts.backwards, parts.reductions
        self._modes, self._remade, self._frozen = parts.modes, parts.remade, parts.frozen
        self._xray = parts.xray

    def backward_begins(self, thread_state: ThreadState, tensors: Any) -> bool:
        """Handle its start, or return `False` for the full way."""
        loop, registry, backwards = self._loop, self._registry, self._backwards
        window, table = loop.window, registry.parameter_table
        if (
            window is None
            or type(tensors) is not torch.Tensor
            or not backwards.touched
            or not backwards.has_looked
            or registry.open_windows is not loop.windows
            or registry.died
            or window.thread_state is not thread_state
            or window.stepping
            or window.per_loss.several
            or thread_state.loss is not None
            or self._reductions.since_backward
            or self._xray.recorder is not None
            or (table.unordered and table.wants_order())
        ):
            return False
        clearing = window.clearing
        for reference in clearing.parameters:
            parameter = reference()
            if parameter is not None and parameter.requires_grad:
                break
        else:
            return False
        now = tensor_reads.marks(clearing.parameters)
        if (
            (clearing.is_used and now != clearing.none)
            or True in clearing.carried
            or (window.losses and not clearing.is_used and now != clearing.last)
        ):
            return False
        backwards.num_heard = number = backwards.num_heard + 1
        if thread_state.iteration.steps:
            self._iteration_queue.end_iteration(thread_state)
        thread_state.loss = loss = Scalar(tensors)
        if loss.tensor is not None:
            self._log.wait_for((loss,))
        thread_state.captured = captured = self._log.record(
            thread_state, EventKind.BACKWARD, value=loss, scale=thread_state.loss_scale
        )
        clearing.before = now
        # Look at the loss as `LossInspection.backward_begins` does, and at what only some losses
        # have only where this may be one of them.
        inspection, extras = backwards.inspection, self._iteration_queue.thinning.extras
        listed, tops, site = (tensors,), [tensors.grad_fn], captured.site
        profiles, at_site, withheld = (
            inspection.time_profiles,
            inspection.num_at_site,
            inspection.withheld,
        )
        inspected, last = at_site.get(site, 0) + 1, window.last
        if (
            number in LOOKS
            or inspected in LOOKS
            or abs(loss.value) >= MIN_LOSS
            or profiles.running
            or profiles.is_recurrent
            or inspected in NUMBERS
            or inspection.sums.every_tenth
            or number >= withheld.next_look
            or withheld.is_suspicious
            or withheld.is_listening
            or tops[0] is None
            or (last is not None and not last.is_ordinary and window.has_zero_gradients())
        ):
            inspection.backward_begins(
                thread_state, captured, listed, tops, loop.windows, number, extras
            )
        else:
            part = "birth"  # a failure of either is its own, as there
            try:
                inspection.births.backward_begins(tops, extras)
                part = "graph"
                inspection.losses.look(thread_state, captured, listed, tops, loop.windows, extras)
            except Exception as error:
                if raised_by_user(error):
                    raise
                self._guard.failed(part, error)
            at_site[site] = inspected
        modes, version = self._modes, table.version
        if modes.watched or modes.version != version:
            modes.backward_begins(thread_state, tensors)
        if not self._remade.is_over:
            self._remade.backward_begins(thread_state, tensors)
        if self._frozen.version != version:
            self._frozen.backward_begins(thread_state, tensors)
        return True

    def backward_ends(self, thread_state: ThreadState) -> bool:
        """Handle its end, or return `False` and leave everything as it is."""
        loop, registry, backwards = self._loop, self._registry, self._backwards
        window, loss, captured = loop.window, thread_state.loss, thread_state.captured
        if (
            window is None
            or loss is None
            or captured is None
            or not backwards.touched
            or backwards.leaves
            or registry.open_windows is not loop.windows
            or registry.died
            or window.thread_state is not thread_state
            or window.stepping
            or window.eager
            or window.evaluates_again
            or window.per_loss.taking
            or self._xray.recorder is not None
        ):
            return False
        clearing = window.clearing
        now = tensor_reads.marks(clearing.parameters)
        if now == clearing.before:
            return False
        inspection = backwards.inspection
        if (
            backwards.num_heard in LOOKS
            or inspection.time_profiles.running
            or inspection.sums.running is not None
            or inspection.withheld.is_listening
            or inspection.flat_functions.is_listening
        ):
            inspection.backward_ends(captured, backwards.num_heard)
        scale = thread_state.loss_scale
        thread_state.loss = thread_state.loss_scale = thread_state.captured = None
        clearing.is_used = False
        clearing.last = clearing.before = now
        captured.touched |= window.bit
        per_loss = window.per_loss
        if per_loss.sites:
            per_loss.backward_heard(captured.site, captured.flags & SHARED != 0)
        else:  # the same for the first, without a call
            per_loss.sites.append(captured.site)
            per_loss.is_clear = False
        if window.last_operation < thread_state.last_operation:
            window.last_operation = thread_state.last_operation
        # what `OptimizerWindow.backward_ended` does
        window.num_backwards += 1
        window.num_heard += 1
        window.losses.append(loss)
        window.grad_scale = window.loss_scale = scale
        window.ready = window.applied = None
        window.clips = []
        return True
