"""SG408 left-in-eval-mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.script_names import owner_of
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import memory
from seismograd.i18n import Values, say
from seismograd.schema import Evidence, Fact, FactKind, Finding


@final
@dataclass
class LeftInEvalMode(FactRule):
    """A model trains in eval mode, after it was trained in train mode, or with batch normalization
    that has seen no batch.

    What it finds
        A model that `model.eval()` put into eval mode for validation and that was never put back:
        its batch normalization and dropout layers behave as they do in inference. The same of a
        model that was put into eval mode before the first step, and not by loading weights.

    Why it hurts
        Batch normalization keeps using the running averages of the first epoch, while the weights
        before it change. Dropout has no effect any more. The loss often looks better, and the
        result is worse.

    How it decides
        The whole model was in train mode at a backward pass and is in eval mode at later ones, for
        at least {min_steps} steps up to the end of the run and {min_share:.0%} of all steps, and it
        has layers for which this makes a difference: dropout, or batch normalization whose weights
        are trained. A model that is in eval mode from its first backward pass on counts where
        batch normalization whose weights are trained still has the running averages that it is
        created with, a mean of zero and a variance of one, and what it is given is far from that;
        else that is meant, as it is of a model only parts of which are in eval mode.

    False alarms
        A model that is put into eval mode on purpose for the last part of training.

    What to try
        - Call `model.train()` at the start of each epoch, not once before the loop.
        - In the function that validates, restore the mode:
          `was_training = model.training; model.eval(); …; model.train(was_training)`.

    References
        - PyTorch documentation, torch.nn.Module.eval.
        - Ioffe, Szegedy (2015), Batch normalization.
    """

    code: ClassVar[str] = "SG408"
    name: ClassVar[str] = "left-in-eval-mode"
    severity: ClassVar[str] = "warning"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LEFT_IN_EVAL,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG102", "SG103")

    min_steps: int = 20
    min_share: float = 0.2

    _since: dict[str, Fact] = memory(dict[str, Fact])  # by model

    def judge(self, fact: Fact) -> None:
        if fact.number("back"):
            self._since.pop(fact.text("model"), None)
        else:
            self._since.setdefault(fact.text("model"), fact)

    def finish(self) -> Iterable[Finding]:
        enough = max(self.min_steps, self.min_share * self._num_rows)
        left = [
            fact for fact in self._since.values() if self._last_step - fact.iteration + 1 >= enough
        ]
        if left:
            self.found.add(self._finding(min(left, key=lambda fact: fact.iteration)))
        return self.found.take()

    def _finding(self, fact: Fact) -> Finding:
        num_steps, norms = self._last_step - fact.iteration + 1, int(fact.number("norms"))
        values: Values = {
            "model": fact.text("model") or "model",
            "since": fact.iteration,
            "norms": norms,
            "dropouts": int(fact.number("dropouts")),
            "line": fact.where or "?",
        }
        untouched = int(fact.number("untouched")) if "untouched" in fact.values else 0
        if untouched:
            cause = say(
                "from the first step on, {model} has been trained in eval mode (backward at "
                "{line}): {norms} batch normalization {norms:layer has|layers have} seen no batch, "
                "so {norms:it takes|they take} a mean of 0 and a variance of 1 for granted, while "
                "what is to be normalized has a root mean square of {size:.2g}",
                **values | {"norms": untouched, "size": fact.number("size")},
            )
        elif norms and fact.number("dropouts"):
            cause = say(
                "since step {since}, {model} has been trained in eval mode (backward at {line}): "
                "{norms} batch normalization {norms:layer uses|layers use} old running averages, "
                "and {dropouts} dropout {dropouts:layer has|layers have} no effect",
                **values,
            )
        elif norms:
            cause = say(
                "since step {since}, {model} has been trained in eval mode (backward at {line}): "
                "{norms} batch normalization {norms:layer uses|layers use} old running averages",
                **values,
            )
        else:
            cause = say(
                "since step {since}, {model} has been trained in eval mode (backward at {line}): "
                "{dropouts} dropout {dropouts:layer has|layers have} no effect",
                **values,
            )
        model = owner_of(fact.text("text"), "eval") or values["model"]
        evidence = Evidence("steps", "", self._last_step, float(num_steps), float(self.min_steps))
        return self.finding_of_fact(
            fact,
            cause,
            say("call {model}.train() at the start of each epoch, after validation", **values),
            f"{model}.train()  # first in each epoch",
            evidence=(evidence,),
            last_step=self._last_step,
        )
