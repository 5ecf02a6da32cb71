"""SG204 scaler-remade."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class ScalerRemade(Rule):
    """A new GradScaler is made again and again, and each looks for its scale anew.

    What it finds
        GradScalers that are used one after another, most often made in the function that trains an
        epoch, which skip steps until they have found a scale that works.

    Why it hurts
        The search halves the scale at each step that overflows, and leaves that step out. Once it
        is a few steps; at each epoch it is a share of all training, and of a small data set all of
        it.

    How it decides
        At least {min_made} GradScalers were used one after another, none of them again, and at
        least {min_skips:g} steps were left out for each, which are at least {min_share:.0%} of all.

    False alarms
        Several short trainings in one program.

    What to try
        - Make the GradScaler once, next to the optimizer, and save its `state_dict` with it.
        - A lower `init_scale` shortens the search; bfloat16 needs none.

    References
        - PyTorch documentation, torch.amp: gradient scaling.
    """

    code: ClassVar[str] = "SG204"
    name: ClassVar[str] = "scaler-remade"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.SCALER_REMADE,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG203",)

    min_made: int = 3
    min_skips: float = 1.0
    min_share: float = 0.05
    min_evaluated: int = 5  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.SCALER_REMADE:
            return ()
        made, skipped = fact.number("made"), fact.number("skipped")
        known = self._findings.get(-1)
        if known is not None:
            known = replace(known, last_step=fact.iteration)
        elif (
            made >= self.min_made
            and skipped >= self.min_skips * (made - 1)
            and skipped >= self.min_share * fact.number("steps")
        ):
            known = self._found(fact, made, skipped)
        else:
            return ()
        self._findings[-1] = known
        return (known,)

    def _found(self, fact: Fact, made: float, skipped: float) -> Finding:
        values: dict[str, str | int | float] = {
            "made": int(made),
            "skipped": int(skipped),
            "steps": int(fact.number("steps")),
            "scale": fact.number("scale"),
            "line": fact.where or "?",
        }
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=0,
            last_step=fact.iteration,
            parameters=(),
            evidence=(Evidence("skipped_steps", "", fact.iteration, skipped, made - 1),),
            cause=say(
                "{made} GradScalers were used one after another (at {line}), and each begins its "
                "search anew at {scale:g}: {skipped} of {steps} steps were skipped",
                **values,
            ),
            advice=say(
                "make the GradScaler once, before the loop over the epochs, and keep it for the "
                "whole training"
            ),
            where=fact.where,
            excerpt='scaler = torch.amp.GradScaler("cuda")\n'
            "for epoch in range(epochs):\n    train_epoch(model, optimizer, scaler)",
        )

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None
