"""Which parts inspect the whole graph of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seismograd.capture.graph.action_values import ActionValues
from seismograd.capture.graph.advantages import Advantages
from seismograd.capture.graph.attention_faults import AttentionFaults
from seismograd.capture.graph.bootstrapped_targets import BootstrappedTargets
from seismograd.capture.graph.detached_states import DetachedStates
from seismograd.capture.graph.first_order_terms import FirstOrderTerms
from seismograd.capture.graph.first_ratios import FirstRatios
from seismograd.capture.graph.judged_outputs import JudgedOutputs
from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.loss_inputs import LossInputs
from seismograd.capture.graph.loss_weights import LossWeights
from seismograd.capture.graph.policy_gradients import PolicyLosses
from seismograd.capture.graph.posteriors import Posteriors
from seismograd.capture.graph.quantized_cuts import QuantizedCuts
from seismograd.capture.graph.recurrence_axes import RecurrenceAxes
from seismograd.capture.graph.repeated_places import RepeatedPlaces
from seismograd.capture.graph.rounded_terms import RoundedTerms
from seismograd.capture.graph.router_cuts import RouterCuts
from seismograd.capture.graph.self_ratios import SelfRatios
from seismograd.capture.graph.self_references import SelfReferences
from seismograd.capture.graph.shares_of_one import SharesOfOne
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import Site

Look = Callable[[int, LossGraph], object]
LookWithWindows = Callable[[int, LossGraph, Sequence[OptimizerWindow]], object]


class GraphInspections:
    """Calls each part in turn; a failure of one is its own."""

    def __init__(
        self, guard: ErrorGuard, facts: Facts, table: ParameterTable, sites: Sequence[Site]
    ) -> None:
        self._guard = guard
        self._looks: tuple[tuple[str, Look], ...] = (
            ("loss input", LossInputs(facts, table, sites).look),
            ("attention", AttentionFaults(facts, sites).look),
            ("recurrence", RecurrenceAxes(facts, table, sites).look),
            ("advantage", Advantages(facts, table, sites).look),
            ("action values", ActionValues(facts).look),
            ("target", BootstrappedTargets(facts, table, sites).look),
            ("state", DetachedStates(facts, table, sites).look),
            ("rounded terms", RoundedTerms(facts, table, sites).look),
            ("first order", FirstOrderTerms(facts, table, sites).look),
            ("loss weights", LossWeights(facts, table, sites).look),
            ("posterior", Posteriors(facts, sites).look),
            ("quantization", QuantizedCuts(facts, table, sites).look),
            ("router", RouterCuts(facts, table, sites).look),
            ("repeated places", RepeatedPlaces(facts, table, sites).look),
        )
        self._looks_with_windows: tuple[tuple[str, LookWithWindows], ...] = (
            ("self ratio", SelfRatios(facts, table, sites).look),
            ("first ratio", FirstRatios(facts, table, sites).look),
            ("reference", SelfReferences(facts, table, sites).look),
            ("judged outputs", JudgedOutputs(facts, table).look),
            ("policy", PolicyLosses(facts).look),
            ("shares", SharesOfOne(facts, table, sites).look),
        )

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site, and which may
        concern these `windows`.
        """
        for part, look in self._looks:
            self._guard.call(part, look, site, graph)
        for part, look_with in self._looks_with_windows:
            self._guard.call(part, look_with, site, graph, windows)
