"""The rotating update probe: which parameters' updates are measured in which step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.intended_updates import COARSE
from seismograd.capture.probes.pending_probe import NO_OTHERS, PendingProbe
from seismograd.capture.probes.probed_updates import ProbedUpdates
from seismograd.measure.backend_selection import best_copies
from seismograd.measure.native import tensor_reads
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.dtensor import num_held

EVERY = 10  # steps of its optimizer after which a parameter's turn comes again, if there are few
FEWEST_TURNS = 8  # in a step: copying several together takes half as long as one by one
MOST_TURNS = 16  # in a step
NUM_DENSE = 100  # the first steps, each of which probes at least one parameter
MAX_SLICE = 1 << 16  # scalars of one parameter
MIN_SLICE = 1 << 8
MIN_COPIED = 1 << 14  # scalars that may always be copied in a step; beyond that, one in two hundred
MAX_SHARE_COPIED = 1 / 200


class UpdateProbe:
    """The update probe of one optimizer.

    Each step probes a tenth of its parameters, `MOST_TURNS` at most, each with a slice of its own
    scalars that begins elsewhere every time; with few parameters, several share a step every so
    many steps. At most `MIN_COPIED` scalars are copied in a step, or one in two hundred, if that is
    more. Skipped are parameters without a gradient, and those that are sparse, complex, without
    memory, or of a subclass other than DTensor; for a DTensor the local part is probed.
    """

    def __init__(self) -> None:
        self._next = 0  # position of the parameter whose turn is next
        self._round: int = 0
        self._num_steps = 0
        self._due = 0  # turns that are due, times EVERY
        self._known = (b"", 0)  # which parameters, and how many scalars they have
        self._copies = best_copies()
        # the copies that wait for the comparison after the step
        self.pending: PendingProbe | None = None

    def step_begins(
        self,
        held: Sequence[torch.Tensor],
        closure: bool,
        num_requested: int,
        optimizer: object = None,
    ) -> None:
        """Copy slices of so many parameters before the step. A closure computes its gradients
        within the step: then those without one yet count as well.
        """
        room = min(
            MAX_SLICE,
            max(
                MIN_SLICE,
                int(max(MIN_COPIED, MAX_SHARE_COPIED * self._num_scalars(held)) // num_requested),
            ),
        )
        copies, found = self._copies, None
        first, turn = self._next, self._round
        if copies is not None and not closure:
            found = copies.keep_next(held, first, turn, num_requested, room)
        if found is not None:
            slices, dtypes, self._next, self._round = found
            pending = PendingProbe(False, copies, slices, dtypes, *NO_OTHERS, {})
            if not COARSE.isdisjoint(dtypes):
                pending.keep_fine(optimizer)
        elif is_capturing():
            return  # nothing can be read then on a device
        else:
            pending = PendingProbe(closure, copies)
            self._next, self._round = pending.add_some(held, first, turn, num_requested, room)
            pending.keep(optimizer)
        self.pending = pending

    def step_ends(
        self, parameter_table: ParameterTable, left_out: object, optimizer: object = None
    ) -> ProbedUpdates | None:
        """Compare after the step. `left_out`: a tensor that is not zero when the optimizer made no
        step after all (a fused one with a scaler).
        """
        pending, self.pending = self.pending, None
        if pending is None:
            return None
        return pending.compare(parameter_table, left_out, optimizer)

    def forget(self) -> None:
        """Forget the copies: the step is not made."""
        self.pending = None

    def num_requested(self, num_parameters: int) -> int:
        """Return how many parameters to probe in the next step; call it once a step. A step that
        has not ended is forgotten.
        """
        self.pending = None
        self._num_steps += 1
        if self._num_steps <= NUM_DENSE:
            return min(math.ceil(num_parameters / EVERY), MOST_TURNS)
        self._due = min(self._due + num_parameters, MOST_TURNS * EVERY)
        if self._due < min(num_parameters, FEWEST_TURNS) * EVERY:
            return 0
        num_requested, self._due = divmod(self._due, EVERY)
        return num_requested

    def _num_scalars(self, held: Sequence[torch.Tensor]) -> int:
        ids = tensor_reads.identities(held if isinstance(held, list) else list(held))
        if self._known[0] != ids:
            self._known = (ids, sum(num_held(p) for p in held))
        return self._known[1]
