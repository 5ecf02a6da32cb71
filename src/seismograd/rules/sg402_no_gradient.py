"""SG402 no-gradient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers, site_of
from seismograd.analysis.parameter_index import ParameterIndex
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
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

ROUTED = ("expert", "moe")


@final
@dataclass
class NoGradient(Rule):
    """Parameters that an optimizer holds never get a gradient: no path leads from the loss to them.

    What it finds
        Trainable parameters of an optimizer that have had no gradient in any step: a `detach`, a
        `.data`, a `torch.no_grad` or a trip through NumPy between them and the loss; an operation
        without a derivative (`argmax`, `round`, comparisons); or a layer that the forward pass
        never uses.

    Why it hurts
        They keep their random weights. The part of the model that still learns has to make do with
        features of an untrained one, which often works well enough for nobody to notice.

    How it decides
        A parameter counts when it is trainable, the graph of no loss has shown it, and all of at
        least {min_steps} steps of its optimizer found no gradient; at the end of a run
        {min_evaluated} steps are enough. When these are the first of the optimizer's parameters, in
        the order in which the modules register them, the graph is cut between the last of them and
        the first that gets one. Others are reported at the end, and as a warning. A gradient of
        zeros is a gradient, and does not count.

    False alarms
        Experts that a router never chose do not count, where their names say that they are experts,
        or where others of their kind are without a gradient at times. Frozen parameters do not
        count. A head that this run does not use is reported.

    What to try
        - Look at the forward pass between the two parameters that are named, for `detach()`,
          `.data`, `.item()`, `torch.tensor(…)`, `.numpy()`, `no_grad`.
        - Walk along: `print(h.requires_grad, h.grad_fn)` after each part; the first tensor that
          says `False` is behind the cut.
        - If the part is meant to stay as it is, freeze it, and keep it out of the optimizer.

    References
        - PyTorch documentation, Autograd mechanics: locally disabling gradient computation.
    """

    code: ClassVar[str] = "SG402"
    name: ClassVar[str] = "no-gradient"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG108",)

    min_steps: int = 30
    min_evaluated: int = 5  # steps

    _num_rows: int = field(default=0, init=False, repr=False)  # with a backward
    _known: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    # that are held and trainable
    _columns: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    # of these in the arrays below
    _positions: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _parameter_index: ParameterIndex = field(default_factory=ParameterIndex, init=False, repr=False)
    # steps with a gradient
    _present: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    # steps without
    _absent: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    # all of them have had a gradient
    _all_present: bool = field(default=False, init=False, repr=False)
    _found: dict[int, Finding] = field(default_factory=dict[int, Finding], init=False, repr=False)
    _where: str = field(default="", init=False, repr=False)
    _first_step: int = field(default=-1, init=False, repr=False)
    _last_step: int = field(default=-1, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        if block.parameters is not self._known:
            self._take_in(block.parameters)
        if (
            self._all_present
            and self._num_rows >= self.min_evaluated
            and not (block.state == State.ABSENT).any()
        ):
            return
        useful = self._useful(block)
        self._num_rows += int(useful.sum())
        if not len(self._columns) or not useful.any():
            return
        present, state = self._present[self._positions], block.state[:, self._columns]
        absent = (state == State.ABSENT) & useful[:, None]
        there = state >= State.ZERO
        steps = integers(block.steps, "iteration")[useful]
        self._last_step = int(steps[-1])
        if self._first_step < 0:
            self._first_step = int(steps[0])
            self._where = site_of(block, EventKind.BACKWARD, self._first_step)
        before = self._absent[self._positions]
        self._absent[self._positions] = before + absent.sum(axis=0)
        if ((before < self.min_steps) & (before + absent.sum(axis=0) >= self.min_steps)).any():
            self._judge_rows(block, absent, there, before, present)
        self._present[self._positions] = present + there.sum(axis=0)
        self._all_present = bool((self._present[self._positions] > 0).all())
        for optimizer, found in self._found.items():
            own = [
                position
                for position, column in enumerate(as_list(self._columns))
                if block.parameters[column].name in found.parameters
            ]
            rows = np.flatnonzero(absent[:, own].any(axis=1))
            if len(rows):
                last = int(integers(block.steps, "iteration")[rows[-1]])
                self._found[optimizer] = replace(found, last_step=max(found.last_step, last))
                yield self._found[optimizer]

    def finish(self) -> Iterable[Finding]:
        if self._known is None:
            return
        for optimizer in sorted(
            {p.optimizer for p in self._known if p.optimizer is not None} - self._found.keys()
        ):
            counts = self._present[self._positions], self._absent[self._positions]
            finding = self._judge(self._known, optimizer, *counts, self._last_step, at_end=True)
            if finding is not None:
                self._found[optimizer] = finding
                yield finding

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps with a backward, has {has}",
                needed=self.min_evaluated,
                has=self._num_rows,
            )
        return None

    def _take_in(self, parameters: tuple[Parameter, ...]) -> None:
        self._known = parameters
        positions = self._parameter_index.positions(parameters)
        more = len(self._parameter_index.parameters) - len(self._present)
        self._present = np.concatenate([self._present, np.zeros(more, np.int64)])
        self._absent = np.concatenate([self._absent, np.zeros(more, np.int64)])
        self._columns = np.flatnonzero(
            [p.optimizer is not None and p.trainable for p in parameters]
        )
        self._positions = positions[self._columns]
        self._all_present = len(self._positions) > 0 and bool(
            (self._present[self._positions] > 0).all()
        )

    def _useful(self, block: RowBatch) -> BoolArray:
        """Rows in which something was backpropagated and stepped on  # (B,)."""
        iterations = integers(block.steps, "iteration")
        backwards = integers(block.events, "iteration")[block.events["kind"] == EventKind.BACKWARD]
        skipped = (integers(block.steps, "flags") & int(StepFlag.SKIPPED | StepFlag.BY_HAND)) != 0
        return np.isin(iterations, backwards) & ~skipped

    def _judge_rows(
        self,
        block: RowBatch,
        absent: BoolArray,
        there: BoolArray,
        before: IntArray,
        present: IntArray,
    ) -> None:
        """Judge at each row in which parameters come to `min_steps`."""
        num_absent, num_present = (
            before + np.cumsum(absent, axis=0),
            present + np.cumsum(there, axis=0),
        )
        reached = absent & (num_absent == self.min_steps) & (num_present == 0)
        for row in as_list(np.flatnonzero(reached.any(axis=1))):
            optimizers = {
                block.parameters[column].optimizer
                for column in as_list(self._columns[reached[row]])
            }
            for optimizer in sorted(
                each for each in optimizers if each is not None and each not in self._found
            ):
                step = int(integers(block.steps, "iteration")[row])
                finding = self._judge(
                    block.parameters,
                    optimizer,
                    num_present[row],
                    num_absent[row],
                    step,
                    at_end=False,
                )
                if finding is not None:
                    self._found[optimizer] = finding

    def _judge(
        self,
        parameters: Sequence[Parameter],
        optimizer: int,
        present: IntArray,
        absent: IntArray,
        step: int,
        *,
        at_end: bool,
    ) -> Finding | None:
        """What is to be said of the parameters of one optimizer; `present` and `absent` are
        numbers of steps of `_columns`.
        """
        listed = [
            (parameters[column], int(present[i]), int(absent[i]))
            for i, column in enumerate(as_list(self._columns))
        ]
        held = [entry for entry in listed if entry[0].optimizer == optimizer]
        at_times = {_kind_of(p) for p, has, lacks in held if has and lacks}
        enough = self.min_evaluated if at_end else self.min_steps
        without = [
            (p, lacks)
            for p, has, lacks in held
            if not has
            and lacks >= enough
            and p.depth is None
            and _kind_of(p) not in at_times
            and not _is_routed(p.name)
        ]
        names = [p.name for p, _ in without]
        first_with = next((position for position, (_, has, _) in enumerate(held) if has), len(held))
        begins = [p.name for p, _, _ in held[:first_with]]
        is_cut = bool(begins) and begins[0] in names
        if not names or not (is_cut or at_end):
            return None
        values: dict[str, str | int | float] = {
            "num": len(names),
            "first": names[0],
            "last": begins[-1] if is_cut else names[-1],
            "next": held[first_with][0].name if first_with < len(held) else "",
            "held": len(held),
        }
        cause, advice, excerpt = _words(is_cut, values)
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity if is_cut else "warning",
            optimizer=optimizer,
            first_step=self._first_step,
            last_step=step,
            parameters=tuple(names),
            evidence=(
                Evidence("steps_without_gradient", names[0], step, float(without[0][1]), 0.0),
            ),
            cause=cause,
            advice=advice,
            where=self._where,
            excerpt=excerpt,
        )


def _kind_of(parameter: Parameter) -> tuple[str, tuple[int, ...]]:
    """What parallel parts have in common: the name but for its numbers, and the shape."""
    return re.sub(r"\d+", "#", parameter.name), parameter.shape


def _is_routed(name: str) -> bool:
    """Whether the name says that a router chooses what is used."""
    return any(word in name.lower() for word in ROUTED)


def _words(cut: bool, values: dict[str, str | int | float]) -> tuple[Message, Message, str]:
    """Cause, advice and excerpt."""
    if cut and values["next"]:
        return (
            say(
                "{num} of {held} parameters that the optimizer holds never get a gradient, from "
                "{first} to {last}, while {next} does: "
                "between {last} and {next} the graph is cut, or the forward pass does not use them",
                **values,
            ),
            say(
                "look in the forward pass between {last} and {next} for detach, .data, no_grad or "
                "an operation without a derivative",
                **values,
            ),
            "h = h.detach()  # remove",
        )
    if cut:
        return (
            say(
                "none of the {held} parameters that the optimizer holds ever gets a gradient: the "
                "losses do not depend on them",
                **values,
            ),
            say(
                "see that the loss is computed from the output of the model that the optimizer "
                "holds, and not from a detached copy"
            ),
            "print(loss.grad_fn)",
        )
    return (
        say(
            "{num} of {held} parameters that the optimizer holds never get a gradient, first "
            "{first}: the forward pass does not use "
            "them, or cuts them off from the loss",
            **values,
        ),
        say("use {first} in the forward pass, or remove it", **values),
        "",
    )
