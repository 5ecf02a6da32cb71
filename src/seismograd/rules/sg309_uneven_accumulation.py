"""SG309 uneven-accumulation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.framework_advice import UNEVEN, framework_advice
from seismograd.analysis.micro_batches import MicroBatches, are_alike
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.step_window import StepWindow
from seismograd.diagnosis.rule import memory
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, Finding, StepFlag


@final
@dataclass
class UnevenAccumulation(WindowRule):
    """Micro-batches of very different sizes get the same weight, so samples or tokens in small
    micro-batches count more than those in large ones.

    What it finds
        Gradient accumulation over the mean losses of micro-batches that do not contain the same
        number of samples or tokens: language models with padding or `ignore_index`, batches packed
        by length, masks.

    Why it hurts
        A mean of means is not the overall mean. A token in a micro-batch of 8 counts thirty times
        as much as one in a micro-batch of 240. This is not the loss of one large batch: short
        sequences are learned at the expense of long ones, and results depend on the number of
        micro-batches, although it should make no difference.

    How it decides
        The graph of each loss shows how many scalars it is a mean over, without those that
        `ignore_index` or a mask leaves out. A step counts if its micro-batches, all from one line,
        have the same weight (within {tolerance:.0%}) and the largest holds at least {min_ratio:g}
        times as many scalars as the smallest. The rule reports {in_a_row} such steps in a row, or
        {scattered} if they are at least {share:.0%} of all steps. A step does not count if only its
        last micro-batch is smaller and all others have one size.

    False alarms
        A loss that gives every sequence the same weight on purpose, whatever its length.

    What to try
        - Use `reduction="sum"` and divide by the number of tokens in the whole window, which must
          be known before its first backward pass.
        - With several processes, sum that number over all of them.
        - Sort by length, so that the micro-batches of a window are about the same size.

    References
        - Hugging Face, Fixing gradient accumulation (2024); huggingface/transformers#34191.
        - Unsloth, Bugs in LLM training: gradient accumulation fix (2024).
    """

    code: ClassVar[str] = "SG309"
    name: ClassVar[str] = "uneven-accumulation"
    severity: ClassVar[str] = "warning"

    in_a_row: int = 3  # steps
    scattered: int = 6  # steps
    share: float = 0.5  # of the optimizer's steps
    min_ratio: float = 2.0  # of the counts
    tolerance: float = 0.05

    # windows of several micro-batches
    _num_known: int = memory(int)
    _num_unknown: int = memory(int)

    def look(self, window: StepWindow) -> None:
        micro_batches = MicroBatches.of(window)
        if window.flags & StepFlag.NO_BACKWARD or len(micro_batches) < 2:
            return
        if any(map(math.isnan, micro_batches.totals)):
            self._num_unknown += 1
            return
        self._num_known += 1
        if self._is_uneven(micro_batches):
            self.at_fault(window, self._finding, micro_batches)

    def shortfall(self) -> Message | None:
        if self._num_unknown and not self._num_known:
            return say(
                "the graph does not show how many samples each loss is a mean over (accumulation "
                "windows: {count})",
                count=self._num_unknown,
            )
        return super().shortfall()

    def _is_uneven(self, micro_batches: MicroBatches) -> bool:
        totals, counts = micro_batches.totals, micro_batches.counts
        if any(micro_batches.have(EventFlag.SUMMED)) or not micro_batches.are_finite:
            return False
        # a mean of means
        if not math.isclose(max(totals) * len(totals), 1.0, rel_tol=self.tolerance):
            return False
        if not are_alike(totals, self.tolerance) or _ratio(counts) < self.min_ratio:
            return False
        only_last = len(counts) > 2 and counts[-1] < counts[0] and len(set(counts[:-1])) == 1
        return not only_last

    def _finding(
        self, window: StepWindow, shown: FaultSteps, micro_batches: MicroBatches
    ) -> Finding:
        counts, last = micro_batches.counts, micro_batches.last
        advice, excerpt = framework_advice(window, micro_batches, UNEVEN) or (
            say(
                "at {backward}, backpropagate the sum over the samples or tokens, divided by their "
                "number in the whole window",
                backward=window.at(last),
            ),
            "num_tokens = sum((labels != -100).sum() for _, labels in window)\n"
            'loss = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / '
            "num_tokens",
        )
        cause = say(
            "the {num} micro-batches of a step of {optimizer:the} are means over {counts} "
            "samples or tokens but get the same weight: a sample or token in the smallest "
            "counts {ratio} times as much as one in the largest",
            num=len(counts),
            optimizer=window.name,
            counts=", ".join(f"{each:g}" for each in counts[:8]) + ", …" * (len(counts) > 8),
            ratio=f"{_ratio(counts):.3g}",
        )
        evidence = window.evidence("loss_count", max(counts), min(counts))
        return self.finding_of_window(
            window, cause, advice, excerpt, evidence=(evidence,), at=last, since=shown.first
        )


def _ratio(counts: list[float]) -> float:
    return max(counts) / max(min(counts), 1)
