"""SG806 undetached-advantage."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.parsed_source import parsed
from seismograd.schema import Evidence, Fact, FactKind, Finding

LOG_PROBABILITY = re.compile(r"log_?p(rob|i\b|\b|s\b|_)|ratio", re.IGNORECASE)


@final
@dataclass
class UndetachedAdvantage(FactRule):
    """The loss of a policy trains the critic as well, because the advantage has a graph; or a
    critic's target has one.

    What it finds
        `log_prob * (returns - values)` in an actor-critic whose `values` are not detached, in one
        loss with the regression of the values. A target such as `reward + gamma * net(next_state)`
        that is computed with a graph, by the network that is trained to meet it.

    Why it hurts
        The loss of the policy becomes smaller if the critic raises its values, whatever came back:
        the values drift away from the returns, and the advantage says nothing any more. A target
        with a graph is moved towards the prediction instead of the other way round: the error
        becomes small, and the values are biased.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later, for a product of the logarithm of the probability of an action (or of
        a ratio of probabilities) and a difference, both with a graph, where a regression in the
        same loss compares what the difference is made of with data; and for a regression whose two
        sides both have a graph and share parameters, one of them data plus a value that is
        multiplied by a number from {min_discount:g} to one, or several of these joined. One check
        is enough, from step number {min_evaluated} on.

    False alarms
        Residual gradient methods, which train through the target on purpose.

    What to try
        - `advantage = (returns - values).detach()` in the loss of the policy; the loss of the
          critic keeps its graph.
        - Compute the target under `torch.no_grad()`, or by a target network.

    References
        - Sutton, Barto (2018), Reinforcement learning, section 13.5.
        - Mnih et al. (2016), Asynchronous methods for deep reinforcement learning.
        - Baird (1995), Residual algorithms.
    """

    code: ClassVar[str] = "SG806"
    name: ClassVar[str] = "undetached-advantage"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.UNDETACHED_ADVANTAGE,)
    takes_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.UNDETACHED_TARGET,)

    min_evaluated: int = 1  # steps
    min_discount: float = 0.8  # of the value that a target is bootstrapped from

    def judge(self, fact: Fact) -> None:
        if fact.kind == FactKind.UNDETACHED_TARGET:
            if fact.number("discount") >= self.min_discount:
                self.found.add_or_extend(self._of_target(fact))
            return
        self.found.add_or_extend(
            self.finding_of_fact(
                fact,
                say(
                    "the loss at {line} multiplies the log-probability of actions by an advantage "
                    "that has a graph, so the loss of the policy trains the critic as well "
                    "({num}, first {first}): its values move away from the returns",
                    line=fact.text("place") or fact.where or "?",
                    num=len(fact.parameters),
                    first=fact.parameters[0] if fact.parameters else "?",
                ),
                say("detach the advantage in the loss of the policy"),
                _detached(fact.text("text")) or "policy_loss = -(log_prob * advantage.detach())",
                evidence=(
                    Evidence("undetached_advantage", "", fact.iteration, len(fact.parameters), 0.0),
                ),
            )
        )

    def _of_target(self, fact: Fact) -> Finding:
        text = fact.text("text") or "target = reward + gamma * net(next_state)"
        return self.finding_of_fact(
            fact,
            say(
                "the target of the regression at {line} is bootstrapped (discount {discount:g}) "
                "from the network that is trained on it, with a graph: the step moves the target "
                "towards the prediction as well, through {num} "
                "{num:parameter|parameters}, first {first}",
                line=fact.where or "?",
                discount=fact.number("discount"),
                num=len(fact.parameters),
                first=fact.parameters[0] if fact.parameters else "?",
            ),
            say("compute the target without a graph"),
            f"with torch.no_grad():\n    {text}",
            evidence=(
                Evidence("undetached_target", "", fact.iteration, len(fact.parameters), 0.0),
            ),
        )


def _detached(text: str) -> str:
    """Return statements with what they multiply log-probabilities by detached; empty where that is
    not one and the same thing.
    """
    tree = parsed(text)
    if tree is None:
        return ""
    products = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and _is_of_probability(node.left) != _is_of_probability(node.right)
    ]
    if len({ast.unparse(_unsigned(_factor(product))) for product in products}) != 1:
        return ""
    for product in products:
        factor = _factor(product)
        stopped: ast.expr = ast.Call(ast.Attribute(_unsigned(factor), "detach"), [], [])
        if _unsigned(factor) is not factor:
            stopped = ast.UnaryOp(ast.USub(), stopped)
        if factor is product.left:
            product.left = stopped
        else:
            product.right = stopped
    return ast.unparse(tree)


def _factor(product: ast.BinOp) -> ast.expr:
    """Return the side of a product that is no log-probability."""
    return product.left if _is_of_probability(product.right) else product.right


def _unsigned(side: ast.expr) -> ast.expr:
    if isinstance(side, ast.UnaryOp) and isinstance(side.op, ast.USub):
        return side.operand
    return side


def _is_of_probability(side: ast.expr) -> bool:
    return LOG_PROBABILITY.search(ast.unparse(side)) is not None
