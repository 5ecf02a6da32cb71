"""SG408 left-in-eval-mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import integers
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class LeftInEvalMode(Rule):
    """A model goes on to be trained in eval mode, after it was trained in train mode.

    What it finds
        A model that `model.eval()` put into eval mode for a validation, and that was never put
        back: batch normalisation and dropout in it work as they do when a model is used.

    Why it hurts
        Batch normalisation takes the averages of the first epoch for all that follows, while the
        weights in front of it change; dropout does nothing any more. The loss often looks better
        for it, and the result is worse.

    How it decides
        The whole model was in train mode at a backward and is in eval mode at later ones, for
        {min_steps} steps up to the end of the run and {min_share:.0%} of all, and it has layers
        that this makes a difference to: dropout, or batch normalisation whose weights are trained.
        What is in eval mode from its first backward on, or only in parts, is meant so.

    False alarms
        A model that is put into eval mode on purpose for the last part of its training.

    What to try
        - Call `model.train()` at the beginning of each epoch, not once before the loop.
        - Let the function that validates put back what it found:
          `was_training = model.training; model.eval(); …; model.train(was_training)`.

    References
        - PyTorch documentation, torch.nn.Module.eval.
        - Ioffe, Szegedy (2015), Batch normalization.
    """

    code: ClassVar[str] = "SG408"
    name: ClassVar[str] = "left-in-eval-mode"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LEFT_IN_EVAL,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103",)

    min_steps: int = 20
    min_share: float = 0.2
    min_evaluated: int = 5  # steps

    _iterations: list[int] = field(default_factory=lambda: [0, -1], init=False, repr=False)
    _since: dict[str, Fact] = field(default_factory=dict[str, Fact], init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._iterations[0] += len(block)
        self._iterations[1] = int(np.max(integers(block.steps, "iteration"), initial=-1))
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.LEFT_IN_EVAL:
            return ()
        if fact.number("back"):
            self._since.pop(fact.text("model"), None)
        else:
            self._since.setdefault(fact.text("model"), fact)
        return ()

    def finish(self) -> Iterator[Finding]:
        num, last = self._iterations
        left = {
            name: fact
            for name, fact in self._since.items()
            if last - fact.iteration + 1 >= max(self.min_steps, self.min_share * num)
        }
        if left:
            name, fact = min(left.items(), key=lambda item: item[1].iteration)
            yield self._found(name, fact, last)

    def shortfall(self) -> Message | None:
        if self._iterations[0] < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}",
                needed=self.min_evaluated,
                has=self._iterations[0],
            )
        return None

    def _found(self, name: str, fact: Fact, last: int) -> Finding:
        norms, dropouts = int(fact.number("norms")), int(fact.number("dropouts"))
        values: dict[str, str | int | float] = {
            "model": name or "model",
            "since": fact.iteration,
            "norms": norms,
            "dropouts": dropouts,
            "line": fact.where or "?",
        }
        if norms and dropouts:
            cause = say(
                "since step {since} {model} is trained in eval mode (backward at {line}): its "
                "batch normalisation ({norms}) uses old averages, its dropout ({dropouts}) does "
                "nothing",
                **values,
            )
        elif norms:
            cause = say(
                "since step {since} {model} is trained in eval mode (backward at {line}): its "
                "batch normalisation ({norms}) uses the averages of before",
                **values,
            )
        else:
            cause = say(
                "since step {since} {model} is trained in eval mode (backward at {line}): its "
                "dropout ({dropouts}) does nothing",
                **values,
            )
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=fact.iteration,
            last_step=max(last, fact.iteration),
            parameters=(),
            evidence=(
                Evidence(
                    "steps", "", last, float(last - fact.iteration + 1), float(self.min_steps)
                ),
            ),
            cause=cause,
            advice=say(
                "call {model}.train() at the beginning of each epoch, after the validation",
                **values,
            ),
            where=fact.where,
            excerpt=f"for epoch in range(epochs):\n    {values['model']}.train()",
        )
