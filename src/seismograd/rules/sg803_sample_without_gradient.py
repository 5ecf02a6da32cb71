"""SG803 sample-without-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding


@final
@dataclass
class SampleWithoutGradient(FactRule):
    """A choice cuts off from the loss what it was made by: `sample()` a distribution, a codebook an
    encoder, a selection of experts the router.

    What it finds
        `sample()` where `rsample()` was meant: in a variational autoencoder whose reconstruction
        loss never reaches the encoder, or in an actor that should follow the gradient of a critic,
        as in SAC. And a vector quantization without its straight-through estimator, so that the
        reconstruction loss of a VQ-VAE never reaches the encoder. And a router of experts whose
        choice only selects them: their outputs are not weighted by its probabilities, so that
        nothing but the term that balances the experts trains it.

    Why it hurts
        Only the other terms of the loss train the distribution: the KL divergence, which makes it
        forget the input, or the entropy. Nothing raises an error, and the loss falls.

    How it decides
        While gradients are enabled, the rule sees the samples of distributions whose parameters
        have a graph and that have an `rsample`, and looks for them in the graph of the losses that
        follow, in the first backward passes of each line and less and less often later: among the
        data of its products, unchanged or as a column in the same order, as that of a tanh is. One
        such loss is enough, from step number {min_evaluated} on, in two cases. The term with the
        sample does not contain the mean and scale that it was drawn with, and these go only into a
        divergence from a fixed distribution or into an entropy. Or the term with the sample reaches
        no parameter of the optimizer that makes the next step, and the gradient that it gives to
        others is cleared before any step. In a third case {min_checks} losses are needed, with
        steps in between: all that a Normal and what it is computed by get from the loss is the mean
        of the log_prob of its own samples, times a positive number that stays about the same, such
        as the temperature of SAC while the critic is frozen. Whatever the samples are worth, that
        gradient is zero on average.

        Of vectors that are looked up in a codebook one loss is enough as well: a regression
        compares them with what chose them, by the same differences as another one compares that
        with them, and the terms of the loss that go through the vectors do not contain what chose
        them.

        Of a router {min_routed} losses are needed in whose graph its probabilities, a softmax over
        the last dimension, are only averaged or summed over the samples, while nothing else reaches
        the layer that gives them, and the loss reaches other parameters.

    False alarms
        None known. Policy gradients, which multiply the log_prob of a sample, and likelihoods of
        data are told apart; where it is not clear, nothing is said.

    What to try
        - Call `rsample()` instead of `sample()`: it draws with the reparameterization trick.
        - If the distribution has no `rsample`, use a relaxed one, or the log_prob of the sample
          times what it led to.
        - Multiply what a chosen expert gives by the probability with which it was chosen.
        - Pass the gradient of a quantized vector on: `quantized = z + (quantized - z).detach()`.

    References
        - Kingma, Welling (2014), Auto-encoding variational Bayes.
        - van den Oord, Vinyals, Kavukcuoglu (2017), Neural discrete representation learning.
        - Fedus, Zoph, Shazeer (2022), Switch transformers.
        - PyTorch documentation, torch.distributions: pathwise derivative.
    """

    code: ClassVar[str] = "SG803"
    name: ClassVar[str] = "sample-without-gradient"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.SAMPLE_CUT,)
    takes_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.QUANTIZED_CUT, FactKind.ROUTER_CUT)

    min_evaluated: int = 1  # steps
    min_checks: int = 5  # of losses that have the log_prob of a sample alone
    min_routed: int = 3  # losses

    def judge(self, fact: Fact) -> None:
        if fact.number("score") == 1 and fact.number("times") < self.min_checks:
            return
        if fact.kind == FactKind.ROUTER_CUT:
            if fact.number("times") >= self.min_routed:
                self.found.add_or_extend(self._of_router(fact))
            return
        is_quantized = fact.kind == FactKind.QUANTIZED_CUT
        self.found.add_or_extend(self._of_codebook(fact) if is_quantized else self._finding(fact))

    def _of_codebook(self, fact: Fact) -> Finding:
        text = fact.text("text")
        name = text.split("=")[0].strip() if text else "quantized"
        passing = f"{name} = z + ({name} - z).detach()  # z: what was quantized"
        return self.finding_of_fact(
            fact,
            say(
                "the vectors looked up in a codebook at {line} pass no gradient on: the loss "
                "computed from them does not reach what chose them ({num} "
                "{num:parameter|parameters}, first {first}), which is only pulled toward the "
                "codebook",
                line=fact.text("place") or fact.where or "?",
                num=len(fact.parameters),
                first=fact.parameters[0],
            ),
            say("pass the gradient on to what was quantized, by a straight-through estimator"),
            f"{text}\n{passing}" if text else passing,
            evidence=(Evidence("quantized_cut", "", fact.iteration, len(fact.parameters), 0.0),),
        )

    def _of_router(self, fact: Fact) -> Finding:
        text = fact.text("text")
        weights = "weights = probs.gather(-1, chosen)  # or the values that topk returns"
        divided = "weights = weights / weights.sum(-1, keepdim=True)  # times the experts' outputs"
        return self.finding_of_fact(
            fact,
            say(
                "the probabilities of a router ({num} {num:parameter|parameters}, first {first}) "
                "reach the loss at {line} only by their mean over the batch, which balances the "
                "experts: what it chooses for a sample is weighted by none of them, so nothing "
                "tells it which expert suits which sample",
                line=fact.where or "?",
                num=len(fact.parameters),
                first=fact.parameters[0],
            ),
            say("weight the outputs of the chosen experts by the probabilities of the router"),
            "\n".join([text, weights, divided] if text else [weights, divided]),
            evidence=(Evidence("router_cut", "", fact.iteration, len(fact.parameters), 0.0),),
        )

    def _finding(self, fact: Fact) -> Finding:
        text = fact.text("text")
        return self.finding_of_fact(
            fact,
            self._cause(fact),
            say("call rsample(), which draws the same samples and lets the gradient through"),
            text.replace(".sample(", ".rsample(") if text.count(".sample(") == 1 else "",
            evidence=(Evidence("sample_cut", "", fact.iteration, len(fact.parameters), 0.0),),
        )

    def _cause(self, fact: Fact) -> Message:
        values: dict[str, str | int | float] = {
            "distribution": fact.text("distribution"),
            "line": fact.where or "?",
            "num": len(fact.parameters),
            "first": fact.parameters[0] if fact.parameters else "?",
        }
        if fact.number("score") == 1:
            return say(
                "sample() of a {distribution} at {line} has no gradient, and the loss has only the "
                "log_prob of the sample, multiplied by a single number: the parameters behind the "
                "distribution ({num}, first {first}) get a gradient that is zero on average, "
                "whatever the samples are worth",
                **values,
            )
        if fact.number("discarded"):
            return say(
                "sample() of a {distribution} at {line} has no gradient: what is computed from it "
                "in the loss gives none of the parameters behind the distribution ({num}, first "
                "{first}) any gradient, and that of the others is cleared before it is used",
                **values,
            )
        return say(
            "sample() of a {distribution} at {line} has no gradient: the loss computed from it "
            "does not reach the parameters behind the distribution ({num}, first {first}), which "
            "only a divergence or an entropy trains",
            **values,
        )
