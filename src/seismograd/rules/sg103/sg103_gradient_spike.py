"""SG103 gradient-spike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.batch_sizes import batch_sizes
from seismograd.analysis.block_rows import as_list, integers, numbers
from seismograd.analysis.medians import median
from seismograd.analysis.raised_rates import RaisedRates
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.spike_track import HEIGHT, SpikeBaseline, SpikeTrack
from seismograd.analysis.target_loads import TargetLoads
from seismograd.analysis.training_stages import TrainingStages
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg103.spike import spike_finding
from seismograd.schema import Fact, FactKind, Finding, FloatArray, IntArray, RowBatch

NUM_BEFORE = 16  # steps; most are lower than one of them, and no spike


@final
@dataclass
class GradientSpike(Rule):
    """One step, or a few steps, with a gradient far larger than all others, and a loss to match.

    What it finds
        A batch that does not fit the others (wrong labels, a sample that is not normalised, a
        corrupt file), a sudden rise of the learning rate, or a loss multiplied by mistake.

    Why it hurts
        One such update can undo thousands of good steps, and with Adam the second moment stays
        inflated for hundreds of steps, during which the model hardly learns.

    How it decides
        The gradient norm over all parameters is compared with those of the {window:g} steps before,
        on a logarithmic scale. It is a spike when all of the following hold: the norm is at least
        {min_factor:g} times their median; its distance from the median is at least
        {min_deviations:g} times as large as usual (measured by the median distance); it is at least
        {above_largest:g} times the largest of them; and the loss is higher than all of theirs, and
        higher than their median by half of that median and by {min_loss_deviations:g} times its
        usual distance from it, because where batches differ much, a higher loss says little. If the
        loss did not rise, is unknown, or was not always positive, the norm must be at least
        {min_alone:g} times the median. If the loss is at least {leap:g} times as large as any of
        theirs, and larger than any of the first losses, {min_with_leap:g} times the median is
        enough. A loss that rose but is still below {harmless:.0%} of the first losses is that of a
        hard batch in a trained network, and does not count. The first {first_steps:g} steps of an
        optimizer never count as spikes, nor does a norm below the median of those steps; a new
        optimizer over the same parameters, as of a second stage, begins again, and so does what
        follows upon `load_state_dict` of another network, such as a target network, which changes
        what the loss is compared with; where that is often, the first steps after it do not count.
        Where the loss is a regression of action values, as of Q-learning, a rare transition in the
        batch is no fault, and the norm must be at least {min_alone:g} times the median. Spikes are
        left out of the median. The norm must come back within {longest:g} steps: a norm that stays
        high, or ends in NaN after {short:g} steps or more, is an explosion. Where all of the
        {settles:g} steps that follow have at least {part:.0%} of its norm, or {again:g} of them
        have, after the norm has come back, it is no spike but the beginning of other data, as of
        another task or of the next stage of a curriculum. Nor is it one where a search for the
        learning rate raises it, step by step, to many times its first value until the loss
        explodes, and what trains next begins with a small part of it.

        The gradient of a mean over few samples varies more, with the root of their number, and a
        sum over many is larger: the norm is divided by what the size of its batch explains. What
        still stands out in a batch of less than {small:g} of the usual size, such as the last one
        of an epoch, is only information.

    False alarms
        An occasional batch that really is harder than all others.

    What to try
        - Check the batch of that step: make the data loader return the indices.
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
    min_loss_deviations: float = 4.0  # of the logarithm of the loss
    min_alone: float = 100.0
    leap: float = 5.0  # of the loss
    min_with_leap: float = 4.0
    harmless: float = 0.1  # of the first losses
    longest: int = 10  # steps
    short: int = 3  # steps
    settles: int = 10  # steps after it
    again: int = 3  # of these
    part: float = 1 / 3  # of its norm
    small: float = 0.5  # of the usual size of a batch

    _tracks: dict[int, SpikeTrack] = memory(dict[int, SpikeTrack])
    _stages: TrainingStages = memory(TrainingStages)
    _targets: TargetLoads = memory(TargetLoads)
    _rates: RaisedRates = memory(RaisedRates)
    _waiting: list[Finding] = memory(list[Finding])  # spikes of what may be a search
    _is_of_values: bool = memory(bool)  # the loss is a regression of action values

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._stages.learn(fact)
        self._targets.learn(fact)
        self._is_of_values |= fact.kind == FactKind.ACTION_VALUES
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        sizes, iterations = batch_sizes(block), integers(block.steps, "iteration")
        least = math.log10(min(self.min_factor, self.min_with_leap))
        self._read_rates(block, iterations)
        for optimizer, rows in block.updated:
            track = self._tracks.setdefault(optimizer, SpikeTrack(self.window, self.first_steps))
            stages = self._stages.parts(optimizer, rows, iterations[rows])
            for part in self._targets.parts(optimizer, stages, iterations):
                if part.begins:
                    self._end(track, is_back=track.num_pending < self.short)
                    self._settle(track)
                    track.begin_again()
                steps = track.read(block, part.rows, sizes)
                if track.pending is None and not track.spans(steps, least):
                    self._add(track, steps[np.isfinite(steps[:, HEIGHT])])
                else:
                    self._follow(track, block, part.rows, steps)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for track in self._tracks.values():
            self._end(track, is_back=track.num_pending < self.short)
            self._settle(track)
        waiting, self._waiting = self._waiting, []
        for spike in waiting:
            self._take(spike)
        return self.found.take()

    def shortfall(self) -> Message | None:
        template = mark("needs {needed} steps with finite gradients, has {has}")
        steps = max((track.count for track in self._tracks.values()), default=0)
        return too_few(template, steps, self.first_steps + 1)

    def _follow(
        self, track: SpikeTrack, block: RowBatch, rows: IntArray, steps: FloatArray
    ) -> None:
        """Read steps of which some may stand out."""
        heights, few = steps[:, HEIGHT].tolist(), min(NUM_BEFORE, self.window)
        added, since = 0, 0  # rows added, and the first after one that stands out or is not finite
        for index, row in enumerate(as_list(rows)):
            before = heights[max(since, index - few) : index]
            if before and track.pending is None and heights[index] < max(before):
                continue  # lower than one just before it; added with the next that is not
            num_resets = track.num_resets
            self._add(track, steps[added:index])
            since = index if track.num_resets > num_resets else since
            added, step = index + 1, steps[index]
            usual = self._baseline(track, step)
            if usual is not None:
                track.rise(self._finding(block, row, usual), usual, self.longest)
                since = index + 1
                continue
            is_finite = math.isfinite(step[HEIGHT])
            self._end(track, is_back=is_finite or track.num_pending < self.short)
            if is_finite:
                self._add(track, step[None])
            if not is_finite or track.num_resets > num_resets:
                since = index + 1
        self._add(track, steps[added:])

    def _add(self, track: SpikeTrack, steps: FloatArray) -> None:
        """Add steps that do not stand out; a spike is settled when enough have followed it."""
        if track.held is not None and len(steps):
            left = max(0, self.settles - track.num_after)
            track.add(steps[:left])
            steps = steps[left:]
            if track.num_after >= self.settles:
                self._settle(track)
        track.add(steps)

    def _end(self, track: SpikeTrack, *, is_back: bool) -> None:
        """End what stands out, a spike if the gradient is back."""
        spike = track.pending
        track.drop()
        if spike is not None and is_back and not self._targets.explains(spike.first_step):
            track.hold(spike, self.part)

    def _settle(self, track: SpikeTrack) -> None:
        """Decide about the spike that is held: it is none where the steps after it stayed high, or
        soon were high again.
        """
        spike, track.held = track.held, None
        if spike is None:
            return
        is_level = track.num_after >= self.settles and track.num_high == track.num_after
        if is_level or track.num_again >= self.again:
            track.reset()
            return
        self._decide(spike)

    def _read_rates(self, block: SharedBlock, iterations: IntArray) -> None:
        """Read the rates of a block, and decide about the spikes that wait for them."""
        rates = numbers(block.steps, "lr")
        updated = [rows for _, rows in block.updated]
        rows = np.unique(np.concatenate(updated)) if updated else np.empty(0, np.int64)
        rows = rows[(rates[rows] > 0) & np.isfinite(rates[rows])]
        self._rates.read(iterations[rows], rates[rows])
        waiting, self._waiting = self._waiting, []
        for spike in waiting:
            self._decide(spike)

    def _decide(self, spike: Finding) -> None:
        """Add a spike, unless it is the end of a search for the rate; as long as it may be, it
        waits.
        """
        in_search = self._rates.is_in_search(spike.first_step)
        if in_search is None:
            self._waiting.append(spike)
        elif not in_search:
            self._take(spike)

    def _take(self, spike: Finding) -> None:
        """Add a spike. The first one is described, the last one ends the finding; that of a small
        batch gives way to any other.
        """
        earlier = self.found.get(spike.optimizer)
        if earlier is None or (earlier.severity == "info" != spike.severity):
            self.found.add(spike)
        elif spike.severity == earlier.severity:
            self.found.extend(spike.last_step, spike.optimizer)

    def _baseline(self, track: SpikeTrack, step: FloatArray) -> SpikeBaseline | None:
        """Return what is usual, when this step stands out from it."""
        past = track.past
        if len(past) < self.first_steps or not step[HEIGHT] >= past[:, HEIGHT].max():
            return None
        usual, largest = track.baseline(step), float(past[:, HEIGHT].max())
        above = usual.height - usual.middle
        if self._is_of_values and above < math.log10(self.min_alone):
            return None
        rises = usual.is_positive and usual.rises
        if rises and usual.loss < self.harmless * track.first_loss:
            return None
        leaps = (
            usual.is_positive
            and usual.loss >= self.leap * usual.largest_loss
            and usual.loss > track.first_loss
            and above >= math.log10(self.min_with_leap)
        )
        rises_far = rises and usual.loss_deviations >= self.min_loss_deviations
        far = above >= max(math.log10(self.min_factor), self.min_deviations * usual.spread) and (
            rises_far or above >= math.log10(self.min_alone)
        )
        stands_out = (
            far
            and usual.height >= largest + math.log10(self.above_largest)
            and usual.height >= median(track.first)
        )
        return usual if stands_out or (leaps and usual.height > largest) else None

    def _finding(self, block: RowBatch, row: int, usual: SpikeBaseline) -> Finding:
        limit = self.min_factor * usual.growth * usual.norm
        is_small = usual.count <= self.small * usual.usual_count
        return spike_finding(self, block, row, usual, limit, is_small)
