"""Tell whether a layer gets no gradient because it is cut off from the loss, or because the
gradient vanished on its way.

Shapes: P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seismograd.analysis.block_rows import BoolArray, distinct
from seismograd.analysis.parameter_index import is_weight
from seismograd.analysis.profile_layers import bias_name
from seismograd.schema import FloatArray, IntArray, Parameter, State, StateArray

# activations behind which no unit is dead
NEVER_ZERO = ("", "leaky_relu", "softmax", "log_softmax", "log_sigmoid")


def depth_number(parameter: Parameter) -> int:
    """Return its depth, -1 where it is not known."""
    return -1 if parameter.depth is None else parameter.depth


class LayerConnections:
    """Which parameters belong together, in arrays."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        column_of = {parameter.name: column for column, parameter in enumerate(parameters)}
        self._bias: IntArray = np.array(
            [column_of.get(bias_name(each.name), -1) for each in parameters], np.int64
        )
        self._owner: IntArray = np.array(
            [-1 if each.optimizer is None else each.optimizer for each in parameters], np.int64
        )
        self._depth: IntArray = np.array([depth_number(each) for each in parameters], np.int64)
        self._weight: BoolArray = np.array([is_weight(each) for each in parameters], np.bool_)
        self._numel: IntArray = np.array([each.numel for each in parameters], np.int64)
        self._can_be_flat: BoolArray = np.array(
            [each.activation not in NEVER_ZERO for each in parameters], np.bool_
        )
        self._trainable: BoolArray = np.array([each.trainable for each in parameters], np.bool_)

    def are_dead_by_themselves(
        self,
        state: StateArray,
        norm: FloatArray,
        columns: IntArray,
        dead_share: FloatArray,
        min_signal: float,
    ) -> BoolArray:
        """Return which of these layers with dead rows are not so for want of a gradient."""
        found = np.ones(len(columns), np.bool_)
        whole = np.flatnonzero(dead_share == 1)
        if len(whole):
            found[whole] = self.is_cut_off(state, columns[whole])
        there = np.flatnonzero(found)
        if len(there):
            alive = 1 - dead_share[there]
            found[there] = self.is_reached(state, norm, columns[there], alive, min_signal)
        return found

    def is_cut_off(self, state: StateArray, columns: IntArray) -> BoolArray:
        """Return whether these layers without any gradient, and all before them, are cut off from a
        loss that does reach the layers after them.
        """
        found = np.zeros(len(columns), np.bool_)
        finite = state == State.FINITE
        for owner in distinct(self._owner[columns]):
            alive = finite & self._trainable & (self._owner == owner)
            if alive.any():
                weights = self._depth[alive & self._weight]
                nearest, farthest = (
                    int(weights.min()) if len(weights) else np.inf,
                    int(self._depth[alive].max()),
                )
                mine = self._owner[columns] == owner
                found[mine] = (self._depth[columns[mine]] <= nearest) & (
                    self._depth[columns[mine]] < farthest
                )
        bias = self._bias[columns]
        # with a bias that gets a gradient it is their input that is zero
        found &= ~((bias >= 0) & finite[bias])
        for at in np.flatnonzero(found).tolist():
            found[at] = not self._is_blocked_later(state, int(columns[at]))
        return found

    def _is_blocked_later(self, state: StateArray, column: int) -> bool:
        """Return whether a layer after this one gets no gradient either, not even in its bias, and
        no activation follows it that could be why: then the loss itself passes none back.
        """
        own = self._weight & self._trainable & (self._owner == self._owner[column])
        later = np.flatnonzero(own & (self._depth > self._depth[column]))
        for each in later[np.argsort(self._depth[later], kind="stable")].tolist():
            bias = int(self._bias[each])
            if state[each] != State.ZERO or bias < 0 or state[bias] != State.ZERO:
                return False
            if not self._can_be_flat[each]:
                return True
        return False

    def is_reached(
        self,
        state: StateArray,
        norm: FloatArray,
        columns: IntArray,
        alive_share: FloatArray,
        min_signal: float,
    ) -> BoolArray:
        """Return whether a gradient of a usual size reaches these layers: what their other rows
        get, or the next one after them where they get nothing, is at least `min_signal` of what the
        last layer gets, per scalar. Otherwise it vanished on its way, down to exact zeros.
        """
        reached = np.ones(len(columns), np.bool_)
        finite = (state == State.FINITE) & self._trainable
        for owner in distinct(self._owner[columns]):
            alive = np.flatnonzero(finite & (self._owner == owner))
            if not len(alive):
                continue
            depth = self._depth[alive]
            size = norm[alive] / np.sqrt(self._numel[alive])
            last = float(size[depth.argmax()])
            for position in np.flatnonzero(self._owner[columns] == owner).tolist():
                column = columns[position]
                after = depth > self._depth[column]
                if finite[column]:
                    share = self._numel[column] * alive_share[position]
                    reached[position] = norm[column] >= min_signal * last * np.sqrt(share)
                elif after.any():
                    nearest = size[after][depth[after].argmin()]
                    reached[position] = nearest >= min_signal * last
        return reached
