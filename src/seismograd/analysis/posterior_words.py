"""Describe a posterior that has collapsed: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.analysis.mended_reduction import summed
from seismograd.i18n import Message, say
from seismograd.schema import Fact


def words_of_collapse(fact: Fact) -> tuple[Message, Message, str]:
    """Return the words about a fact of the kind `POSTERIOR`."""
    cause = say(
        "the posterior has collapsed (the divergence of a sample is {divergence:.2g} at step "
        "{step}): the loss at {line} sums the divergence over {latents} latents and averages the "
        "reconstruction over {mean} numbers of {samples} samples, so a number in the divergence "
        "counts as much as {times:.3g} in the reconstruction, and the latents say nothing about "
        "the sample",
        divergence=fact.number("divergence"),
        step=fact.iteration,
        line=fact.where or "?",
        latents=int(fact.number("latents")),
        mean=int(fact.number("mean")),
        samples=int(fact.number("samples")),
        times=fact.number("times"),
    )
    advice = say("sum the reconstruction over its numbers, and average both over the samples only")
    function = fact.text("function") or "mse_loss"
    own = summed(fact.text("text"), function)
    return cause, advice, own or f"F.{function}(reconstruction, x, reduction='sum') / len(x)"
