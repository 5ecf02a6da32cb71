"""Which parts of a session handle each event of the training, and in what order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.graph.remade_parameters import RemadeParameters
from seismograd.capture.hooks.backward import BackwardHooks
from seismograd.capture.hooks.clip_grad import ClipHooks
from seismograd.capture.hooks.collectives import CollectiveHooks
from seismograd.capture.hooks.grad_scaler import ScalerHooks
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.hooks.pipeline_stage import PipelineStageHooks
from seismograd.capture.hooks.zero_grad import ZeroGradHooks
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.gradient_reductions import GradientReductions
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.assigned_gradients import AssignedGradients
from seismograd.capture.probes.clip_coverage import ClipCoverage
from seismograd.capture.probes.copied_weights import CopiedWeights
from seismograd.capture.probes.frozen_weights import FrozenWeights
from seismograd.capture.probes.gradient_aliases import GradientAliases
from seismograd.capture.probes.gradients_of_others import GradientsOfOthers
from seismograd.capture.probes.graph_cuts import GraphCuts
from seismograd.capture.probes.group_settings import GroupSettings
from seismograd.capture.probes.kept_perturbations import KeptPerturbations
from seismograd.capture.probes.late_reductions import LateReductions
from seismograd.capture.probes.loaded_rates import LoadedRates
from seismograd.capture.probes.loaded_references import LoadedReferences
from seismograd.capture.probes.loaded_targets import LoadedTargets
from seismograd.capture.probes.modes import Modes
from seismograd.capture.probes.optimizer_creations import OptimizerCreations
from seismograd.capture.probes.optimizer_state import OptimizerStateProbe
from seismograd.capture.probes.overwritten_weights import OverwrittenWeights
from seismograd.capture.probes.reseeding import Reseeding
from seismograd.capture.probes.schedule_facts import ScheduleFacts
from seismograd.capture.probes.schedules import Schedules
from seismograd.capture.probes.successors import Scalers, Successors
from seismograd.capture.probes.symmetry import LAST_EARLY_LOOK, Symmetry
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.steady.short_ways import ShortWays
from seismograd.capture.steady.steady_loop import SteadyLoop
from seismograd.capture.steady.steady_parts import SteadyParts
from seismograd.capture.xray.xray import Xray
from seismograd.schema import SAMPLE_EVERY, Note


class EventHandlers:
    """The handlers of each event of `capture.events.Listener`, called with the state of the thread.

    The hooks follow the loop itself; the probes look only now and then, or for what is rare. Where
    several parts handle an event, their order is theirs: what a step consumes is read before
    anything notes that it was made.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        log: EventLog,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        reader: GradientReader,
        facts: Facts,
        births: BirthObserver,
        note: Callable[[Note], None],
        sampling: bool,
        reductions: GradientReductions,
        xray: Xray,
        states: OptimizerStateProbe,
        spent: MeasuringTime,
        compares_often: bool,
    ) -> None:
        self.backwards = backwards = BackwardHooks(
            guard,
            log,
            registry,
            iteration_queue,
            reader,
            sampling,
            facts,
            births,
            compares_often,
        )
        self.steps = steps = StepHooks(
            guard,
            log,
            registry,
            iteration_queue,
            reader,
            note,
            sampling,
            births,
            LateReductions(facts),
            GradientsOfOthers(facts, log, registry),
            AssignedGradients(facts, registry),
            states,
            spent,
        )
        self.schedules = schedules = Schedules(
            ScheduleFacts(facts, log),
            log,
            registry,
            lambda: backwards.num_heard,
            lambda: iteration_queue.num_rows,
        )
        clips = ClipHooks(log, registry, reader, backwards.step_by_hand)
        clearings = ZeroGradHooks(log, registry)
        scales = ScalerHooks(guard, log, registry, iteration_queue, reader, births)
        successors, scalers = Successors(facts, log, registry), Scalers(facts, log)
        settings, symmetry = GroupSettings(facts, registry), Symmetry(facts, registry)
        modes = Modes(facts, log, registry.parameter_table)
        remade = RemadeParameters(facts, log, registry.parameter_table)
        rates = LoadedRates(facts, log, registry)
        overwritten = OverwrittenWeights(facts, log, registry)
        frozen = FrozenWeights(facts, log, registry.parameter_table)
        copies = self._copies = CopiedWeights(facts, registry)
        self._creations = OptimizerCreations(facts, log)
        self._cuts = GraphCuts(facts, log, registry)
        self._reseeding = Reseeding(facts, log, registry, settings)
        self._aliases = GradientAliases(facts, registry)
        self._perturbations = KeptPerturbations(
            guard, facts, log, registry, self._attach_perturbations
        )

        self._registry, self._iteration_queue = registry, iteration_queue
        self._sampling = sampling
        self._settings, self._symmetry, self._successors = settings, symmetry, successors
        self._coverage, self._rates = ClipCoverage(facts, registry), rates
        self._overwritten, self._frozen = overwritten, frozen
        self._modes, self._remade, self._reductions = modes, remade, reductions
        # Lists where the session holds them and what is in them changes.
        self.backward_begins: list[Callable[[ThreadState, Any], None]] = []
        self.backward_ends: list[Callable[[ThreadState], None]] = []
        self.compared = (backwards.compared,)
        self.clip_begins, self.clip_ends = (clips.clip_begins,), (clips.clip_ends,)
        self.zero_grad_ends = (clearings.zero_grad_ends,)
        self.step_begins: list[Callable[[ThreadState, Any, bool, bool], None]] = []
        self.step_ends: list[Callable[[ThreadState, Any], None]] = []
        self.scaler_step_begins = (scales.scaler_step_begins,)
        self.scaler_step_ends = (scales.scaler_step_ends, scalers.scaler_step_ends)
        self.scaled = (scales.scaled, scalers.scaled)
        self.unscale_ends, self.scaler_updated = (scales.unscale_ends,), (scales.scaler_updated,)
        self.weighted, self.normalised = (scales.weighted,), (scales.normalised,)
        self.stage_scaled = (PipelineStageHooks(log, registry).stage_scaled,)
        self.schedule_made = (schedules.made,)
        self.scheduled = (schedules.scheduled, rates.scheduled)
        self.epoch_begins = (schedules.epoch_begins, self._reseeding.epoch_begins)
        self.state_loads = (
            overwritten.state_loads,
            rates.state_loads,
            successors.state_loads,
            LoadedTargets(facts, log, registry).state_loads,
            LoadedReferences(facts, log, registry).state_loads,
            backwards.inspection.first_losses.state_loads,
        )
        self.collective_ends = (CollectiveHooks(registry, reader, reductions).collective_ends,)
        self.drawn = (backwards.inspection.sample_cuts.drawn,)
        self._xray = xray
        xray.switch = self._attach_xray
        self._hears_xray = self._hears_perturbations = False
        loop = self._loop = SteadyLoop(registry)
        self._attach()
        self.short_ways = ShortWays(
            SteadyParts(
                loop=loop,
                guard=guard,
                log=log,
                registry=registry,
                iteration_queue=iteration_queue,
                reader=reader,
                sampling=sampling,
                backwards=backwards,
                steps=steps,
                births=births,
                reductions=reductions,
                spent=spent,
                coverage=self._coverage,
                successors=successors,
                overwritten=overwritten,
                rates=rates,
                modes=modes,
                remade=remade,
                frozen=frozen,
                xray=xray,
                settings=settings,
                copies=copies,
                reseeding=self._reseeding,
                perturbations=self._perturbations,
                looks=(
                    settings.step_begins,
                    symmetry.step_begins,
                    copies.step_begins,
                    self._cuts.step_begins,
                    self._reseeding.step_begins,
                    self._perturbations.look,
                    self._aliases.step_begins,
                ),
            )
        )

    def _attach_xray(self, attached: bool) -> None:
        """Have the X-ray hear of backwards and steps, or no longer: at most steps it does not."""
        self._hears_xray = attached
        self._attach()

    def _attach_perturbations(self, attached: bool) -> None:
        """Have what observes perturbations hear of them, or no longer, likewise."""
        self._hears_perturbations = attached
        self._loop.observe(attached)
        self._attach()

    def _attach(self) -> None:
        """Put together what hears of backwards and steps."""
        xray, perturbations = self._xray, self._perturbations
        begins: list[Callable[[ThreadState, Any], None]] = [self._backward_begins]
        ends: list[Callable[[ThreadState], None]] = [self.backwards.backward_ends]
        step_begins: list[Callable[[ThreadState, Any, bool, bool], None]] = [self._step_begins]
        # the loop behind the others: a step that comes here has gone the full way
        step_ends: list[Callable[[ThreadState, Any], None]] = [
            self._step_ends,
            xray.step_ends,
            self._loop.step_ends,
        ]
        # What ends while a list is gone through is the last in it.
        if self._hears_perturbations:
            ends.append(perturbations.backward_ends)
            step_begins.append(perturbations.step_begins)
            step_ends.append(perturbations.step_ends)
        if self._hears_xray:
            begins.append(xray.backward_begins)
            ends.insert(0, xray.backward_ends)
            step_begins.append(xray.step_begins)
        self.backward_begins[:], self.backward_ends[:] = begins, ends
        self.step_begins[:], self.step_ends[:] = step_begins, step_ends

    def _backward_begins(self, thread_state: ThreadState, tensors: Any) -> None:
        if self._reductions.since_backward:
            self._reductions.backward_begins()
        self.backwards.backward_begins(thread_state, tensors)
        # A step comes through here, and most have nothing for these to look at.
        modes = self._modes
        if modes.watched or modes.version != self._registry.parameter_table.version:
            modes.backward_begins(thread_state, tensors)
        if not self._remade.is_over:
            self._remade.backward_begins(thread_state, tensors)
        if self._frozen.version != self._registry.parameter_table.version:
            self._frozen.backward_begins(thread_state, tensors)

    def _step_begins(
        self, thread_state: ThreadState, optimizer: Any, closure: bool, compiled: bool
    ) -> None:
        window = self.steps.step_begins(thread_state, optimizer, closure, compiled)
        if window is None:
            return
        if window.clips:
            self._coverage.step_begins(thread_state, optimizer, closure, compiled)
        windows = self._registry.windows
        if window.num_made > 1 or self._successors.has_news(windows):
            self._successors.step_begins(thread_state, optimizer)
        if window.num_steps <= LAST_EARLY_LOOK or window.num_steps % SAMPLE_EVERY == 0:
            self._settings.step_begins(thread_state, optimizer)
            self._symmetry.step_begins(thread_state, optimizer)
            self._copies.step_begins(thread_state, optimizer)
            self._cuts.step_begins(thread_state, optimizer)
            self._reseeding.step_begins(thread_state, optimizer)
            self._perturbations.look(thread_state, optimizer)
            self._aliases.step_begins(thread_state, optimizer)
            self._creations.step_begins(window, optimizer)
        is_allowed = self._sampling and self._iteration_queue.thinning.extras
        self._overwritten.step_begins(window, windows, is_allowed)
        if self._rates.loaded:
            self._rates.step_begins(thread_state, optimizer)

    def _step_ends(self, thread_state: ThreadState, optimizer: Any) -> None:
        if self._successors.common:
            self._successors.step_ends(thread_state, optimizer)
        window = self._registry.known(optimizer)
        if window is not None:
            is_allowed = self._sampling and self._iteration_queue.thinning.extras
            self._overwritten.step_ends(window, is_allowed)
            self.steps.step_ends(thread_state, window, optimizer)
