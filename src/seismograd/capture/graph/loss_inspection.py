"""Which parts inspect the losses of a backward and their graph, and how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.graph.constant_norms import ConstantNorms
from seismograd.capture.graph.first_losses import FirstLosses
from seismograd.capture.graph.flat_functions import FlatFunctions
from seismograd.capture.graph.graph_inspections import GraphInspections
from seismograd.capture.graph.graphless_losses import GraphlessLosses
from seismograd.capture.graph.large_exponentials import MIN_LOSS, LargeExponentials
from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.loss_observer import LossObserver
from seismograd.capture.graph.loss_terms import LossTerms
from seismograd.capture.graph.mixed_reductions import MixedReductions
from seismograd.capture.graph.sample_cuts import SampleCuts
from seismograd.capture.graph.traversal import GraphLeaf
from seismograd.capture.graph.withheld_gradients import WithheldGradients
from seismograd.capture.graph.zero_gradient_observer import ZeroGradients
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration import CapturedEvent
from seismograd.capture.loop.look_schedule import LOOKS
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.names.unread_switches import Switches
from seismograd.capture.probes.gradient_hooks import Hooks
from seismograd.capture.probes.reversals import Reversals
from seismograd.capture.probes.stale_copies import StaleCopies
from seismograd.capture.probes.summed_losses import SummedLosses
from seismograd.capture.probes.time_profiles import TimeProfiles


class LossInspection:
    """Calls each part in turn; a failure of one is its own. `num_heard` is always which of all
    backwards this is, from 1.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        log: EventLog,
        parameter_table: ParameterTable,
        facts: Facts,
        births: BirthObserver,
        take_in: Callable[[Sequence[GraphLeaf]], object],
        sums: SummedLosses,
    ) -> None:
        self._guard, self.births, self.sums = guard, births, sums
        self.losses = LossObserver(log, births)
        self._zero_gradients = ZeroGradients(facts, parameter_table)
        self._switches = Switches(facts, parameter_table, log.call_sites.sites)
        self._hooks = Hooks(facts, log.call_sites)
        self._reversals = Reversals(facts, log.call_sites)
        self._copies = StaleCopies(facts, parameter_table, log.call_sites.sites)
        self.time_profiles = TimeProfiles(facts, parameter_table)
        self._loss_terms = LossTerms(facts, log.call_sites.sites)
        self._mixed_reductions = MixedReductions(facts, log.call_sites.sites)
        self._exponentials = LargeExponentials(facts, parameter_table)
        self._of_graphs = GraphInspections(guard, facts, parameter_table, log.call_sites.sites)
        self.first_losses = FirstLosses(facts, parameter_table, log.call_sites.sites)
        self.sample_cuts = SampleCuts(facts, log, parameter_table)
        self.flat_functions = FlatFunctions(facts, parameter_table, log.call_sites)
        self._constant_norms = ConstantNorms(facts, parameter_table)
        self._graphless = GraphlessLosses(facts, parameter_table)
        self.withheld = WithheldGradients(facts, parameter_table, log.call_sites, take_in)
        self.num_at_site: dict[int, int] = {}  # backwards at each line of the script

    def backward_begins(
        self,
        thread_state: ThreadState,
        captured: CapturedEvent,
        listed: tuple[Any, ...],
        tops: list[Any],
        windows: Sequence[OptimizerWindow],
        num_heard: int,
        extras: bool,
    ) -> None:
        """Inspect the losses in `listed`, whose graphs begin at `tops`. `windows` are those that it
        may concern; `extras`: there is time for what can be left out.
        """
        call, site = self._guard.call, captured.site
        call("birth", self.births.backward_begins, tops, extras)
        call("graph", self.losses.look, thread_state, captured, listed, tops, windows, extras)
        number = self.num_at_site[site] = self.num_at_site.get(site, 0) + 1
        for window in windows:
            if window.has_zero_gradients():
                call("zero gradient", self._zero_gradients.look, site, tops, windows)
                call("flat functions", self.flat_functions.backward_begins, tops, windows)
                break
        if num_heard in LOOKS:
            call("switches", self._switches.look, site)
            call("hooks", self._hooks.backward_begins, tops, windows)
            call("reversals", self._reversals.backward_begins, tops)
            call("copies", self._copies.look, num_heard, site)
        if tops[:1] == [None]:
            call("graphless loss", self._graphless.look, site, listed[0])
        if self.withheld.may_look(num_heard):
            call(
                "withheld gradients",
                self.withheld.backward_begins,
                num_heard,
                tops,
                windows,
            )
        if extras and self.time_profiles.may_look(num_heard):
            call("time", self.time_profiles.backward_begins, num_heard, tops)
        if number in LOOKS:
            scale = thread_state.loss_scale
            call("loss terms", self._loss_terms.look, site, number, listed[0], scale)
            if len(tops) == 1:
                call("mixed reductions", self._mixed_reductions.look, site, tops[0])
        if extras and len(tops) == 1 and self.sums.may_look(number):
            call("summed losses", self.sums.backward_begins, thread_state, site, tops[0])
        # NaN is not large
        if abs(captured.value.value) >= MIN_LOSS:
            call("exponentials", self._exponentials.look, captured, tops)
        if number in LOOKS:
            call("constant norms", self._constant_norms.look, site, tops, windows)
        if self.sample_cuts.waiting:
            call("samples", self.sample_cuts.check_waiting)
        graph = call("loss graph", LossGraph, tops) if number in LOOKS else None
        if graph is not None:
            self._of_graphs.look(site, graph, windows)
            call("first loss", self.first_losses.look, site, graph)
            if self.sample_cuts.may_look:
                call("samples", self.sample_cuts.look, graph, windows)

    def backward_ends(self, captured: CapturedEvent, num_heard: int) -> None:
        """Note what only the backward has shown."""
        if num_heard in LOOKS:
            self._guard.call("hooks", self._hooks.backward_ends, captured.site)
        if self._reversals.is_listening:
            self._guard.call("reversals", self._reversals.backward_ends)
        if self.withheld.is_listening:
            self._guard.call("withheld gradients", self.withheld.backward_ends)
        if self.flat_functions.is_listening:
            self._guard.call("flat functions", self.flat_functions.backward_ends)
        if self.sums.running is not None:
            self._guard.call("summed losses", self.sums.backward_ends)
        if self.time_profiles.running:
            self._guard.call("time", self.time_profiles.backward_ends, captured.site)
