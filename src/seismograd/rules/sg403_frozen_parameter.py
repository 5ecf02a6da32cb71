"""SG403 frozen-parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers
from seismograd.analysis.frozen_layers import misplaced
from seismograd.analysis.script_names import holder_of, in_script, module_of
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, IntArray, Parameter, State

CERTAIN = (FactKind.SWITCH, FactKind.FROZEN_FRESH)


@final
@dataclass
class FrozenParameter(Rule):
    """Parameters are frozen, apparently by mistake, or still train although the script tried to
    freeze them.

    What it finds
        `module.requires_grad = False` (or `True`) or a typo such as `parameter.require_grad =
        False` sets an attribute that nothing reads, so nothing changes. The rule also finds the
        opposite: a head, or a layer among others of its kind, that is frozen while the layers
        before it train; and a model in which only what is already trained can learn, or only
        normalization layers, while new layers are frozen.

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
        not frozen.

    False alarms
        A frozen backbone, the input side of a model, frozen embeddings and normalization layers,
        adapters on a frozen model, and frozen copies of trained layers (target networks, averaged
        models) do not count. A classifier that is fixed on purpose is reported, and so is a random
        network whose normalization layers alone are trained on purpose.

    What to try
        - Call the method with the underscore, `module.requires_grad_(False)`, or set
          `requires_grad` on each parameter.
        - After freezing a whole model, unfreeze the head with `model.head.requires_grad_(True)`, or
          replace the head after freezing, since new layers are trainable.
        - Make sure that the optimizer holds the parameters that are unfrozen later.

    References
        - PyTorch documentation, torch.nn.Module.requires_grad_; Autograd mechanics: setting
          requires_grad.
    """

    code: ClassVar[str] = "SG403"
    name: ClassVar[str] = "frozen-parameter"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG108",)

    min_steps: int = 10
    min_evaluated: int = 3  # steps
    max_share: float = 0.5  # of the scalars of all layers, between layers of one parent
    max_tail_share: float = 1 / 3  # of the scalars of all layers, at the end

    _num_rows: int = field(default=0, init=False, repr=False)
    _first_step: int = field(default=-1, init=False, repr=False)
    _last_step: int = field(default=-1, init=False, repr=False)
    _known: tuple[Parameter, ...] = field(default=(), init=False, repr=False)
    # columns
    _suspects: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    # suspects that had a gradient
    _got_some: set[str] = field(default_factory=set[str], init=False, repr=False)

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        iterations = integers(block.steps, "iteration")
        self._first_step = int(iterations[0]) if self._first_step < 0 else self._first_step
        self._last_step = int(iterations[-1])
        if block.parameters is not self._known:
            self._known = block.parameters
            self._suspects = np.flatnonzero(
                [each.frozen_in_name or not each.trainable for each in block.parameters]
            )
        before, self._num_rows = self._num_rows, self._num_rows + len(block)
        there = block.state[:, self._suspects] >= State.ZERO
        until = min(max(self.min_steps - before, 0), len(block))
        for rows in (slice(until), slice(until, None)):
            columns = as_list(self._suspects[there[rows].any(axis=0)])
            self._got_some.update(self._known[column].name for column in columns)
            if rows.stop == until and before < self.min_steps <= self._num_rows:
                self._judge(int(iterations[until - 1]))
        if self.found:
            self.found.extend(self._last_step)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind in CERTAIN and not self.found:
            words = _nothing_reads(fact) if fact.kind == FactKind.SWITCH else _new_is_frozen(fact)
            self._report(fact.parameters, fact.iteration, *words, since=fact)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        if self.min_evaluated <= self._num_rows < self.min_steps:
            self._judge(self._last_step)
        return self.found.take()

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None

    def _judge(self, step: int) -> None:
        if self.found:
            return
        in_name = [p for p in self._known if p.frozen_in_name and p.name in self._got_some]
        if in_name:
            self._report([p.name for p in in_name], step, *_trains_all_the_same(in_name))
            return
        limits = self.max_share, self.max_tail_share
        frozen, before = misplaced(self._known, self._got_some, *limits)
        if before is not None:
            first = frozen[0].parameters
            names = [parameter.name for layer in frozen for parameter in layer.parameters]
            cause = say(
                "{first} is frozen, while {before}, which comes before it, trains: what {before} "
                "learns has to fit weights that never change",
                first=module_of(first),
                before=module_of(before.parameters),
            )
            advice = say(
                "unfreeze it and make sure that the optimizer holds it; if it is frozen on "
                "purpose, ignore this finding"
            )
            code = f"{module_of(first)}.requires_grad_(True)  # before the optimizer is created"
            self._report(names, step, cause, advice, code)

    def _report(
        self,
        names: Sequence[str],
        step: int,
        cause: Message,
        advice: Message,
        excerpt: str,
        since: Fact | None = None,
    ) -> None:
        self.found.add(
            self.finding(
                first_step=self._first_step if since is None else since.iteration,
                last_step=step,
                parameters=tuple(names),
                evidence=(Evidence("frozen_parameters", names[0], step, float(len(names)), 0.0),),
                cause=cause,
                advice=advice,
                where="" if since is None else since.where,
                excerpt=excerpt,
            )
        )


def _trains_all_the_same(held: Sequence[Parameter]) -> tuple[Message, Message, str]:
    return (
        say(
            "`requires_grad = False` was set on a module that holds {first} "
            "({num} {num:parameter|parameters}); this has no effect on a module, so its parameters "
            "still train",
            first=held[0].name,
            num=len(held),
        ),
        say("call the method with the underscore: it sets requires_grad on each parameter"),
        f"{module_of(held)}.requires_grad_(False)  # instead of .requires_grad = False",
    )


def _nothing_reads(fact: Fact) -> tuple[Message, Message, str]:
    value, module = fact.text("value"), fact.text("name") or "model"
    model = fact.text("model") or "model"
    owner = in_script(module, model)
    held = in_script(holder_of(fact.parameters), model)
    values: dict[str, str | int | float] = {
        "attribute": fact.text("attribute"),
        "value": value,
        "still": str(value != "True"),
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "module": module,
    }
    if fact.text("on") == "module":
        return (
            say(
                "`{attribute} = {value}` was set on the module {module}, where it has no effect: "
                "requires_grad of {first} is still {still} ({num} such "
                "{num:parameter|parameters})",
                **values,
            ),
            say("call the method with the underscore: it sets requires_grad on each parameter"),
            f"{owner}.requires_grad_({value})  # before the optimizer is created",
        )
    return (
        say(
            "`{attribute} = {value}` was set on {first}, but nothing reads this attribute: "
            "requires_grad is still {still} ({num} such {num:parameter|parameters})",
            **values,
        ),
        say(
            "the attribute is called requires_grad; with the method requires_grad_, a typo raises "
            "an error"
        ),
        f"{held}.requires_grad_({value})  # instead of .{values['attribute']}, before the "
        "optimizer is created",
    )


def _new_is_frozen(fact: Fact) -> tuple[Message, Message, str]:
    values: dict[str, str | int | float] = {
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "trains": fact.text("trains"),
    }
    cause = (
        say(
            "only normalization layers of the model train ({trains} and others), while {first} and "
            "all other weights are frozen as they were initialized ({num} such "
            "{num:weight|weights})",
            **values,
        )
        if fact.number("norms_only")
        else say(
            "{first} is frozen as it was initialized ({num} such {num:weight|weights}), while what "
            "trains, {trains} and others, is already trained: the output depends on random weights",
            **values,
        )
    )
    owner = in_script(fact.text("name"), fact.text("model") or "model")
    return (
        cause,
        say("unfreeze the new layers and give them to the optimizer; freeze the others"),
        f"{owner}.requires_grad_(True)  # before the optimizer is created",
    )
