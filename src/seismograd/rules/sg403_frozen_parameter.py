"""SG403 frozen-parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers
from seismograd.analysis.script_names import holder_of
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    Evidence,
    Fact,
    FactKind,
    Finding,
    IntArray,
    Parameter,
    RowBatch,
    State,
)

# beginnings or ends of class names
LAYERS = ("Linear", "Bilinear", "Conv", "LSTM", "GRU", "RNN", "MultiheadAttention")


@final
@dataclass
class FrozenParameter(Rule):
    """Parameters are frozen where it seems to be a mistake, or are not although the script tried
    to.

    What it finds
        `module.requires_grad = False` (or `True`), or a slip of the pen such as
        `parameter.require_grad = False`, which set an attribute that nothing reads, so that all
        stays as it was. And the other way round: a head, or a layer among others of its kind, that
        is frozen while what comes before it trains.

    Why it hurts
        A frozen head with random weights keeps the model from using what it learns: the layers
        below have to fit an output that means nothing. A backbone that was to stay as it was loses
        what it had been trained for, at the first large steps of a new head.

    How it decides
        Attributes that nothing reads are seen on the modules and parameters themselves, whenever
        they were set: that is certain. The rest after {min_steps} steps (at the end of a run
        {min_evaluated} are enough), from the parameters and their order in the modules. Frozen
        layers count when they come after a layer that trains: between numbered layers of one
        parent, where they hold no more than {max_share:.0%} of the model, or as the last ones,
        where they hold no more than {max_tail_share:.0%}; at least {max_tail_share:.0%} of the
        model must train. Layers are linear, convolutional, recurrent and attention ones; a layer
        that once got a gradient is not frozen.

    False alarms
        A frozen backbone, the input side of a model, frozen embeddings and normalisation layers,
        adapters on a frozen model, and frozen copies of trained layers (target networks, averaged
        models) do not count. A fixed classifier that is meant is reported.

    What to try
        - Call the method with the underscore, `module.requires_grad_(False)`, or set
          `requires_grad` on each parameter.
        - After freezing a whole model, unfreeze the head: `model.head.requires_grad_(True)`; or
          replace it after freezing, since new layers are trainable.
        - See that the optimizer holds what was unfrozen later.

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
    _known: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    # columns
    _suspects: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    # suspects that had a gradient
    _got_some: set[str] = field(default_factory=set[str], init=False, repr=False)
    _finding: Finding | None = field(default=None, init=False, repr=False)
    # an attribute was seen that nothing reads
    _is_certain: bool = field(default=False, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        if not len(block):
            return []
        iterations = integers(block.steps, "iteration")
        self._first_step = int(iterations[0]) if self._first_step < 0 else self._first_step
        if block.parameters is not self._known:
            self._known = block.parameters
            self._suspects = np.flatnonzero(
                [each.frozen_in_name or not each.trainable for each in block.parameters]
            )
        before, self._num_rows, self._last_step = (
            self._num_rows,
            self._num_rows + len(block),
            int(iterations[-1]),
        )
        if self._is_certain and self._finding is not None:
            self._finding = replace(self._finding, last_step=self._last_step)
            return [self._finding]
        if not len(self._suspects):
            return []
        there = block.state[:, self._suspects] >= State.ZERO
        if before < self.min_steps <= self._num_rows:
            until = self.min_steps - before
            self._note(there[:until])
            self._finding = self._judge(int(iterations[until - 1]))
        self._note(there)
        if self._finding is None or self._num_rows < self.min_steps:
            return []
        self._finding = replace(self._finding, last_step=self._last_step)
        return [self._finding]

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.SWITCH or self._is_certain:
            return []
        self._is_certain = True
        finding = self._finding_of(fact.parameters, fact.iteration, *_nothing_reads(fact))
        self._finding = replace(finding, first_step=fact.iteration, where=fact.where)
        return [self._finding]

    def finish(self) -> Iterable[Finding]:
        if self._is_certain:
            return []
        if self.min_evaluated <= self._num_rows < self.min_steps:
            self._finding = self._judge(self._last_step)
            return [] if self._finding is None else [self._finding]
        return []

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None

    def _note(self, there: BoolArray) -> None:
        """Remember which suspects had a gradient  # (B, S)."""
        assert self._known is not None
        self._got_some.update(
            self._known[column].name for column in as_list(self._suspects[there.any(axis=0)])
        )

    def _judge(self, step: int) -> Finding | None:
        parameters = self._known or ()
        in_name = [
            each.name for each in parameters if each.frozen_in_name and each.name in self._got_some
        ]
        if in_name:
            return self._finding_of(in_name, step, *_trains_all_the_same(in_name))
        layers = _layers(parameters, self._got_some)
        frozen = self._misplaced(layers)
        names = [parameter.name for layer in frozen for parameter in layer.parameters]
        if not names:
            return None
        before = next(
            layer for layer in reversed(layers[: layers.index(frozen[0])]) if not layer.is_frozen
        )
        return self._finding_of(names, step, *_is_frozen(frozen, before))

    def _misplaced(self, layers: Sequence[_Layer]) -> list[_Layer]:
        """Frozen layers behind trained ones, where that is unusual."""
        trained = [position for position, layer in enumerate(layers) if not layer.is_frozen]
        if not trained:
            return []
        originals = [parameter for position in trained for parameter in layers[position].parameters]
        between: list[_Layer] = []
        tail: list[_Layer] = []
        for position, layer in enumerate(layers):
            if (
                not layer.is_frozen
                or position < trained[0]
                or all(any(_is_copy(p, other) for other in originals) for p in layer.parameters)
            ):
                continue
            if any(_is_sibling(layer, layers[other]) for other in trained):
                between.append(layer)
            elif position > trained[-1]:
                tail.append(layer)
        total = sum(layer.numel for layer in layers)
        if sum(layers[position].numel for position in trained) < self.max_tail_share * total:
            return []
        few = sum(layer.numel for layer in between) <= self.max_share * total
        short = sum(layer.numel for layer in tail) <= self.max_tail_share * total
        return [*(between if few else ()), *(tail if short else ())]

    def _finding_of(
        self, names: Sequence[str], step: int, cause: Message, advice: Message, excerpt: str
    ) -> Finding:
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=self._first_step,
            last_step=step,
            parameters=tuple(names),
            evidence=(Evidence("frozen_parameters", names[0], step, float(len(names)), 0.0),),
            cause=cause,
            advice=advice,
            excerpt=excerpt,
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    """A module with weights of two or more dimensions; frozen when none of its parameters
    trains.
    """

    path: str
    parameters: tuple[Parameter, ...]
    is_frozen: bool
    numel: int


def _layers(parameters: Sequence[Parameter], got_some: set[str]) -> list[_Layer]:
    """Those of the usual kinds, in the order of registration."""
    by_path: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        if parameter.module.startswith(LAYERS) or parameter.module.endswith(LAYERS):
            by_path.setdefault(parameter.name.rpartition(".")[0], []).append(parameter)
    found: list[_Layer] = []
    for path, held in by_path.items():
        if any(len(parameter.shape) >= 2 for parameter in held):
            is_frozen = not any(
                parameter.trainable or parameter.name in got_some for parameter in held
            )
            found.append(
                _Layer(path, tuple(held), is_frozen, sum(parameter.numel for parameter in held))
            )
    return found


def _is_copy(one: Parameter, other: Parameter) -> bool:
    """Whether both are the same part of two networks: `target.0.weight` and `online.0.weight`."""
    root, _, rest = one.name.partition(".")
    other_root, _, other_rest = other.name.partition(".")
    return (
        rest == other_rest
        and one.shape == other.shape
        and root != other_root
        and not root.isdigit()
    )


def _is_sibling(one: _Layer, other: _Layer) -> bool:
    """Whether both are numbered children of one parent."""
    parent, _, number = one.path.rpartition(".")
    other_parent, _, other_number = other.path.rpartition(".")
    return (
        parent == other_parent
        and number.isdigit()
        and other_number.isdigit()
        and int(other_number) < int(number)
    )


def _trains_all_the_same(names: Sequence[str]) -> tuple[Message, Message, str]:
    module = holder_of(names) or "model"
    return (
        say(
            "`requires_grad = False` was set on a module that holds {first} and {more} other "
            "parameters; a module has no such switch, so "
            "they train all the same",
            first=names[0],
            more=len(names) - 1,
        ),
        say("call the method, with the underscore: it sets the flag of each parameter"),
        f"{module}.requires_grad_(False)  # instead of .requires_grad = False",
    )


def _nothing_reads(fact: Fact) -> tuple[Message, Message, str]:
    freezes, on_module = fact.text("value") == "False", fact.text("on") == "module"
    values: dict[str, str | int | float] = {
        "attribute": fact.text("attribute"),
        "value": fact.text("value"),
        "first": fact.parameters[0],
        "more": int(fact.number("num")) - 1,
        "module": fact.text("name") or "model",
    }
    if on_module:
        cause = (
            say(
                "`{attribute} = {value}` was set on the module {module}, which has no such "
                "switch: {first} and {more} other parameters "
                "train all the same",
                **values,
            )
            if freezes
            else say(
                "`{attribute} = {value}` was set on the module {module}, which has no such "
                "switch: {first} and {more} other parameters "
                "stay frozen",
                **values,
            )
        )
        excerpt = f"{values['module']}.requires_grad_({values['value']})"
        return (
            cause,
            say("call the method, with the underscore: it sets the flag of each parameter"),
            excerpt,
        )
    cause = (
        say(
            "`{attribute} = {value}` was set on {first} and {more} other parameters; nothing "
            "reads it, and they train all the same",
            **values,
        )
        if freezes
        else say(
            "`{attribute} = {value}` was set on {first} and {more} other parameters; nothing "
            "reads it, and they stay frozen",
            **values,
        )
    )
    excerpt = f"parameter.requires_grad = {values['value']}  # instead of .{values['attribute']}"
    return (
        cause,
        say("the attribute is called requires_grad; the method requires_grad_ would have said so"),
        excerpt,
    )


def _is_frozen(frozen: Sequence[_Layer], before: _Layer) -> tuple[Message, Message, str]:
    return (
        say(
            "{first} is frozen, while {before}, which comes before it, trains: what is learned "
            "there has to fit weights that never change",
            first=frozen[0].path or frozen[0].parameters[0].name,
            before=before.path or before.parameters[0].name,
        ),
        say(
            "unfreeze it, and see that the optimizer holds it; if it is meant, this finding can "
            "be ignored"
        ),
        f"model.{frozen[0].path}.requires_grad_(True)"
        if frozen[0].path
        else "model.requires_grad_(True)",
    )
