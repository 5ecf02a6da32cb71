"""SG401 parameter-not-optimized."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    columns_where,
    flagged,
    iteration_at,
    names_at,
    statistic,
    weight_norms,
)
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg401.last_reached import LastReached
from seismograd.rules.sg401.steps_on_nothing import StepsOnNothing
from seismograd.rules.sg401.stray_code import code_for
from seismograd.rules.sg401.stray_parameters import (
    StrayCase,
    StrayTally,
    TrainedPlace,
    gone,
    is_stray,
    kind_of,
)
from seismograd.rules.sg401.stray_words import (
    FOLLOWS,
    HARMLESS,
    OTHER_MODEL,
    REFERENCE,
    REPLACED,
)
from seismograd.schema import (
    Evidence,
    Fact,
    FactKind,
    Finding,
    IntArray,
    Parameter,
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
        that only evaluates outputs (a perceptual loss) and reports info instead of an error. It
        does the same for a copy of what is trained: weights that began as trained ones of the same
        shape and have been set to them since, or nearer to them (a target network, an average, an
        old policy), and weights of a separate model that began as trained ones and have stayed (a
        reference). A copy inside the trained model that is never set to the trained weights is an
        error, which only the end of the run shows.

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

    _num_rows: int = memory(int)
    _known: tuple[Parameter, ...] = memory(tuple[Parameter, ...])
    _columns: IntArray = memory(lambda: np.zeros(0, np.int64))  # that no optimizer holds
    _held: LastReached = memory(LastReached)
    _owned_gets_some: bool = memory(bool)
    # graphs show them, and no optimizer steps on them
    _stray: tuple[str, ...] = memory(tuple[str, ...])
    _on_nothing: StepsOnNothing = memory(StepsOnNothing)
    _tallies: dict[str, StrayTally] = memory(dict[str, StrayTally])
    _case: StrayCase | None = field(default=None, init=False, repr=False)
    _latest: TrainedPlace = memory(TrainedPlace)
    _created: dict[int, Fact] = memory(dict[int, Fact])  # where the script creates optimizers
    # the facts about copies of trained weights, by the names of the copies
    _copies: dict[str, Fact] = memory(dict[str, Fact])
    _copied: str = memory(str)  # the line that makes copies of what an optimizer holds

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._num_rows += len(block)
        if block.parameters is not self._known:
            self._take_in(block)
        self._held.read(block)
        if self._stray and self._case is None:
            for row in self._on_nothing.read(block):
                self._latest = TrainedPlace.of(block, row)
                if self._on_nothing.num > self.min_steps and self._case is None:
                    self._case = self._stray_case()
                if self._case is not None:
                    self._case.last_step = self._on_nothing.last
            if self._case is not None:
                return self._findings()
        if not len(self._columns):
            return self._extend_strays(block)
        finite = block.state[:, self._columns] == State.FINITE
        finite &= ~flagged(block.steps, StepFlag.BY_HAND | StepFlag.COPIED)[:, None]
        rows, changed = as_list(np.flatnonzero(finite.any(axis=1))), False
        if (
            rows
            and self._case is not None
            and self._case.names.issuperset(names_at(block, self._columns))
        ):
            # nothing more needs to be learned about them
            self._case.last_step = iteration_at(block, rows[-1])
            return self._findings()
        for row in rows:
            changed |= self._count(block, row, self._columns[finite[row]])
        return self._findings() if changed else ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.PARAMETER_REMADE and fact.number("copies") == 1:
            self._copied = fact.text("made") or fact.where
            return self._findings()
        if fact.kind == FactKind.OPTIMIZER_CREATED:
            self._created[fact.optimizer] = fact
        if fact.kind == FactKind.COPIED_WEIGHTS:
            self._copies.update(dict.fromkeys(fact.parameters, fact))
            return self._take_back()
        return ()

    def finish(self) -> Iterable[Finding]:
        steps = self._on_nothing
        is_enough = not steps.by_hand and self.min_evaluated <= steps.num <= self.min_steps
        if self._case is None and is_enough:
            self._case = self._stray_case()
            return self._findings()
        fresh = [
            name
            for name, tally in self._tallies.items()
            if self.min_evaluated <= tally.num <= self.min_steps
            and not tally.moved
            and not self._is_copy(name)
        ]
        copies = [
            name
            for name, tally in self._tallies.items()
            if self._is_copy(name) and tally.num >= self.min_evaluated
        ]
        held = {each.root for each in self._known if each.optimizer is not None}
        apart = {each.name for each in self._known if each.root not in held}
        # one that was never set to the trained weights, inside the model that is trained
        fresh += [n for n in copies if n not in apart and not self._copies[n].number("times")]
        if fresh and (self._case is None or not self._case.names.issuperset(fresh)):
            self._accuse(self._known, fresh)
        if copies and self._case is None:
            self._case = self._case_of_copies(copies)
        return self._findings() if fresh or copies else ()

    def shortfall(self) -> Message | None:
        return too_few(mark("needs {needed} steps, has {has}"), self._num_rows, self.min_evaluated)

    def _take_in(self, block: SharedBlock) -> None:
        self._known = block.parameters
        self._columns = columns_where(self._known, lambda p: p.optimizer is None and p.trainable)
        self._held.take_in(self._known)
        kinds = {each.index: each.kind for each in block.optimizers}
        self._stray = tuple(p.name for p in self._known if is_stray(p, kinds))

    def _stray_case(self) -> StrayCase:
        """Return the case of an optimizer that steps on nothing while backwards reach others."""
        steps, held = self._on_nothing, [p.optimizer for p in self._known]
        case = StrayCase(
            OTHER_MODEL, self._latest, steps.first, steps.last, held.count(self._latest.index)
        )
        case.names, case.ordered = set(self._stray), self._stray
        case.evidence = (Evidence("num_backwards", "", steps.last, 0.0, 1.0),)
        return case

    def _extend_strays(self, block: SharedBlock) -> list[Finding]:
        """Extend the finding by later steps without gradients."""
        rows = np.flatnonzero(flagged(block.steps, StepFlag.NO_BACKWARD))
        if self._case is None or not len(rows):
            return []
        self._case.last_step = max(self._case.last_step, iteration_at(block, int(rows[-1])))
        return self._findings()

    def _count(self, block: SharedBlock, row: int, columns: IntArray) -> bool:
        """Read a row in which these columns have gradients; return whether that changes the
        finding.
        """
        iteration, names = iteration_at(block, row), names_at(block, columns)
        self._latest = TrainedPlace.of(block, row)
        self._owned_gets_some |= bool((block.state[row, self._held.columns] >= State.ZERO).any())
        norms, weights = statistic(block, "grad_norm")[row], weight_norms(block, row)
        weights = np.full(len(norms), math.nan) if weights is None else weights
        fresh: list[str] = []
        for column, name in zip(as_list(columns), names, strict=True):
            tally = self._tallies.setdefault(name, StrayTally(iteration))
            if self._held.was_held(name) and float(norms[column]) == tally.norm:
                continue  # what is left of its last backward, when an optimizer still held it
            tally.add(iteration, float(norms[column]), float(weights[column]))
            is_known = self._case is not None and name in self._case.names
            if tally.is_enough(self.min_steps) and not is_known and not self._is_copy(name):
                fresh.append(name)
        if fresh:
            self._accuse(block.parameters, fresh)
        if self._case is None or self._case.names.isdisjoint(names):
            return False
        self._case.last_step = iteration
        return True

    def _accuse(self, parameters: Sequence[Parameter], fresh: Sequence[str]) -> None:
        """Make these part of the finding."""
        wanted = set(fresh)
        strays = [each for each in parameters if each.name in wanted]
        if strays and self._case is None:
            tallies = [self._tallies[each.name] for each in strays]
            first = min(each.first for each in tallies)
            silent = self._held.silent_since(first)
            kind = kind_of(strays, parameters, self._owned_gets_some, frozenset(silent))
            last = [silent[p.name] for p in gone(parameters, frozenset(silent)) if p.name in silent]
            if kind == REPLACED and last:
                first = max(last) + 1
            self._case = StrayCase(
                kind,
                self._latest,
                first,
                max(each.last for each in tallies),
                sum(each.optimizer is not None for each in parameters),
                last_reached=max(last, default=-1),
                silent=frozenset(silent),
            )
        if strays and self._case is not None:
            self._case.add([each.name for each in strays], parameters, self._tallies)

    def _is_copy(self, name: str) -> bool:
        """Return whether a stray is a copy of what is trained and what it is for may show later."""
        return name in self._copies and self._owned_gets_some

    def _case_of_copies(self, copies: Sequence[str]) -> StrayCase:
        """Return the case of copies of what is trained: nothing is wrong, but their gradients are
        not used.
        """
        facts = [self._copies[name] for name in copies]
        follows = any(fact.number("times") for fact in facts)
        tallies = [self._tallies[name] for name in copies]
        case = StrayCase(
            FOLLOWS if follows else REFERENCE,
            self._latest,
            min(each.first for each in tallies),
            max(each.last for each in tallies),
            sum(each.optimizer is not None for each in self._known),
            of=facts[0].text("of"),
        )
        case.add(copies, self._known, self._tallies)
        return case

    def _take_back(self) -> list[Finding]:
        """Take back what was said of weights that turn out to be copies."""
        case = self._case
        if case is None or case.kind in (OTHER_MODEL, REPLACED):
            return []
        copies = [name for name in case.ordered if self._is_copy(name)]
        if not copies:
            return []
        case.leave_out(copies, self._tallies)
        if case.names:
            return self._findings()
        self._case = self._case_of_copies(copies)
        findings, self._case = self._findings(), None  # until the end, which knows more of them
        return findings

    def _findings(self) -> list[Finding]:
        case = self._case
        if case is None:
            return []
        is_copied = bool(self._copied) and case.kind == OTHER_MODEL
        cause, advice, excerpt = case.explanation(self._known, is_copied)
        where = self._copied if is_copied else case.position.where
        if not is_copied and case.last_reached < 0:
            created = self._created.get(case.position.index)
            code = code_for(case.kind, created, case.strays(self._known), self._known)
            where, excerpt = (where, excerpt) if code is None else (code.where, code.excerpt)
        return [
            self.finding(
                cause,
                advice,
                excerpt,
                severity="info" if case.kind in HARMLESS else self.severity,
                optimizer=case.position.index,
                first_step=case.first_step,
                last_step=case.last_step,
                parameters=case.ordered,
                evidence=case.evidence,
                where=where,
            )
        ]
