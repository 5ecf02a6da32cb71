"""SG103 gradient-spike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from seismograd.analysis.batch_sizes import batch_sizes
from seismograd.analysis.block_rows import as_list, largest_parameters, site_of
from seismograd.analysis.medians import median
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.spike_track import HEIGHT, SpikeBaseline, SpikeTrack
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    FloatArray,
    IntArray,
    RowBatch,
    StepFlag,
)

NUM_BEFORE = 16  # steps; most are lower than one of them, and no spike


@final
@dataclass
class GradientSpike(Rule):
    """One step, or a few steps, with a gradient far larger than all others, and a loss to match.

    What it finds
        A batch that does not fit the others (wrong labels, a sample that is not normalised, a
        corrupt file), a sudden rise of the learning rate, or a loss that is multiplied by a
        thousand by mistake: anything that throws training off course for a moment.

    Why it hurts
        The update grows in proportion to the gradient. It can undo thousands of good steps, and
        with Adam the second moment stays inflated for hundreds of steps afterwards, during which
        the model hardly learns anything.

    How it decides
        The gradient norm over all parameters is compared with those of the {window:g} steps before,
        on a logarithmic scale. It is a spike when all of the following hold: the norm is at least
        {min_factor:g} times their median; its distance from the median is at least
        {min_deviations:g} times as large as usual (measured by the median distance); it is at least
        {above_largest:g} times the largest of them; and the loss is higher than all of theirs, and
        higher than their median by half of that median. If the loss did not rise, is unknown, or
        was not always positive, the norm must be at least {min_alone:g} times the median. If the
        loss is at least {leap:g} times as large as any of theirs, and larger than any of the first
        losses, {min_with_leap:g} times the median is enough. The first {first_steps:g} steps of an
        optimizer never count as spikes, nor does a norm below the median of those steps. Spikes are
        left out of the median. The norm must come back within {longest:g} steps: a norm that stays
        high, or ends in NaN after {short:g} steps or more, is an explosion.

        The gradient of a mean over few samples varies more, with the root of their number, and a
        sum over many is larger: the norm is divided by what the size of its batch explains. What
        still stands out in a batch of less than {small:g} of the usual size, such as the last one
        of an epoch, is only information.

    False alarms
        An occasional batch that really is harder than all others. Noisy gradients, as in
        reinforcement learning, are often far from their median and are not reported.

    What to try
        - Check the batch of that step. Make the data loader return the indices, or run with a fixed
          seed, so that you can find it.
        - Clip: call `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` between `backward`
          and `step`.
        - After a warm restart of the learning rate, increase it gradually over several steps.

    References
        - Chowdhery et al. (2022), PaLM: loss spikes and skipped batches.
        - Takase, Kiyono, Kobayashi, Suzuki (2023), Spike no more.
    """

    code = "SG103"
    name = "gradient-spike"
    severity = "warning"
    needs = ("grad_norm",)
    absorbs = ("SG104",)

    window: int = 32  # steps
    first_steps: int = 10
    min_factor: float = 10.0
    min_deviations: float = 6.0
    above_largest: float = 3.0
    min_alone: float = 100.0
    leap: float = 5.0  # of the loss
    min_with_leap: float = 4.0
    longest: int = 10  # steps
    short: int = 3  # steps
    small: float = 0.5  # of the usual size of a batch

    _tracks: dict[int, SpikeTrack] = field(
        default_factory=dict[int, SpikeTrack], init=False, repr=False
    )

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        sizes = batch_sizes(block)
        least = math.log10(min(self.min_factor, self.min_with_leap))
        for optimizer, rows in block.updated:
            track = self._tracks.setdefault(optimizer, SpikeTrack(self.window, self.first_steps))
            steps = track.read(block, rows, sizes)
            if track.pending is None and not track.spans(steps, least):
                track.add(steps[np.isfinite(steps[:, HEIGHT])])
            else:
                self._follow(track, block, rows, steps, optimizer)
        return self.found.take()

    def _follow(
        self,
        track: SpikeTrack,
        block: RowBatch,
        rows: IntArray,
        steps: FloatArray,
        optimizer: int,
    ) -> None:
        """Read steps of which some may stand out."""
        heights, few = steps[:, HEIGHT].tolist(), min(NUM_BEFORE, self.window)
        added, since = 0, 0  # rows added, and the first after one that stands out or is not finite
        for index, row in enumerate(as_list(rows)):
            before = heights[max(since, index - few) : index]
            if before and track.pending is None and heights[index] < max(before):
                continue  # lower than one just before it; added with the next that is not
            track.add(steps[added:index])
            added, step = index + 1, steps[index]
            usual = self._baseline(track, step)
            if usual is not None:
                track.rise(self._finding(block, row, usual, optimizer), self.longest)
                since = index + 1
                continue
            is_finite = math.isfinite(step[HEIGHT])
            self._end(track, is_back=is_finite or track.num_pending < self.short)
            if is_finite:
                track.add(step[None])
            else:
                since = index + 1
        track.add(steps[added:])

    def finish(self) -> Iterable[Finding]:
        for track in self._tracks.values():
            self._end(track, is_back=track.num_pending < self.short)
        return self.found.take()

    def shortfall(self) -> Message | None:
        steps = max((track.count for track in self._tracks.values()), default=0)
        if steps <= self.first_steps:
            return say(
                "needs {needed} steps with finite gradients, has {has}",
                needed=self.first_steps + 1,
                has=steps,
            )
        return None

    def _end(self, track: SpikeTrack, *, is_back: bool) -> None:
        """End what stands out, a spike if the gradient is back. The first one is described, the
        last one ends the finding; that of a small batch gives way to any other.
        """
        spike = track.pending
        track.drop()
        if spike is None or not is_back:
            return
        known = self.found.get(spike.optimizer)
        if known is None or (known.severity == "info" != spike.severity):
            self.found.add(spike)
        elif spike.severity == known.severity:
            self.found.extend(spike.last_step, spike.optimizer)

    def _baseline(self, track: SpikeTrack, step: FloatArray) -> SpikeBaseline | None:
        """Return what is usual, when this step stands out from it."""
        past = track.past
        if len(past) < self.first_steps or not step[HEIGHT] >= past[:, HEIGHT].max():
            return None
        usual = track.baseline(step)
        above, largest = usual.height - usual.middle, float(past[:, HEIGHT].max())
        rises = usual.is_positive and usual.rises
        leaps = (
            usual.is_positive
            and usual.loss >= self.leap * usual.largest_loss
            and usual.loss > track.first_loss
            and above >= math.log10(self.min_with_leap)
        )
        far = above >= max(math.log10(self.min_factor), self.min_deviations * usual.spread) and (
            rises or above >= math.log10(self.min_alone)
        )
        stands_out = (
            far
            and usual.height >= largest + math.log10(self.above_largest)
            and usual.height >= median(track.first)
        )
        return usual if stands_out or (leaps and usual.height > largest) else None

    def _finding(self, block: RowBatch, row: int, usual: SpikeBaseline, optimizer: int) -> Finding:
        step, norm = int(block.steps["iteration"][row]), float(block.steps["grad_norm"][row])
        loss, lr = float(block.steps["loss"][row]), float(block.steps["lr"][row])
        known = not int(block.steps["flags"][row]) & int(StepFlag.NO_LOSS)
        is_small = usual.count <= self.small * usual.usual_count
        limit = self.min_factor * usual.growth * usual.norm
        evidence = [Evidence("grad_norm", "", step, norm, limit)]
        if usual.rises:
            evidence.append(Evidence("loss", "", step, loss, usual.usual_loss))
        return self.finding(
            severity="info" if is_small else self.severity,
            optimizer=optimizer,
            first_step=step,
            parameters=largest_parameters(block, row),
            evidence=tuple(evidence),
            cause=_cause(step, norm, loss if known else None, usual, is_small=is_small),
            advice=say(
                "no change is needed; drop_last=True in the DataLoader leaves such a batch out"
            )
            if is_small
            else say(
                "check the batch of step {step} (and the schedule, if the learning rate has just "
                "been raised to {lr:.2g}); clip the gradients between backward and step, so that "
                "no single batch can do much harm",
                step=step,
                lr=lr,
            ),
            where=site_of(block, EventKind.BACKWARD, step),
            excerpt="torch.nn.utils.clip_grad_norm_(model.parameters(), "
            "max_norm=1.0)\noptimizer.step()",
        )


def _cause(
    step: int, norm: float, loss: float | None, usual: SpikeBaseline, *, is_small: bool
) -> Message:
    """What the loss did while the norm jumped, as far as that is known (`None`: not read)."""
    values: dict[str, str | int | float] = {
        "step": step,
        "norm": norm,
        "times": norm / usual.norm,
        "loss": "nan" if loss is None or math.isnan(loss) else loss,
        "usual_loss": usual.usual_loss,
    }
    if is_small:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual "
            "value: the loss of this batch is over {count:g} samples, that of others over "
            "{usual_count:g}, and a mean over few varies more",
            count=usual.count,
            usual_count=usual.usual_count,
            **values,
        )
    if loss is not None and math.isnan(loss):
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
            "usually was, and the loss is {loss}",
            **values,
        )
    if loss is None or not usual.is_judged:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
            "usually was",
            **{name: values[name] for name in ("step", "norm", "times")},
        )
    if usual.rises:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual "
            "value, and the loss jumps from {usual_loss:.3g} to {loss:.3g}: this batch differs "
            "from the others, or the previous update was too large",
            **values,
        )
    return say(
        "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual value, "
        "but the loss does not jump",
        **values,
    )
