"""SG403 frozen-parameter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    columns_where,
    integers,
    iteration_at,
    numbers,
)
from seismograd.analysis.chance_level import chance_loss
from seismograd.analysis.frozen_layers import holder, misplaced
from seismograd.analysis.loss_level import LossLevel
from seismograd.analysis.medians import median
from seismograd.analysis.script_names import name_among
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Explanation, Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg403.freezing_mistakes import (
    adapters_are_frozen,
    adapters_are_left_out,
    frozen_before,
    new_is_frozen,
    nothing_reads,
    trains_all_the_same,
    trunk_is_frozen,
)
from seismograd.schema import (
    Evidence,
    Fact,
    FactKind,
    Finding,
    IntArray,
    Optimizer,
    Parameter,
    State,
)

# a loss that ends as that of a guess: the least share of the first ones, and of the recent ones
NEAR, STILL = 0.8, 0.98


@final
@dataclass
class FrozenParameter(Rule):
    """Parameters are frozen, apparently by mistake, or still train although the script tried to
    freeze them.

    What it finds
        `module.requires_grad = False` (or `True`) or a typo such as `parameter.require_grad =
        False` sets an attribute that nothing reads, so nothing changes. The rule also finds the
        opposite: a head, or a layer among others of its kind, that is frozen while the layers
        before it train; a model in which only what is already trained can learn, or only
        normalization layers, while new layers are frozen; nearly all of a model frozen as it was
        initialized, so that the loss does not fall; and adapters, such as LoRA's, that are all
        frozen although the optimizer holds them, or takes what requires a gradient.

    Why it hurts
        A frozen head with random weights keeps the model from using what it learns: the layers
        below have to fit an output that means nothing. A backbone that should have stayed fixed
        loses its pretrained features in the first large updates of a new head.

    How it decides
        Attributes that nothing reads are found directly on the modules and parameters, whenever
        they were set, so this part is certain. New layers are recognized by their weights, which
        are uniformly distributed, as an initialization leaves them and training does not. For the
        rest, the rule decides after {min_steps} steps ({min_evaluated} are enough at the end of a
        run), from the parameters and their order in the modules. Frozen layers count if they come
        after a layer that trains: either between numbered layers of one parent, where they hold no
        more than {max_share:.0%} of the model, or as the last layers, where they hold no more than
        {max_tail_share:.0%}; at least {max_tail_share:.0%} of the model must train. Layers are
        linear, convolutional, recurrent and attention layers; a layer that ever had a gradient is
        not frozen. Adapters count where an optimizer holds them, none of them ever had a gradient
        (since they were loaded, where peft has loaded them for inference),
        and what trains is no more than {max_trained_share:.0%} of what the optimizer holds: after
        {min_steps} steps where peft has loaded them for inference, otherwise at the end of the run.
        Where no optimizer holds them, they count if the statement that creates it asks for
        `requires_grad`, or if the loss has not fallen; so do layers that are only called adapters.
        A model of which at least {min_frozen_share:.0%} is frozen counts if these weights are as an
        initialization leaves them, uniform or with normalization layers of ones and zeros, and if
        the loss, after at least {min_losses} steps, has fallen by less than {min_drop:.0%} or
        has come to rest within {min_drop:.0%} of that of a guess.

    False alarms
        A frozen backbone, the input side of a model, frozen embeddings and normalization layers,
        adapters on a frozen model, and frozen copies of trained layers (target networks, averaged
        models) do not count, nor do random features on which a head learns, or frozen adapters
        beside one that trains. A classifier that is
        fixed on purpose is reported, and so is a random network whose normalization layers alone
        are trained on purpose.

    What to try
        - Call the method with the underscore, `module.requires_grad_(False)`, or set
          `requires_grad` on each parameter.
        - After freezing a whole model, unfreeze the head with `model.head.requires_grad_(True)`, or
          replace the head after freezing, since new layers are trainable.
        - Load an adapter of peft that is to be trained further with `is_trainable=True`.
        - Make sure that the optimizer holds the parameters that are unfrozen later.

    References
        - PyTorch documentation, torch.nn.Module.requires_grad_; Autograd mechanics: setting
          requires_grad.
    """

    code: ClassVar[str] = "SG403"
    name: ClassVar[str] = "frozen-parameter"
    severity: ClassVar[str] = "warning"
    absorbs: ClassVar[tuple[str, ...]] = ("SG108",)

    min_steps: int = 10
    min_evaluated: int = 3  # steps
    max_share: float = 0.5  # of the scalars of all layers, between layers of one parent
    max_tail_share: float = 1 / 3  # of the scalars of all layers, at the end
    max_trained_share: float = 0.1  # of the scalars that an optimizer with frozen adapters holds
    min_frozen_share: float = 0.9  # of the scalars of a model whose loss does not fall
    min_losses: int = 30
    min_drop: float = 0.03  # of the loss

    _num_rows: int = memory(int)
    _first_step: int = memory(lambda: -1)
    _last_step: int = memory(lambda: -1)
    _known: tuple[Parameter, ...] = memory(tuple[Parameter, ...])
    _suspects: IntArray = memory(lambda: np.zeros(0, np.int64))  # columns
    # of each column: the last step at which it had a gradient, suspect or not by then; -1 for none
    _last: IntArray = memory(lambda: np.zeros(0, np.int64))
    _adapters: list[Fact] = memory(list[Fact])
    _trunks: list[Fact] = memory(list[Fact])
    _takes_trainable: bool = memory(bool)  # the statement that creates an optimizer says so
    _loss: LossLevel = memory(lambda: LossLevel(num_recent=20))
    _optimizers: tuple[Optimizer, ...] = memory(tuple[Optimizer, ...])

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._first_step = iteration_at(block, 0) if self._first_step < 0 else self._first_step
        self._last_step = iteration_at(block, -1)
        self._optimizers = tuple(block.optimizers)
        self._loss.add(numbers(block.steps, "loss"))
        if block.parameters is not self._known:
            self._known = block.parameters
            self._suspects = columns_where(
                block.parameters, lambda each: each.frozen_in_name or not each.trainable
            )
        before, self._num_rows = self._num_rows, self._num_rows + len(block)
        there = block.state >= State.ZERO
        fresh = np.full(there.shape[1] - len(self._last), -1, np.int64)
        self._last = np.concatenate([self._last, fresh]) if len(fresh) else self._last
        until = min(max(self.min_steps - before, 0), len(block))
        for rows in (slice(until), slice(until, None)):
            some = there[rows]
            if some.any():
                steps = integers(block.steps, "iteration")[rows]
                latest = np.where(some, steps[:, None], -1).max(axis=0)
                self._last = np.maximum(self._last, latest)
            if rows.stop == until and before < self.min_steps <= self._num_rows:
                self._judge(iteration_at(block, until - 1))
        if self.found:
            self.found.extend(self._last_step)
        return self.found.take()

    @property
    def _got_some(self) -> dict[str, int]:
        """Return the suspects that ever had a gradient, and the last step at which they had one:
        one that is frozen now and then only, as by `toggle_optimizer`, is none of those that are.
        """
        last = self._last[self._suspects].tolist()
        return {
            self._known[column].name: step
            for column, step in zip(as_list(self._suspects), last, strict=True)
            if step >= 0
        }

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.FROZEN_ADAPTERS:
            self._adapters.append(fact)
        if fact.kind == FactKind.FROZEN_TRUNK:
            self._trunks.append(fact)
        if fact.kind == FactKind.OPTIMIZER_CREATED:
            self._takes_trainable |= "requires_grad" in fact.text("text")
        if fact.kind in (FactKind.SWITCH, FactKind.FROZEN_FRESH) and not self.found:
            is_switch = fact.kind == FactKind.SWITCH
            explanation = nothing_reads(fact) if is_switch else new_is_frozen(fact)
            where = fact.text("place") or fact.where
            self._report(fact.parameters, fact.iteration, explanation, fact.iteration, where)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        if self.min_evaluated <= self._num_rows < self.min_steps:
            self._judge(self._last_step)
        if self.min_steps <= self._num_rows:
            self._judge_adapters(self._last_step, is_end=True)
        for fact in self._trunks:
            if not self.found and self._keeps_it_from_learning(fact):
                values = self._loss.at_first, self._loss.now
                explanation = trunk_is_frozen(fact, *values)
                self._report(
                    fact.parameters, self._last_step, explanation, fact.iteration, fact.where
                )
        return self.found.take()

    def shortfall(self) -> Message | None:
        return too_few(mark("needs {needed} steps, has {has}"), self._num_rows, self.min_evaluated)

    def _judge(self, step: int) -> None:
        if self.found:
            return
        in_name = [p for p in self._known if p.frozen_in_name and p.name in self._got_some]
        if in_name:
            explanation = trains_all_the_same(in_name)
            self._report([p.name for p in in_name], step, explanation, self._first_step)
            return
        limits = self.max_share, self.max_tail_share
        frozen, before = misplaced(self._known, self._got_some, *limits)
        if before is not None:
            names = [parameter.name for layer in frozen for parameter in layer.parameters]
            explanation = frozen_before(frozen[0].parameters, before.parameters)
            self._report(names, step, explanation, self._first_step)
        self._judge_adapters(step, is_end=False)

    def _judge_adapters(self, step: int, *, is_end: bool) -> None:
        """Report adapters that are all frozen; before the end, only those that are for certain by
        mistake: others may be unfrozen later.
        """
        for fact in self._adapters:
            is_certain = is_end or fact.number("for_inference")
            if self.found or fact.iteration > step or not is_certain:
                continue
            if fact.number("certain") == 0 and not (is_end and self._does_not_fall()):
                continue  # of older records NaN
            # an adapter that was trained before may have been loaded again under the same names
            first = fact.iteration if fact.number("for_inference") == 1 else 0
            since = {name for name, last in self._got_some.items() if last >= first}
            held = holder(self._known, fact.parameters, since, self.max_trained_share)
            if held is not None:
                explanation = adapters_are_frozen(fact, name_among(self._optimizers, held))
                self._report(fact.parameters, step, explanation, fact.iteration, fact.where)
                continue
            trains = next((each.name for each in self._known if each.trainable), "")
            is_meant = self._takes_trainable or (is_end and self._does_not_fall())
            if trains and is_meant and self._are_still_frozen(fact.parameters, since):
                explanation = adapters_are_left_out(fact, trains)
                self._report(fact.parameters, step, explanation, fact.iteration, fact.where)

    def _are_still_frozen(self, names: Collection[str], got_some: Collection[str]) -> bool:
        """Return whether these parameters do not train, and no optimizer holds one; `got_some`: the
        names of those that had a gradient since the model is there.
        """
        meant = [each for each in self._known if each.name in names]
        return bool(meant) and not any(
            each.trainable or each.optimizer is not None or each.name in got_some for each in meant
        )

    def _keeps_it_from_learning(self, fact: Fact) -> bool:
        """Return whether this frozen part of a model is all but all, still frozen, and the loss has
        not fallen.
        """
        is_large = fact.number("share") >= self.min_frozen_share
        trains = {each.name for each in self._known if each.trainable} | self._got_some.keys()
        return is_large and trains.isdisjoint(fact.parameters) and self._does_not_fall()

    def _does_not_fall(self) -> bool:
        if self._loss.num < self.min_losses:
            return False
        guess = chance_loss(self._known)
        # also where the first batches were somewhat worse than a guess
        half = len(self._loss.recent) // 2
        before, after = median(self._loss.recent[:half]), median(self._loss.recent[half:])
        is_guess = abs(self._loss.now / guess - 1) <= self.min_drop and after > STILL * before
        return (is_guess and self._loss.stays(NEAR)) or self._loss.stays(1 - self.min_drop)

    def _report(
        self,
        names: Sequence[str],
        step: int,
        explanation: Explanation,
        first_step: int,
        where: str = "",
    ) -> None:
        evidence = Evidence("frozen_parameters", names[0], step, float(len(names)), 0.0)
        self.found.add(
            self.finding(
                *explanation,
                first_step=first_step,
                last_step=step,
                parameters=tuple(names),
                evidence=(evidence,),
                where=where,
            )
        )
