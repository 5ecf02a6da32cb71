"""SG401 parameter-not-optimized."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, site_of, statistic, weight_norms
from seismograd.analysis.script_names import (
    module_of,
    optimizer_kind,
    optimizer_name,
    parameters_of,
)
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg401.stray_parameters import (
    JUDGES,
    OTHER_MODEL,
    StrayCase,
    StrayTally,
    TrainedPlace,
    attribute_of,
    is_stray,
    kind_of,
    num_gone,
    stray_message,
)
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    IntArray,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)


@final
@dataclass
class ParameterNotOptimized(Rule):
    """Parameters get gradients, but no optimizer uses them: their weights stay as they were
    initialised.

    What it finds
        Trainable parameters that the loss depends on but no optimizer holds: layers in a plain
        Python list or dict, which a module does not register; a part of the model that was left out
        of the optimizer; a layer that was replaced, or a model that was recreated or copied, after
        the optimizer was created.

    Why it hurts
        These layers keep their random weights. The others can learn around them, so the loss still
        falls, and nothing shows that the model is worse than it could be. Layers that are not
        registered are also not saved by `state_dict`, not moved by `.to(device)` and not cleared by
        `zero_grad`.

    How it decides
        A parameter counts if it is trainable, had a gradient in more than {min_steps} steps,
        belongs to no optimizer, and its weights, where they were sampled, have not changed. At the
        end of a shorter run, {min_evaluated} steps are enough. If all these parameters are
        registered, belong to a different model from the one that is trained, are used after its
        last parameter and are larger in total than all of it, the rule takes them for a network
        that only evaluates outputs (a perceptual loss) and reports info instead of a warning.

    False alarms
        A feature network that is not meant to be trained: freeze it with `requires_grad_(False)`,
        which also saves the time to compute its gradients. Weights that the script updates itself
        do change, and do not count.

    What to try
        - Put layers in `nn.ModuleList`, `nn.ModuleDict` or `nn.Sequential`, and single tensors in
          `nn.ParameterList`.
        - Create the optimizer from `model.parameters()` after the model is complete.
        - Add later parameters with `optimizer.add_param_group`.

    References
        - PyTorch documentation, torch.nn.ModuleList; torch.optim.Optimizer.add_param_group.
    """

    code: ClassVar[str] = "SG401"
    name: ClassVar[str] = "parameter-not-optimized"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG108", "SG301", "SG303", "SG402")

    min_steps: int = 10
    min_evaluated: int = 3  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _known: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    # that no optimizer holds
    _columns: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _owned: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    _owned_gets_some: bool = field(default=False, init=False, repr=False)
    # graphs show them, and no optimizer steps on them
    _stray: tuple[str, ...] = field(default=(), init=False, repr=False)
    # steps on nothing while backwards reach these
    _num_stray: int = field(default=0, init=False, repr=False)
    _stray_since: int = field(default=-1, init=False, repr=False)
    _last_stray: int = field(default=-1, init=False, repr=False)
    _by_hand: bool = field(default=False, init=False, repr=False)
    _tallies: dict[str, StrayTally] = field(
        default_factory=dict[str, "StrayTally"], init=False, repr=False
    )
    _case: StrayCase | None = field(default=None, init=False, repr=False)
    _latest: TrainedPlace = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._latest = TrainedPlace("", "optimizer", -1)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        if block.parameters is not self._known:
            self._known = block.parameters
            owned = np.array(
                [parameter.optimizer is not None for parameter in block.parameters], np.bool_
            )
            trainable = np.array([parameter.trainable for parameter in block.parameters], np.bool_)
            self._columns, self._owned = np.flatnonzero(~owned & trainable), np.flatnonzero(owned)
            kinds = {each.index: each.kind for each in block.optimizers}
            self._stray = tuple(p.name for p in block.parameters if is_stray(p, kinds))
        if self._stray and self._case is None:
            self._look_for_strays(block)
            if self._case is not None:
                return [self._finding(self._case)]
        if not len(self._columns):
            return self._extend_strays(block)
        finite = block.state[:, self._columns] == State.FINITE
        by_hand = (integers(block.steps, "flags") & int(StepFlag.BY_HAND)) != 0
        rows, changed = as_list(np.flatnonzero(finite.any(axis=1) & ~by_hand)), False
        if (
            rows
            and self._case is not None
            and self._case.names.issuperset(
                block.parameters[each].name for each in as_list(self._columns)
            )
        ):
            # nothing more needs to be learned about them
            self._case.last_step, rows, changed = (
                int(integers(block.steps, "iteration")[rows[-1]]),
                [],
                True,
            )
        for row in rows:
            changed |= self._count(block, row, self._columns[finite[row]])
        return [self._finding(self._case)] if changed and self._case is not None else []

    def finish(self) -> Iterable[Finding]:
        if (
            self._case is None
            and not self._by_hand
            and self.min_evaluated <= self._num_stray <= self.min_steps
        ):
            self._report_strays()
            return [] if self._case is None else [self._finding(self._case)]
        fresh = [
            name
            for name, tally in self._tallies.items()
            if self.min_evaluated <= tally.num <= self.min_steps and not tally.moved
        ]
        if self._known is None or not fresh:
            return []
        if self._case is None or not self._case.names.issuperset(fresh):
            self._accuse(self._known, fresh)
        return [] if self._case is None else [self._finding(self._case)]

    def _look_for_strays(self, block: RowBatch) -> None:
        """Count steps without gradients whose backwards reached parameters other than those of any
        optimizer.
        """
        flags = integers(block.steps, "flags")
        odd = np.flatnonzero(flags & int(StepFlag.NO_BACKWARD | StepFlag.BY_HAND))
        if self._by_hand or not len(odd):
            return
        backward = block.events[block.events["kind"] == EventKind.BACKWARD]
        elsewhere = set(backward["iteration"].tolist()) - set(
            backward["iteration"][backward["touched"] != 0].tolist()
        )
        for row in as_list(odd):
            if flags[row] & StepFlag.BY_HAND:
                self._by_hand = True
                return
            iteration = int(integers(block.steps, "iteration")[row])
            if iteration not in elsewhere or (block.state[row] >= State.ZERO).any():
                continue
            self._num_stray += 1
            self._stray_since = iteration if self._stray_since < 0 else self._stray_since
            stepped = int(integers(block.steps, "optimizer")[row])
            self._latest = TrainedPlace(
                site_of(block, EventKind.STEP, iteration),
                optimizer_name(block, stepped),
                stepped,
                optimizer_kind(block, stepped),
            )
            self._last_stray = iteration
            if self._num_stray > self.min_steps and self._case is None:
                self._report_strays()
            if self._case is not None:
                self._case.last_step = iteration

    def _report_strays(self) -> None:
        assert self._known is not None
        trained = [each for each in self._known if each.optimizer == self._latest.index]
        case = self._case = StrayCase(
            OTHER_MODEL, self._latest, self._stray_since, self._last_stray, len(trained)
        )
        case.names, case.ordered = set(self._stray), self._stray
        case.evidence = (Evidence("num_backwards", "", self._last_stray, 0.0, 1.0),)

    def _extend_strays(self, block: RowBatch) -> list[Finding]:
        """Extend the finding by later steps without gradients."""
        rows = np.flatnonzero(integers(block.steps, "flags") & int(StepFlag.NO_BACKWARD))
        if self._case is None or not len(rows):
            return []
        self._case.last_step = max(
            self._case.last_step, int(integers(block.steps, "iteration")[rows[-1]])
        )
        return [self._finding(self._case)]

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None

    def _count(self, block: RowBatch, row: int, columns: IntArray) -> bool:
        """Read a row in which these columns have gradients; return whether that changes the
        finding.
        """
        iteration = int(integers(block.steps, "iteration")[row])
        stepped = int(integers(block.steps, "optimizer")[row])
        self._latest = TrainedPlace(
            site_of(block, EventKind.STEP, iteration),
            optimizer_name(block, stepped),
            stepped,
            optimizer_kind(block, stepped),
        )
        self._owned_gets_some |= bool((block.state[row, self._owned] >= State.ZERO).any())
        norms, weights = statistic(block, "grad_norm")[row], weight_norms(block, row)
        fresh: list[str] = []
        for column in as_list(columns):
            name = block.parameters[column].name
            tally = self._tallies.setdefault(name, StrayTally(iteration))
            tally.add(
                iteration,
                float(norms[column]),
                math.nan if weights is None else float(weights[column]),
            )
            if tally.is_enough(self.min_steps) and (
                self._case is None or name not in self._case.names
            ):
                fresh.append(name)
        if fresh:
            self._accuse(block.parameters, fresh)
        if self._case is None:
            return False
        again = any(
            block.parameters[column].name in self._case.names for column in as_list(columns)
        )
        self._case.last_step = iteration if again else self._case.last_step
        return again

    def _accuse(self, parameters: Sequence[Parameter], fresh: Sequence[str]) -> None:
        """Make these part of the finding."""
        by_name = {parameter.name: parameter for parameter in parameters}
        fresh = [name for name in fresh if name in by_name]
        if not fresh:
            return
        if self._case is None:
            first = min(self._tallies[name].first for name in fresh)
            last = max(self._tallies[name].last for name in fresh)
            kind = kind_of([by_name[name] for name in fresh], parameters, self._owned_gets_some)
            trained = [each for each in parameters if each.optimizer is not None]
            self._case = StrayCase(kind, self._latest, first, last, len(trained))
        case = self._case
        case.names.update(fresh)
        order = {
            each.name: (math.inf if each.depth is None else each.depth, position)
            for position, each in enumerate(parameters)
        }
        case.ordered = tuple(sorted(case.names & order.keys(), key=lambda name: order[name]))
        if case.ordered[0] in fresh:
            case.evidence = self._tallies[case.ordered[0]].evidence(case.ordered[0])

    def _finding(self, case: StrayCase) -> Finding:
        first, parameters = case.ordered[0], self._known or ()
        by_name = {each.name: each for each in parameters}
        strays = [by_name[name] for name in case.ordered if name in by_name]
        values: dict[str, str | int | float] = {
            "num": len(case.ordered),
            "first": first,
            "optimizer": case.position.optimizer,
            "kind": case.position.kind or "SGD",
            "list": attribute_of(case.ordered),
            "held": case.num_trained,
            "gone": num_gone(parameters),
            "module": module_of(strays),
            "parameters": parameters_of(strays, parameters),
        }
        cause, advice, excerpt = stray_message(case.kind, values)
        return self.finding(
            severity="info" if case.kind == JUDGES else self.severity,
            optimizer=case.position.index,
            first_step=case.first_step,
            last_step=case.last_step,
            parameters=case.ordered,
            evidence=case.evidence,
            cause=cause,
            advice=advice,
            where=case.position.where,
            excerpt=excerpt,
        )
