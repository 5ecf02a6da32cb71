"""The parts of a session that the visits of a steady step ask, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.graph.remade_parameters import RemadeParameters
from seismograd.capture.hooks.backward import BackwardHooks
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.gradient_reductions import GradientReductions
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.clip_coverage import ClipCoverage
from seismograd.capture.probes.copied_weights import CopiedWeights
from seismograd.capture.probes.frozen_weights import FrozenWeights
from seismograd.capture.probes.group_settings import GroupSettings
from seismograd.capture.probes.kept_perturbations import KeptPerturbations
from seismograd.capture.probes.loaded_rates import LoadedRates
from seismograd.capture.probes.modes import Modes
from seismograd.capture.probes.overwritten_weights import OverwrittenWeights
from seismograd.capture.probes.reseeding import Reseeding
from seismograd.capture.probes.successors import Successors
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.steady.steady_loop import SteadyLoop
from seismograd.capture.xray.xray import Xray


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyParts:
    """`sampling`: sampled statistics and updates are measured; `looks`: at the first steps."""

    loop: SteadyLoop
    guard: ErrorGuard
    log: EventLog
    registry: OptimizerRegistry
    iteration_queue: IterationQueue
    reader: GradientReader
    sampling: bool
    backwards: BackwardHooks
    steps: StepHooks
    births: BirthObserver
    reductions: GradientReductions
    spent: MeasuringTime
    coverage: ClipCoverage
    successors: Successors
    overwritten: OverwrittenWeights
    rates: LoadedRates
    modes: Modes
    remade: RemadeParameters
    frozen: FrozenWeights
    xray: Xray
    settings: GroupSettings
    copies: CopiedWeights
    reseeding: Reseeding
    perturbations: KeptPerturbations
    looks: Sequence[Callable[[ThreadState, Any], None]]

    @property
    def late_looks(self) -> Sequence[Callable[[ThreadState, Any], None]]:
        """Return those of the looks that are made in later steps with samples as well."""
        return (
            self.settings.step_begins,
            self.copies.step_begins,
            self.reseeding.step_begins,
            self.perturbations.look,
        )
