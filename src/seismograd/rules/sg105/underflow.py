"""Describe gradients that fall below the range of float16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import as_list, iteration_at, names_at, site_of
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import say
from seismograd.schema import EventKind, Evidence, Finding, FloatArray, IntArray, RowBatch


@dataclass(frozen=True, slots=True)
class Underflow:
    """Gradients at one step: the share of their scalars at the lower end of the range, or all of
    them gone.
    """

    columns: IntArray
    share: FloatArray
    is_gone: bool
    limit: float  # of the share

    def finding(self, rule: Rule, block: RowBatch, row: int) -> Finding:
        """Return the finding about it, in this row."""
        columns, share = self.columns, self.share
        step, names = iteration_at(block, row), names_at(block, columns)
        zeros = np.asarray(block.values["zeros"][row], np.float64)[columns]
        numel = np.array([block.parameters[column].numel for column in as_list(columns)])
        largest = int(np.argmax(zeros / numel if self.is_gone else share))
        name, num_zeros = names[largest], float(zeros[largest])
        highest = 1.0 if self.is_gone else float(share[largest])
        values = {
            "step": step,
            "parameter": name,
            "percent": 100 * highest,
            "zeros": 100 * float(num_zeros / numel[largest]),
            "scale": float(block.steps["scale"][row]),
        }
        at_smallest = Evidence("share_at_smallest", name, step, highest, self.limit)
        return rule.finding(
            optimizer=int(block.steps["optimizer"][row]),
            first_step=step,
            parameters=names,
            evidence=(
                *(() if self.is_gone else (at_smallest,)),
                Evidence("zeros", name, step, num_zeros, 0.0),
            ),
            cause=say(
                "all gradients are exactly zero at step {step}, but the loss is not: float16 "
                "cannot represent numbers below 6e-8",
                **values,
            )
            if self.is_gone
            else say(
                "gradients fall below the range of float16: at step {step}, with the loss scaled "
                "by {scale:g}, {percent:.3g}% of the non-zero gradients of {parameter} are at the "
                "lower end of that range, and {zeros:.3g}% of all are exactly zero",
                **values,
            ),
            advice=say(
                "scale the loss with torch.amp.GradScaler before backward, or compute in "
                "bfloat16, which has a wider range"
            ),
            where=site_of(block, EventKind.BACKWARD, step),
            seen_only=True,
            excerpt="scaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.update()",
        )
