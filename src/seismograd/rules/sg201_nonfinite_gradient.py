"""SG201 nonfinite-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    by_optimizer,
    integers,
    numbers,
    site_of,
    statistic,
    weight_norms,
)
from seismograd.analysis.loss_origin import Values, origin_of, site_of_loss, what_made_it
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    Origin,
    RowBatch,
    State,
    StepFlag,
)


@final
@dataclass
class NonfiniteGradient(Rule):
    """A gradient is NaN or infinite.

    What it finds
        The first step whose gradient holds a NaN or an infinity, and the parameter where it came
        in: the first one in the order of the backward pass, from the loss to the input.

    Why it hurts
        The optimizer writes it into the weights, and into its own averages. From the next step on
        everything is NaN, and nothing brings it back. Clipping makes it worse: the norm of all
        gradients is NaN, so clipping turns every gradient into NaN.

    How it decides
        One non-finite scalar is enough. Steps that `GradScaler` skipped do not count, since it
        looks for its scale that way, unless it skipped more than {max_skips} in a row: so many
        halvings of the scale would have helped, if the scale was what was wrong. The loss tells
        where it was born. When the loss is finite, a derivative without a value made it in the
        backward pass. When it is not, the operations behind it tell: what the model was given, its
        weights, an operation whose operands were finite, or the loss.

    False alarms
        None known. A program that puts NaN into gradients on purpose, and takes it out before the
        step, is reported.

    What to try
        - Born in the backward pass: look for a square root, a norm, a power or a logarithm at 0, or
          a division, in a branch that `torch.where` hides. Mend its input instead of its output,
          `torch.sqrt(torch.where(x > 0, x, 1.0))`, or add a small number to it.
        - Born in the loss: look at inputs and targets with `torch.isfinite`, at the logarithm of a
          probability (use `log_softmax` and the losses that take logits), and at what the steps
          before did: an exploding gradient ends here.
        - `torch.autograd.set_detect_anomaly(True)` stops at the operation whose backward pass gave
          a NaN, and shows where it was called.

    References
        - PyTorch documentation, Automatic differentiation: anomaly detection; pytorch/pytorch#68425
          on `torch.where`.
        - Micikevicius et al. (2018), Mixed precision training: why steps with non-finite gradients
          are skipped.
    """

    code: ClassVar[str] = "SG201"
    name: ClassVar[str] = "nonfinite-gradient"
    severity: ClassVar[str] = "error"
    early: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("nonfinite",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG202", "SG203")

    max_skips: int = 20  # steps of an optimizer in a row

    _num_rows: int = field(default=0, init=False, repr=False)  # that were measured and not skipped
    _finding: Finding | None = field(default=None, init=False, repr=False)
    _skips: dict[int, _Skips] = field(default_factory=dict[int, "_Skips"], init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        nonfinite = (block.state == State.NONFINITE).any(axis=1)
        skipped = (integers(block.steps, "flags") & int(StepFlag.SKIPPED)) != 0
        self._num_rows += int((~skipped & (block.state >= State.ZERO).any(axis=1)).sum())
        if nonfinite.any() or self._skips:
            bad = nonfinite & ~skipped
            given_up = self._follow_skips(block, nonfinite & skipped)
            bad[list(given_up)] = True
            hits = np.flatnonzero(bad)
            if len(hits):
                first, last = int(hits[0]), int(integers(block.steps, "iteration")[hits[-1]])
                found = self._finding or given_up.get(first) or _finding(self, block, first)
                self._finding = replace(found, last_step=max(found.last_step, last))
                yield self._finding

    def shortfall(self) -> Message | None:
        return (
            None
            if self._num_rows
            else say("needs {needed} step with gradients, has {has}", needed=1, has=0)
        )

    def _follow_skips(self, block: RowBatch, skipped: BoolArray) -> dict[int, Finding]:
        """The rows in which an optimizer was skipped more than `max_skips` times in a row, and
        what is to be said of the first of those.
        """
        given_up: dict[int, Finding] = {}
        for optimizer, rows in by_optimizer(block, np.ones(len(block), np.bool_)):
            if not skipped[rows].any() and optimizer not in self._skips:
                continue
            skips = self._skips.setdefault(optimizer, _Skips())
            for row in as_list(rows):
                if not skipped[row]:
                    skips.num, skips.first = 0, None
                    continue
                skips.num += 1
                skips.first = skips.first or _finding(self, block, row)
                if skips.num > self.max_skips:
                    given_up[row] = skips.first
        return given_up


@dataclass(slots=True)
class _Skips:
    """Non-finite steps of one optimizer that were skipped in a row: how many, and what is to be
    said of the first.
    """

    num: int = 0
    first: Finding | None = None


def _finding(rule: NonfiniteGradient, block: RowBatch, row: int) -> Finding:
    step = int(integers(block.steps, "iteration")[row])
    columns = _backward_order(block, row)
    first = block.parameters[columns[0]]
    count = int(statistic(block, "nonfinite")[row, columns[0]])
    unknown = int(integers(block.steps, "flags")[row]) & StepFlag.NO_LOSS
    loss = None if unknown else float(numbers(block.steps, "loss")[row])
    evidence = [
        Evidence("nonfinite", first.name, step, float(count), 0.0),
        Evidence("nonfinite_parameters", "", step, float(len(columns)), 0.0),
    ]
    if loss is not None and not math.isnan(loss):
        evidence.append(Evidence("loss", "", step, loss, math.inf))
    values: Values = {
        "step": step,
        "loss": "" if loss is None else f"{loss:.4g}",
        "parameter": first.name,
        "count": count,
        "numel": first.numel,
        "affected": len(columns),
        "measured": int((block.state[row] >= State.ZERO).sum()),
    }
    cause, advice, excerpt = _cause(
        _weights_are_finite(block, row), loss, origin_of(block, row), values
    )
    return Finding(
        code=rule.code,
        name=rule.name,
        severity=rule.severity,
        optimizer=int(integers(block.steps, "optimizer")[row]),
        first_step=step,
        last_step=step,
        parameters=tuple(block.parameters[column].name for column in columns),
        evidence=tuple(evidence),
        cause=cause,
        advice=advice,
        where=site_of_loss(block, row) or site_of(block, EventKind.BACKWARD, step),
        excerpt=excerpt,
    )


def _backward_order(block: RowBatch, row: int) -> list[int]:
    """The non-finite columns of a row from the loss to the input; those whose depth is unknown
    come last, also backwards.
    """
    columns = np.flatnonzero(block.state[row] == State.NONFINITE)
    depths = [block.parameters[column].depth for column in as_list(columns)]
    depth = np.array([-1 if each is None else each for each in depths], np.int64)
    return as_list(columns[np.lexsort((-columns, -depth))])


def _weights_are_finite(block: RowBatch, row: int) -> bool:
    """False only where they were sampled in this row and are not."""
    sampled = weight_norms(block, row)
    return sampled is None or not bool(
        (~np.isfinite(sampled) & (block.state[row] >= State.ZERO)).any()
    )


def _cause(
    weights_are_finite: bool, loss: float | None, origin: Origin, values: Values
) -> tuple[Message, Message, str]:
    """Cause, advice and excerpt."""
    if not weights_are_finite:
        return (
            say(
                "at step {step} the weights themselves were already NaN or infinite, so every "
                "loss and gradient is; in backward order "
                "{parameter} is the first of {affected} parameters",
                **values,
            ),
            say(
                "look at what wrote the weights before this step: a checkpoint, an "
                "initialisation, or an update that was too large"
            ),
            "assert all(torch.isfinite(p).all() for p in model.parameters())",
        )
    if loss is not None and math.isfinite(loss):
        return (
            say(
                "the loss was still finite ({loss}) at step {step}, but its backward pass made "
                "{count} of the {numel} gradient "
                "scalars of {parameter} NaN or infinite, and reached {affected} of {measured} "
                "parameters: a derivative without a value, "
                "such as that of a square root or a norm at 0, even in a branch that torch.where "
                "hides",
                **values,
            ),
            say(
                "find the operation with anomaly detection, and keep its input away from the bad "
                "point: mend the input, for instance with "
                "torch.where or clamp, and not the result"
            ),
            "torch.autograd.set_detect_anomaly(True)",
        )
    if loss is not None:
        return what_made_it(origin, values)
    return (
        say(
            "at step {step} the gradient of {parameter} has {count} of {numel} scalars that are "
            "NaN or infinite, as have {affected} of "
            "{measured} parameters; the loss could not be measured",
            **values,
        ),
        say(
            "see whether the loss is finite: if it is, anomaly detection finds the operation in "
            "the backward pass; if not, look at the "
            "data and the forward pass"
        ),
        "assert torch.isfinite(loss), loss",
    )
