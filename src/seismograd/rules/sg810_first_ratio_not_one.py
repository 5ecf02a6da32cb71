"""SG810 first-ratio-not-one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class FirstRatioNotOne(FactRule):
    """The ratio of a policy with the one that has acted is not one before any step.

    What it finds
        PPO and its kin clip `exp(new_log_prob - old_log_prob)` around one. At the first minibatch
        nothing has been trained yet, so both are log-probabilities of the same actions by the same
        weights, and each ratio is one. Where it is not, the loss evaluates other actions, as
        `get_action_and_value(obs)` samples new ones that is not given those of the rollout; or the
        minibatch has the log-probabilities of other samples; or the policy is in another mode than
        it was in the rollout, with another dropout, or other statistics of its inputs.

    Why it hurts
        The advantage belongs to the action that was taken. With another one the gradient is noise,
        however calm the losses look.

    How it decides
        The rule checks the graph of the loss once, in the first backward of each line, as long as
        no optimizer has stepped. It looks for an exponential of a difference from a constant that
        is clipped from both sides around one, in single or double precision. One check is enough,
        from step number {min_evaluated} on. It counts where at least {min_share:.0%} of its numbers
        are away from one by more than a thousandth, which is a hundred times what other kernels, or
        other sizes of a batch, make of it.

    False alarms
        A policy that learns from the actions of another one, as from a record, or from an engine
        that samples with other kernels or another temperature.

    What to try
        - Give the stored actions to the policy: `get_action_and_value(obs[mb], actions[mb])`.
        - Take observations, actions, log-probabilities and advantages with the same indices.
        - Print the ratio in the first epoch: it has to be one in the first minibatch.

    References
        - Schulman et al. (2017), Proximal Policy Optimization Algorithms.
        - Huang et al. (2022), The 37 Implementation Details of Proximal Policy Optimization.
    """

    code: ClassVar[str] = "SG810"
    name: ClassVar[str] = "first-ratio-not-one"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.FIRST_RATIO,)

    min_evaluated: int = 1  # steps
    min_share: float = 0.2  # of the numbers of the ratio

    def judge(self, fact: Fact) -> None:
        share = fact.number("share")
        if not share >= self.min_share:
            return
        self.found.add_or_extend(
            self.finding_of_fact(
                fact,
                say(
                    "before any step, {statement} lies between {least:.3g} and {most:.3g}, and "
                    "{share:.0%} of its numbers are not one: it is not of the actions that were "
                    "taken, or not of the policy that took them",
                    statement=fact.text("text") or "the ratio",
                    least=fact.number("least"),
                    most=fact.number("most"),
                    share=share,
                ),
                say(
                    "evaluate the stored actions of the same samples, with the policy in the mode "
                    "that it had in the rollout; then the first ratio is one"
                ),
                "_, log_prob, entropy, value = agent.get_action_and_value(obs[mb], actions[mb])",
                evidence=(Evidence("ratio_not_one", "", fact.iteration, share, self.min_share),),
            )
        )
