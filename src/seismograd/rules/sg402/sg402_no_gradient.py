"""SG402 no-gradient."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    columns_where,
    flagged,
    integers,
    site_of,
)
from seismograd.analysis.parameter_index import ParameterHistory
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, per_optimizer, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg402.unreached_parameters import UnreachedParameters, joined
from seismograd.schema import (
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
    IntArray,
    Optimizer,
    Parameter,
    State,
    StepFlag,
)

ROUTED = ("expert", "moe")
LATER = 1 << 62  # than any step
NO_STEPS = np.zeros(1, [("has", "i8"), ("lacks", "i8")])  # with and without a gradient


@final
@dataclass
class NoGradient(Rule):
    """Parameters that an optimizer holds never get a gradient, because the loss does not depend on
    them.

    What it finds
        Trainable parameters of an optimizer that had no gradient in any step. Between them and the
        loss there is a `detach`, a `.data`, a `torch.no_grad` or a conversion to NumPy and back; or
        an operation without a derivative (`argmax`, `round`, comparisons); or the forward pass
        never uses the layer, because it was replaced after the optimizer was created. Or the graph
        has them, and the `backward` of a custom autograd Function returns None in place of their
        gradient.

    Why it hurts
        They keep their random weights. The rest of the model has to learn from the features of
        untrained layers, which often works well enough to go unnoticed.

    How it decides
        A parameter counts if it is trainable, appears in the graph of no loss, and had no gradient
        in any of at least {min_steps} steps of its optimizer; at the end of a run, {min_evaluated}
        steps are enough. One that another optimizer has trained before counts anew, if a graph was
        seen that has it no longer. One that a graph has counts if a custom Function in front of it
        was seen to return None for it. If these are the first of the optimizer's parameters, in the
        order in which the modules register them, the graph is cut between the last of them and the
        first parameter with a gradient. Other cases are reported at the end of the run, as a
        warning. A gradient of zeros is a gradient, and does not count. Copies that were seen to
        follow trained weights {min_copied:g} time or more, as those of a target network, do not
        count.

    False alarms
        Experts that a router never chose do not count if their names show that they are experts, or
        if others of their kind have no gradient at times. Frozen parameters do not count. A head
        that this run does not use is reported.

    What to try
        - Check the forward pass between the two parameters named in the finding for `detach()`,
          `.data`, `.item()`, `torch.tensor(…)`, `.numpy()`, `no_grad`.
        - Run `print(h.requires_grad, h.grad_fn)` after each part: the first tensor that shows
          `False` comes after the cut.
        - In a custom Function, let `backward` return the gradient of each input for which
          `ctx.needs_input_grad` is `True`, and test it with `torch.autograd.gradcheck`.
        - A loss that fails with "does not require grad" has lost its graph: `requires_grad_(True)`
          on it hides that, and gives no parameter a gradient.
        - With reentrant gradient checkpointing behind frozen layers (PEFT), call
          `model.enable_input_require_grads()`, or checkpoint with `use_reentrant=False`.
        - If this part should not be trained, freeze it and leave it out of the optimizer.

    References
        - PyTorch documentation, Autograd mechanics: locally disabling gradient computation.
    """

    code: ClassVar[str] = "SG402"
    name: ClassVar[str] = "no-gradient"
    severity: ClassVar[str] = "error"
    absorbs: ClassVar[tuple[str, ...]] = ("SG108",)

    min_steps: int = 30
    min_evaluated: int = 5  # steps
    min_copied: int = 1  # times

    _num_rows: int = memory(int)  # with a backward
    # the first step of each optimizer, and its backward
    _first: dict[int, tuple[int, str]] = memory(dict[int, tuple[int, str]])
    _detached: dict[int, Fact] = memory(dict[int, Fact])
    _withheld: dict[int, dict[str, Fact]] = per_optimizer(dict[str, Fact])  # by parameter
    _left_out: dict[int, set[str]] = per_optimizer(set[str])  # of graphs that had them
    _copied: set[str] = memory(set[str])  # set to trained weights again and again
    _holders: dict[str, int | None] = memory(dict[str, "int | None"])  # optimizers of parameters
    _begun: dict[int, int] = memory(dict[int, int])  # the first step of optimizers
    _graphless: str = memory(str)  # the line of a loss without a graph
    _last_step: int = memory(lambda: -1)
    _known: tuple[Parameter, ...] = memory(tuple[Parameter, ...])
    _optimizers: Sequence[Optimizer] = memory(tuple[Optimizer, ...])
    # what optimizers hold and train: the parameters, their optimizers, their columns, and their
    # rows in the history
    _held: list[Parameter] = memory(list[Parameter])
    _owners: IntArray = memory(lambda: np.zeros(0, np.int64))
    _columns: IntArray = memory(lambda: np.zeros(0, np.int64))
    _rows: IntArray = memory(lambda: np.zeros(0, np.int64))
    _history: ParameterHistory = memory(lambda: ParameterHistory(NO_STEPS))

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if block.parameters is not self._known:
            self._known, self._optimizers = block.parameters, block.optimizers
            self._columns = columns_where(
                block.parameters, lambda each: each.optimizer is not None and each.trainable
            )
            self._rows = self._history.rows(block.parameters)[self._columns]
            self._held = [self._known[column] for column in as_list(self._columns)]
            self._owners = np.array([_owner_of(each) for each in self._held], np.int64)
            self._begin_anew()
        useful = _useful(block)
        self._num_rows += int(np.count_nonzero(useful))
        if not len(self._columns) or not useful.any():
            return ()
        steps = integers(block.steps, "iteration")[useful]
        self._last_step = int(steps[-1])
        state = block.state[useful][:, self._columns]
        is_own = steps[:, None] >= self._since(block)
        there, absent = is_own & (state >= State.ZERO), is_own & (state == State.ABSENT)
        self._begin(block, steps, there | absent)
        before = self._history.records[self._rows]
        has, lacks = before["has"] + np.cumsum(there, 0), before["lacks"] + np.cumsum(absent, 0)
        reached = (absent & (lacks == self.min_steps) & (has == 0)).any(axis=1)
        for row in as_list(np.flatnonzero(reached)):
            self._judge(has[row], lacks[row], int(steps[row]), at_end=False)
        self._history.records["has"][self._rows] = has[-1]
        self._history.records["lacks"][self._rows] = lacks[-1]
        for found in tuple(self.found):
            own = [each.name in found.parameters for each in self._held]
            rows = np.flatnonzero(absent[:, own].any(axis=1))
            if len(rows):
                self.found.extend(int(steps[rows[-1]]), found.optimizer)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.DETACHED:
            self._detached[fact.optimizer] = fact
        elif fact.kind == FactKind.GRADIENT_WITHHELD:
            self._withheld[fact.optimizer].update(dict.fromkeys(fact.parameters, fact))
        elif fact.kind == FactKind.COPIED_WEIGHTS and fact.number("times") >= self.min_copied:
            self._copied.update(fact.parameters)
        elif fact.kind == FactKind.LEFT_OUT:
            self._left_out[fact.optimizer].update(fact.parameters)
        elif fact.kind == FactKind.LOSS_WITHOUT_GRAPH:
            self._graphless = self._graphless or fact.where
        return ()

    def finish(self) -> Iterable[Finding]:
        counts = self._history.records[self._rows]
        self._judge(counts["has"], counts["lacks"], self._last_step, at_end=True)
        return self.found.take()

    def shortfall(self) -> Message | None:
        template = mark("needs {needed} steps with a backward(), has {has}")
        return too_few(template, self._num_rows, self.min_evaluated)

    def _begin(self, block: SharedBlock, steps: IntArray, known: BoolArray) -> None:
        """Remember the first step of each optimizer."""
        for optimizer in block.columns_of.keys() - self._first.keys():
            own = [each.optimizer == optimizer for each in self._held]
            rows = np.flatnonzero(known[:, own].any(axis=1))
            if len(rows):
                first = int(steps[rows[0]])
                self._first[optimizer] = first, site_of(block, EventKind.BACKWARD, first)

    def _begin_anew(self) -> None:
        """Count anew for parameters that another optimizer has taken over."""
        for each, row in zip(self._held, as_list(self._rows), strict=True):
            if self._holders.get(each.name, each.optimizer) != each.optimizer:
                self._history.records[row] = NO_STEPS[0]
            self._holders[each.name] = each.optimizer

    def _since(self, block: SharedBlock) -> IntArray:
        """Return from which step on the optimizers of today have held what they hold  # (P,)."""
        is_step = integers(block.events, "kind") == EventKind.STEP
        stepped = integers(block.events, "optimizer")[is_step]
        for optimizer in set(stepped.tolist()) - self._begun.keys():
            iterations = integers(block.events, "iteration")[is_step]
            self._begun[optimizer] = int(iterations[stepped == optimizer][0])
        since = np.full(len(self._owners), LATER if self._begun else 0)
        for optimizer, step in self._begun.items():
            since[self._owners == optimizer] = step
        return since

    def _judge(self, has: IntArray, lacks: IntArray, step: int, *, at_end: bool) -> None:
        """Judge each optimizer by the steps that its parameters had with and without a gradient."""
        enough = self.min_evaluated if at_end else self.min_steps
        counts: dict[int, list[tuple[Parameter, int, int]]] = defaultdict(list)
        for each, num, num_without in zip(self._held, has.tolist(), lacks.tolist(), strict=True):
            counts[_owner_of(each)].append((each, num, num_without))
        for optimizer in sorted(counts.keys() - {each.optimizer for each in self.found}):
            listed, withheld = counts[optimizer], self._withheld[optimizer]
            left_out = self._left_out[optimizer]
            at_times = {_kind_of(p) for p, num, num_without in listed if num and num_without}
            without = {
                p.name: num_without
                for p, num, num_without in listed
                if not num
                and num_without >= enough
                and (p.depth is None or p.name in withheld or p.name in left_out)
                and _kind_of(p) not in at_times
                and p.name not in self._copied
                and not any(w in p.name.lower() for w in ROUTED)
            }
            # what is certain stands alone
            without = {n: num for n, num in without.items() if n in withheld} or without
            told = [withheld[name] for name in without if name in withheld]
            case = UnreachedParameters(
                self._optimizers,
                self._known,
                optimizer,
                [p for p, _, _ in listed],
                [p for p, _, _ in listed if p.name in without],
                next((i for i, (_, num, _) in enumerate(listed) if num), len(listed)),
                self._cutting_statement(optimizer),
                told[0].text("function") if told else "",
                self._graphless,
                self._estimator_of(optimizer, without),
            )
            if without and (case.is_certain or at_end):
                self._report(case, step, without)

    def _cutting_statement(self, optimizer: int) -> str:
        fact = self._detached.get(optimizer)
        return "" if fact is None or fact.text("blocked") else fact.text("text")

    def _estimator_of(self, optimizer: int, without: Collection[str]) -> Fact | None:
        """Return the straight-through estimator that alone is why these get no gradient."""
        fact = self._detached.get(optimizer)
        is_it = fact is not None and fact.text("blocked") and set(without) <= set(fact.parameters)
        return fact if is_it else None

    def _report(self, case: UnreachedParameters, step: int, without: dict[str, int]) -> None:
        first, num_steps = next(iter(without.items()))
        first_step, where = self._first[case.optimizer]
        cause, advice, excerpt = case.explanation()
        if case.detached and excerpt == joined(case.detached):
            where = self._detached[case.optimizer].where
        elif case.estimator is not None:
            where = case.estimator.where or where
        elif case.function:
            where = self._withheld[case.optimizer][first].where or where
        self.found.add(
            self.finding(
                cause,
                advice,
                excerpt,
                severity=self.severity if case.is_certain else "warning",
                optimizer=case.optimizer,
                first_step=first_step,
                last_step=step,
                parameters=tuple(without),
                evidence=(Evidence("steps_without_gradient", first, step, float(num_steps), 0.0),),
                where=where,
            )
        )


def _useful(block: SharedBlock) -> BoolArray:
    """Return the rows in which something was backpropagated and stepped on  # (B,)."""
    iterations = integers(block.steps, "iteration")
    backwards = integers(block.events, "iteration")[block.events["kind"] == EventKind.BACKWARD]
    unused = flagged(block.steps, StepFlag.SKIPPED | StepFlag.BY_HAND | StepFlag.COPIED)
    return np.isin(iterations, backwards) & ~unused


def _owner_of(parameter: Parameter) -> int:
    return -1 if parameter.optimizer is None else parameter.optimizer


def _kind_of(parameter: Parameter) -> tuple[str, tuple[int, ...]]:
    """Return what parallel parts have in common: the name without its numbers, and the shape."""
    return re.sub(r"\d+", "#", parameter.name), parameter.shape
