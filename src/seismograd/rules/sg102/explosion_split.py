"""Say of an explosion what each layer does to the signal, where a sampled step shows it."""

from __future__ import annotations

from dataclasses import replace

from seismograd.analysis.sampled_splits import ChainSplit, SampledSplits
from seismograd.analysis.split_words import advice_of, cause_of, excerpt_of, signal_evidence
from seismograd.i18n import say
from seismograd.rules.sg102.explosion import Explosion, ExplosionLimits, ExplosionTrack
from seismograd.schema import Finding


def with_split(
    finding: Finding, track: ExplosionTrack, splits: SampledSplits, limits: ExplosionLimits
) -> Finding:
    """Return the finding about what was found in a track, with the split of the step that explains
    it if there is one.
    """
    explosion = track.explosion
    if explosion is None or explosion.least_total is None:
        return finding
    least, parameters = explosion.least_total, explosion.parameters

    def fits(chain: ChainSplit) -> bool:
        split = chain.split
        grows = split.gain >= limits.min_gain and split.total >= least
        return grows and chain.leads_past(parameters)

    track.split.look(splits, explosion.first_step, track.found_at, fits)
    split = track.split.up_to(max(finding.last_step, _last_of_start(track, limits)))
    if split is None:
        return finding
    said = cause_of(split)
    return replace(
        finding,
        cause=said
        if _is_by_depth(explosion)
        else say("{cause}; {split}", cause=explosion.cause, split=said),
        advice=advice_of(split),
        excerpt=excerpt_of(split),
        evidence=(*explosion.evidence, *signal_evidence(split, limits.min_gain)),
    )


def _is_by_depth(explosion: Explosion) -> bool:
    """Return whether its own cause says no more than the split does."""
    return explosion.limit is None


def _last_of_start(track: ExplosionTrack, limits: ExplosionLimits) -> int:
    """Return up to which step a sample explains a finding of one of the first steps, which does not
    grow; -1 for others.
    """
    explosion = track.explosion
    is_start = explosion is not None and explosion.limit is not None
    return track.found_at + limits.first_steps if is_start else -1
