"""SG407 weights-overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import Explanation, memory, per_optimizer
from seismograd.i18n import Values, say
from seismograd.schema import Evidence, Fact, FactKind

RESTORED = (
    "trained = {k: v.clone() for k, v in model.state_dict().items()}\n"
    "model.load_state_dict(averaged)\n"
    "validate(model)\n"
    "model.load_state_dict(trained)"
)


@final
@dataclass
class WeightsOverwritten(FactRule):
    """Something other than the optimizer sets the weights back between steps, or moves them up the
    gradient and leaves them there, again and again.

    What it finds
        A checkpoint that is loaded in every epoch instead of once; an average of the weights (EMA)
        that is put into the model for validation and never taken out again; a target network that
        is copied to the model instead of from it. And the perturbation of SAM, or of adversarial
        training, that is not taken back before the step.

    Why it hurts
        Part of what was learned since the last time is undone, or all of it. The moving averages of
        the optimizer belong to weights that are gone. The loss falls and jumps back. A perturbation
        that stays moves the weights up the loss at each step, by as much as each time, while the
        steps of the optimizer become smaller: in the end the loss rises.

    How it decides
        A few scalars of a few weights are compared: as a step of the optimizer left them, and as
        its next step finds them. It counts if most of them changed and if the change took back at
        least {min_undone:.0%} of the way that the steps since the last time had made. The rule
        reports {min_times} times. What changes the weights for another purpose does not count:
        clipping, masking, multiplying by a number, weights that are put back before the next step,
        an interpolation between two points of training (Lookahead, Reptile, also where the weights
        are decayed or masked by hand, or moved and moved back, as by SAM), an average over
        processes, the step of an optimizer around this one that sets weights itself. Neither does a
        load together with the state of the optimizer, or with a new optimizer, because another
        training begins with it. A perturbation counts in a step of several backwards, at whose
        first one some weights are as the step before has left them, and where the step begins they
        have gone up the gradient of that backward. The rule reports {min_times} looks in a row at
        such steps if the way has the same length each time, whatever the gradient. What is taken
        back before the step does not count, nor what is taken back right after it.

    False alarms
        A training that on purpose returns to its best weights several times, with the optimizer as
        it is. One that on purpose climbs a loss by hand, always as far, before it descends another.

    What to try
        - Load a checkpoint once, before the loop.
        - After validating the average, restore the weights: keep a copy of `state_dict()` before
          the swap, or validate the copy that `torch.optim.swa_utils.AveragedModel` holds.
        - With a target network, the call is `target.load_state_dict(model.state_dict())`.
        - With SAM, subtract from the weights what was added, after the second backward and before
          the step of the optimizer inside.

    References
        - Foret et al. (2021), Sharpness-aware minimization.
        - PyTorch documentation, torch.optim.swa_utils: weight averaging (SWA and EMA).
        - PyTorch documentation, Saving and loading a general checkpoint.
    """

    code: ClassVar[str] = "SG407"
    name: ClassVar[str] = "weights-overwritten"
    severity: ClassVar[str] = "warning"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.WEIGHTS_OVERWRITTEN,)
    takes_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.KEPT_PERTURBATION,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG107", "SG108", "SG112")

    min_times: int = 3
    min_undone: float = 0.3

    _seen: dict[int, list[Fact]] = per_optimizer(list[Fact])  # that undo enough
    _kept: dict[int, int] = memory(dict[int, int])  # since when perturbations are kept
    _are_kept: set[int] = memory(set[int])  # optimizers of which that was found

    def judge(self, fact: Fact) -> None:
        if fact.kind == FactKind.KEPT_PERTURBATION:
            self._judge_kept(fact)
            return
        seen, undone = self._seen[fact.optimizer], fact.number("undone")
        if fact.optimizer in self.found:
            self.found.extend(fact.iteration, fact.optimizer)
        elif undone >= self.min_undone:
            seen.append(fact)
            if len(seen) >= self.min_times:
                explanation = _explanation(fact, all(each.number("same") for each in seen))
                evidence = Evidence("undone", "", fact.iteration, undone, self.min_undone)
                first = seen[0].iteration
                self.found.add(
                    self.finding_of_fact(fact, *explanation, evidence=(evidence,), first_step=first)
                )

    def _judge_kept(self, fact: Fact) -> None:
        """Judge a perturbation that is kept, which explains what else was found."""
        times, optimizer = fact.number("times"), fact.optimizer
        if times == 1 or optimizer not in self._kept:
            self._kept[optimizer] = fact.iteration
        if optimizer in self._are_kept:
            self.found.extend(fact.iteration, optimizer)
        elif times >= self.min_times:
            before = self.found.get(optimizer)
            first = self._kept[optimizer] if before is None else before.first_step
            evidence = Evidence("looks", "", fact.iteration, times, float(self.min_times))
            self._are_kept.add(optimizer)
            self.found.add(
                self.finding_of_fact(
                    fact, *_explanation_of_kept(fact), evidence=(evidence,), first_step=first
                )
            )


def _explanation_of_kept(fact: Fact) -> Explanation:
    step = fact.text("text") or "optimizer.step()"
    return (
        say(
            "between the first backward of a step and the step of {optimizer:the} at {line}, "
            "something moves the weights up the gradient of that backward, by {length:.3g} each "
            "time ({first} and others), as SAM does, and nothing takes it back: every step leaves "
            "them higher up the loss by that",
            optimizer=fact.text("name"),
            line=fact.where or "?",
            length=fact.number("length"),
            first=next(iter(fact.parameters), "?"),
        ),
        say("take the perturbation back before the step: subtract what was added to the weights"),
        f"with torch.no_grad():\n    for p, added in perturbed:\n        p.sub_(added)\n{step}",
    )


def _explanation(fact: Fact, is_same: bool) -> Explanation:
    values: Values = {
        "line": fact.where or "?",
        "optimizer": fact.text("name"),
        "times": int(fact.number("times")),
        "undone": fact.number("undone"),
        "first": next(iter(fact.parameters), "?"),
    }
    own = fact.text("text")
    if is_same and fact.number("loaded"):
        return (
            say(
                "load_state_dict at {line} has put back the same weights {times} times while "
                "{optimizer:the} trains them ({first} and others): each time everything learned "
                "since the last time is lost",
                **values,
            ),
            say("load the checkpoint once, before the loop"),
            f"{own}  # once, before the loop over the epochs"
            if own
            else "model.load_state_dict(checkpoint)\nfor epoch in range(epochs):\n    train(model)",
        )
    if fact.number("loaded"):
        return (
            say(
                "load_state_dict at {line} has changed the weights that {optimizer:the} trains "
                "{times} times ({first} and others), the last time taking back {undone:.0%} of "
                "what the steps in between had changed",
                **values,
            ),
            say(
                "if these weights are only for validation, restore those of the training "
                "afterwards; otherwise load them once, before the loop"
            ),
            RESTORED,
        )
    return (
        say(
            "something other than {optimizer:the} has changed its weights between two steps "
            "{times} times ({first} and others; seen at {line}), the last time taking back "
            "{undone:.0%} of what the steps in between had changed",
            **values,
        ),
        say(
            "look for code that writes to the weights outside of the optimizer, such as an "
            "average (EMA) that is copied into the model; restore the weights of the training "
            "after validation"
        ),
        RESTORED,
    )
