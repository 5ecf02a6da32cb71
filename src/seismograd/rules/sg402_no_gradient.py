"""SG402 no-gradient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers, site_of
from seismograd.analysis.parameter_index import ParameterIndex
from seismograd.analysis.script_names import kind_among, models_of, module_of, name_among
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    IntArray,
    Optimizer,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)

ROUTED = ("expert", "moe")


@final
@dataclass
class NoGradient(Rule):
    """Parameters that an optimizer holds never get a gradient, because the loss does not depend on
    them.

    What it finds
        Trainable parameters of an optimizer that had no gradient in any step. Between them and the
        loss there is a `detach`, a `.data`, a `torch.no_grad` or a conversion to NumPy and back; or
        an operation without a derivative (`argmax`, `round`, comparisons); or the forward pass
        never uses the layer, because it was replaced after the optimizer was created.

    Why it hurts
        They keep their random weights. The rest of the model has to learn from the features of
        untrained layers, which often works well enough to go unnoticed.

    How it decides
        A parameter counts if it is trainable, appears in the graph of no loss, and had no gradient
        in any of at least {min_steps} steps of its optimizer; at the end of a run, {min_evaluated}
        steps are enough. If these are the first of the optimizer's parameters, in the order in
        which the modules register them, the graph is cut between the last of them and the first
        parameter with a gradient. Other cases are reported at the end of the run, as a warning. A
        gradient of zeros is a gradient, and does not count.

    False alarms
        Experts that a router never chose do not count if their names show that they are experts, or
        if others of their kind have no gradient at times. Frozen parameters do not count. A head
        that this run does not use is reported.

    What to try
        - Check the forward pass between the two parameters named in the finding for `detach()`,
          `.data`, `.item()`, `torch.tensor(…)`, `.numpy()`, `no_grad`.
        - Run `print(h.requires_grad, h.grad_fn)` after each part: the first tensor that shows
          `False` comes after the cut.
        - With reentrant gradient checkpointing behind frozen layers (PEFT), call
          `model.enable_input_require_grads()`, or checkpoint with `use_reentrant=False`.
        - If this part should not be trained, freeze it and leave it out of the optimizer.

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
    # the first step of each optimizer, and its backward
    _first: dict[int, tuple[int, str]] = field(
        default_factory=dict[int, tuple[int, str]], init=False, repr=False
    )
    _last_step: int = field(default=-1, init=False, repr=False)
    _known: tuple[Parameter, ...] = field(default=(), init=False, repr=False)
    _optimizers: Sequence[Optimizer] = field(default=(), init=False, repr=False)
    _index: ParameterIndex = field(default_factory=ParameterIndex, init=False, repr=False)
    # of the held and trainable parameters: their columns, and their rows in `_counts`
    _columns: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    _owners: set[int] = field(default_factory=set[int], init=False, repr=False)
    # steps with and without a gradient  # (parameters, 2)
    _counts: IntArray = field(
        default_factory=lambda: np.zeros((0, 2), np.int64), init=False, repr=False
    )

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if block.parameters is not self._known:
            self._take_in(block)
        useful = _useful(block)
        self._num_rows += int(np.count_nonzero(useful))
        if not len(self._columns) or not useful.any():
            return ()
        steps = integers(block.steps, "iteration")[useful]
        self._last_step = int(steps[-1])
        state = block.state[useful][:, self._columns]
        there, absent = state >= State.ZERO, state == State.ABSENT
        for optimizer in self._owners - self._first.keys():
            own = [self._known[each].optimizer == optimizer for each in as_list(self._columns)]
            rows = np.flatnonzero((there | absent)[:, own].any(axis=1))
            if len(rows):
                first = int(steps[rows[0]])
                self._first[optimizer] = first, site_of(block, EventKind.BACKWARD, first)
        before = self._counts[self._rows]
        after = before + np.stack([there.sum(axis=0), absent.sum(axis=0)], axis=1)
        self._counts[self._rows] = after
        if ((before[:, 1] < self.min_steps) & (after[:, 1] >= self.min_steps)).any():
            has, lacks = before[:, 0] + np.cumsum(there, 0), before[:, 1] + np.cumsum(absent, 0)
            reached = (absent & (lacks == self.min_steps) & (has == 0)).any(axis=1)
            for row in as_list(np.flatnonzero(reached)):
                counts = np.stack([has[row], lacks[row]], axis=1)
                self._judge(counts, int(steps[row]), at_end=False)
        for found in tuple(self.found):
            own = [self._known[column].name in found.parameters for column in self._columns]
            rows = np.flatnonzero(absent[:, own].any(axis=1))
            if len(rows):
                self.found.extend(int(steps[rows[-1]]), found.optimizer)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        self._judge(self._counts[self._rows], self._last_step, at_end=True)
        return self.found.take()

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps with a backward(), has {has}",
                needed=self.min_evaluated,
                has=self._num_rows,
            )
        return None

    def _take_in(self, block: RowBatch) -> None:
        self._known, self._optimizers = block.parameters, block.optimizers
        rows = self._index.positions(block.parameters)
        more = len(self._index.parameters) - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros((more, 2), np.int64)])
        self._columns = np.flatnonzero(
            [each.optimizer is not None and each.trainable for each in block.parameters]
        )
        self._rows = rows[self._columns]
        held = (self._known[column].optimizer for column in as_list(self._columns))
        self._owners = {each for each in held if each is not None}

    def _judge(self, counts: IntArray, step: int, *, at_end: bool) -> None:
        """Judge each optimizer by the steps that its parameters had with and without a gradient."""
        held: dict[int, list[tuple[Parameter, int, int]]] = {}
        for column, (has, lacks) in zip(as_list(self._columns), counts.tolist(), strict=True):
            parameter = self._known[column]
            if parameter.optimizer is not None:
                held.setdefault(parameter.optimizer, []).append((parameter, has, lacks))
        enough = self.min_evaluated if at_end else self.min_steps
        for optimizer in sorted(held.keys() - {each.optimizer for each in self.found}):
            listed = held[optimizer]
            at_times = {_kind_of(p) for p, has, lacks in listed if has and lacks}
            without = [
                (p, lacks)
                for p, has, lacks in listed
                if not has and lacks >= enough and p.depth is None
                if _kind_of(p) not in at_times and not any(w in p.name.lower() for w in ROUTED)
            ]
            is_cut = bool(without) and without[0][0] is listed[0][0]
            if not without or not (is_cut or at_end):
                continue
            cause, advice, excerpt = self._words(optimizer, is_cut, [p for p, _ in without], listed)
            first, num_steps = without[0]
            first_step, where = self._first[optimizer]
            evidence = Evidence("steps_without_gradient", first.name, step, float(num_steps), 0.0)
            self.found.add(
                self.finding(
                    severity=self.severity if is_cut else "warning",
                    optimizer=optimizer,
                    first_step=first_step,
                    last_step=step,
                    parameters=tuple(p.name for p, _ in without),
                    evidence=(evidence,),
                    cause=cause,
                    advice=advice,
                    where=where,
                    excerpt=excerpt,
                )
            )

    def _words(
        self,
        optimizer: int,
        is_cut: bool,
        without: Sequence[Parameter],
        listed: Sequence[tuple[Parameter, int, int]],
    ) -> tuple[Message, Message, str]:
        """Return cause, advice and excerpt."""
        reached = next((i for i, (_, has, _) in enumerate(listed) if has), len(listed))
        last = listed[reached - 1][0] if is_cut else without[-1]
        values: dict[str, str | int | float] = {
            "optimizer": name_among(self._optimizers, optimizer),
            "num": len(without),
            "held": len(listed),
            "first": without[0].name,
            "last": last.name,
            "next": listed[reached][0].name if reached < len(listed) else "",
            "module": module_of(without),
            "kind": kind_among(self._optimizers, optimizer) or "SGD",
            "model": next(iter(models_of(self._known, optimizer)), "model"),
        }
        return _words(is_cut, self._is_replaced(without), self._is_behind_frozen(last), values)

    def _is_replaced(self, without: Sequence[Parameter]) -> bool:
        """Return whether no module has these, while there are modules that are trained."""
        return all(p.root < 0 for p in without) and any(p.root >= 0 for p in self._known)

    def _is_behind_frozen(self, last: Parameter) -> bool:
        """Return whether the parameters of this model begin with frozen ones."""
        of_model = [p for p in self._known if p.root == last.root >= 0]
        return bool(of_model) and not of_model[0].trainable


def _useful(block: RowBatch) -> BoolArray:
    """Return the rows in which something was backpropagated and stepped on  # (B,)."""
    iterations = integers(block.steps, "iteration")
    backwards = integers(block.events, "iteration")[block.events["kind"] == EventKind.BACKWARD]
    skipped = (integers(block.steps, "flags") & int(StepFlag.SKIPPED | StepFlag.BY_HAND)) != 0
    return np.isin(iterations, backwards) & ~skipped


def _kind_of(parameter: Parameter) -> tuple[str, tuple[int, ...]]:
    """Return what parallel parts have in common: the name without its numbers, and the shape."""
    return re.sub(r"\d+", "#", parameter.name), parameter.shape


def _words(
    is_cut: bool, is_replaced: bool, is_behind_frozen: bool, values: dict[str, str | int | float]
) -> tuple[Message, Message, str]:
    if is_replaced:
        return (
            say(
                "{optimizer:the} holds tensors that never get a gradient and that no module has "
                "(the first is {first}; {num} of {held}): the modules that had them were replaced "
                "after {optimizer:the} was created, or the forward pass uses copies of them",
                **values,
            ),
            say(
                "create {optimizer:the} after the last change to the model: moving tensors to "
                "another device, a new head, resize_token_embeddings, load_state_dict with "
                "assign=True",
                **values,
            ),
            f"{values['optimizer']} = torch.optim.{values['kind']}({values['model']}.parameters(), "
            "lr=…)  # after that",
        )
    if is_cut and values["next"]:
        return (
            say(
                "no gradient reaches {num} of the {held} {held:parameter|parameters} that "
                "{optimizer:the} holds ({first} to {last}), while {next} gets one: the graph is "
                "cut between {last} and {next}, or the forward pass does not use them",
                **values,
            ),
            say(
                "with gradient checkpointing, call {model}.enable_input_require_grads() or pass "
                "use_reentrant=False: a reentrant checkpoint whose input needs no gradient, as "
                "behind frozen layers, cuts the graph; otherwise check the forward pass between "
                "{last} and {next} for detach, .data or no_grad",
                **values,
            )
            if is_behind_frozen
            else say(
                "check the forward pass between {last} and {next} for detach, .data, no_grad or an "
                "operation without a derivative",
                **values,
            ),
            f"{values['model']}.enable_input_require_grads()"
            if is_behind_frozen
            else "h = h.detach()  # remove",
        )
    if is_cut:
        return (
            say(
                "none of the parameters that {optimizer:the} holds ({held}) ever gets a gradient: "
                "the losses do not depend on them",
                **values,
            ),
            say(
                "make sure that the loss is computed from the output of the model whose parameters "
                "{optimizer:the} holds, and not from a detached copy",
                **values,
            ),
            "print(loss.grad_fn)",
        )
    return (
        say(
            "no gradient reaches {num} of the {held} {held:parameter|parameters} that "
            "{optimizer:the} holds (the first is {first}): the forward pass does not use them, or "
            "cuts them off from the loss",
            **values,
        ),
        say("use {module} in the forward pass, or remove it", **values),
        "",
    )
