"""SG201 nonfinite-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.birth_words import words
from seismograd.analysis.births import Births
from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    by_optimizer,
    integers,
    numbers,
    site_of,
    skipped_by_scaler,
    statistic,
    weight_norms,
)
from seismograd.analysis.loss_origin import Values, origin_of, site_of_loss, what_made_it
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Fact,
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
        The first step whose gradient contains a NaN or an infinity, and the parameter where it
        first appeared: the first one in the order of the backward pass, from the loss to the input.

    Why it hurts
        The optimizer writes it into the weights and into its own moving averages. From the next
        step on everything is NaN, and nothing recovers. Clipping makes it worse: the norm of all
        gradients is NaN, so clipping turns every gradient into NaN.

    How it decides
        One scalar that is not finite is enough. Steps that `GradScaler` skipped do not count,
        because skipping is how it searches for its scale, unless it skipped more than {max_skips}
        in a row, at a scale of {max_scale:g} (with which it begins by default) or lower, or with a
        loss of NaN: if the scale were the problem, that many halvings would have fixed it. A new
        scaler, which begins with a higher scale, searches anew. The loss
        shows where the number came from. If the loss is finite, the backward pass produced it,
        through an undefined derivative. If not, the operations behind the loss show the origin: the
        model input, the weights, an operation whose operands were finite, or the loss itself. The
        graph shows which operation, and what it was given; where the model can be called once more
        with the same input, that names the line, the module and the samples of the batch.

    False alarms
        None known. A program that deliberately puts NaN into gradients and removes it before the
        step is reported.

    What to try
        - If it came from the backward pass: look for a square root, a norm, a power or a logarithm
          at 0, or a division, in a branch that `torch.where` hides. Fix its input instead of its
          output, `torch.sqrt(torch.where(x > 0, x, 1.0))`, or add a small number to it.
        - If it came from the loss: check inputs and targets with `torch.isfinite`, check for the
          logarithm of a probability (use `log_softmax` and losses that take logits), and check the
          steps before: an exploding gradient ends here.
        - `torch.autograd.set_detect_anomaly(True)` stops at the operation whose backward pass
          produced a NaN and shows where the operation was called.

    References
        - PyTorch documentation, Automatic differentiation: anomaly detection; pytorch/pytorch#68425
          on `torch.where`.
        - Micikevicius et al. (2018), Mixed precision training: why steps with gradients that are
          not finite are skipped.
    """

    code: ClassVar[str] = "SG201"
    name: ClassVar[str] = "nonfinite-gradient"
    severity: ClassVar[str] = "error"
    early: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("nonfinite",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG202", "SG203")

    max_skips: int = 20  # steps of an optimizer in a row
    max_scale: float = 2.0**16  # what overflows above it may be the scale's

    _num_rows: int = field(default=0, init=False, repr=False)  # that were measured and not skipped
    _skips: dict[int, _Skips] = field(default_factory=dict[int, "_Skips"], init=False, repr=False)
    births: Births = field(default_factory=Births, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        nonfinite = (block.state == State.NONFINITE).any(axis=1)
        skipped = skipped_by_scaler(block.steps)
        self._num_rows += int((~skipped & (block.state >= State.ZERO).any(axis=1)).sum())
        if nonfinite.any() or self._skips:
            bad = nonfinite & ~skipped
            given_up = self._follow_skips(block, nonfinite & skipped)
            bad[list(given_up)] = True
            hits = np.flatnonzero(bad)
            if len(hits):
                first, last = int(hits[0]), int(integers(block.steps, "iteration")[hits[-1]])
                if not self.found:
                    self.found.add(given_up.get(first) or _finding(self, block, first))
                self.found.extend(last)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self.births.learn(fact)
        return ()

    def shortfall(self) -> Message | None:
        return (
            None
            if self._num_rows
            else say("needs {needed} step with gradients, has {has}", needed=1, has=0)
        )

    def _follow_skips(self, block: RowBatch, skipped: BoolArray) -> dict[int, Finding]:
        """Return the rows in which an optimizer was skipped more than `max_skips` times in a row
        at scales that do not explain it, and the finding for the first skip.
        """
        given_up: dict[int, Finding] = {}
        scale = numbers(block.steps, "scale")
        is_nan = np.isnan(numbers(block.steps, "loss")) & (
            (integers(block.steps, "flags") & int(StepFlag.NO_LOSS)) == 0
        )
        for optimizer, rows in by_optimizer(block, np.ones(len(block), np.bool_)):
            if not skipped[rows].any() and optimizer not in self._skips:
                continue
            skips = self._skips.setdefault(optimizer, _Skips())
            for row in as_list(rows):
                if not skipped[row]:
                    skips.num, skips.scale, skips.first = 0, math.inf, None
                    continue
                if scale[row] > skips.scale and not is_nan[row]:
                    skips.num, skips.first = 0, None
                skips.scale = float(scale[row])
                skips.num += int(is_nan[row] or not scale[row] > self.max_scale)
                skips.first = skips.first or _finding(self, block, row)
                if skips.num > self.max_skips:
                    given_up[row] = skips.first
        return given_up


@dataclass(slots=True)
class _Skips:
    """Non-finite steps of one optimizer that were skipped in a row: how many, and the finding for
    the first.
    """

    num: int = 0  # those that no scale explains
    scale: float = math.inf  # of the last one
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
    births = rule.births
    birth = births.of_loss(step) or births.of_gradient(step)
    cause, advice, excerpt = _cause(
        _weights_are_finite(block, row), loss, origin_of(block, row), values, birth
    )
    return rule.finding(
        optimizer=int(integers(block.steps, "optimizer")[row]),
        first_step=step,
        parameters=tuple(block.parameters[column].name for column in columns),
        evidence=tuple(evidence),
        cause=cause,
        advice=advice,
        where=(birth.where if birth else "")
        or site_of_loss(block, row)
        or site_of(block, EventKind.BACKWARD, step),
        excerpt=excerpt,
    )


def _backward_order(block: RowBatch, row: int) -> list[int]:
    """Return the non-finite columns of a row from the loss to the input; those whose depth is
    unknown come last, also backwards.
    """
    columns = np.flatnonzero(block.state[row] == State.NONFINITE)
    depths = [block.parameters[column].depth for column in as_list(columns)]
    depth = np.array([-1 if each is None else each for each in depths], np.int64)
    return as_list(columns[np.lexsort((-columns, -depth))])


def _weights_are_finite(block: RowBatch, row: int) -> bool:
    """Return false only where they were sampled in this row and are not."""
    sampled = weight_norms(block, row)
    return sampled is None or not bool(
        (~np.isfinite(sampled) & (block.state[row] >= State.ZERO)).any()
    )


def _cause(
    weights_are_finite: bool,
    loss: float | None,
    origin: Origin,
    values: Values,
    birth: Fact | None,
) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt."""
    if birth is not None and birth.text("of") == "loss":
        return what_made_it(origin, values, birth)
    if birth is not None:
        what, advice, excerpt = words(birth)
        return (
            say(
                "step {step}: {what}; the loss is finite ({loss}), and {affected} of {measured} "
                "parameters have NaN or infinite gradients, {parameter} first",
                what=what,
                **values,
            ),
            advice,
            excerpt,
        )
    if not weights_are_finite:
        return (
            say(
                "at step {step} the weights themselves were already NaN or infinite, so every loss "
                "and gradient is, too; in the order of the backward pass, {parameter} is the first "
                "affected parameter (of {affected})",
                **values,
            ),
            say(
                "check what wrote the weights before this step: a checkpoint, an initialisation, "
                "or an update that was too large"
            ),
            "assert all(torch.isfinite(p).all() for p in model.parameters())",
        )
    if loss is not None and math.isfinite(loss):
        return (
            say(
                "the loss was still finite ({loss}) at step {step}, but its backward pass made "
                "{count} of the {numel} gradient scalars of {parameter} NaN or infinite and "
                "reached {affected} of {measured} parameters: a derivative is undefined, such as "
                "that of a square root or a norm at 0, even in a branch that torch.where hides",
                **values,
            ),
            say(
                "find the operation with anomaly detection and keep its input away from that "
                "point: fix the input, for instance with torch.where or clamp, not the result"
            ),
            "torch.autograd.set_detect_anomaly(True)",
        )
    if loss is not None:
        return what_made_it(origin, values)
    return (
        say(
            "at step {step} {count} of the {numel} gradient scalars of {parameter} are NaN or "
            "infinite, and {affected} of {measured} parameters have such scalars; the loss could "
            "not be measured",
            **values,
        ),
        say(
            "check whether the loss is finite: if it is, anomaly detection finds the operation in "
            "the backward pass; if not, check the data and the forward pass"
        ),
        "assert torch.isfinite(loss), loss",
    )
