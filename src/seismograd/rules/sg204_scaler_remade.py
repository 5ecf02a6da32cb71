"""SG204 scaler-remade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class ScalerRemade(FactRule):
    """A new GradScaler is created again and again, and each one searches for its scale anew.

    What it finds
        GradScalers that follow one another, most often because one is created in the function that
        trains an epoch. Each of them skips steps until it has found a scale that works.

    Why it hurts
        A new scaler starts with a high scale and halves it at each step that overflows; that step
        is skipped. Once per training this costs a few steps. Once per epoch it costs a fixed share
        of all steps, and on a small data set nearly all of them.

    How it decides
        At least {min_made} GradScalers were used one after another, and none of them again. At
        least {min_skips:g} steps were skipped for each, and at least {min_share:.0%} of all. It is
        an error where every step was skipped.

    False alarms
        Several short trainings in one program.

    What to try
        - Create the GradScaler once, next to the optimizer, and save its `state_dict()` too.
        - A lower `init_scale` shortens the search. bfloat16 needs no scaler.

    References
        - PyTorch documentation, torch.amp: gradient scaling.
    """

    code: ClassVar[str] = "SG204"
    name: ClassVar[str] = "scaler-remade"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.SCALER_REMADE,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG203",)
    # gradients that overflow at every step, because each scaler begins anew
    absorbs_as_error: ClassVar[tuple[str, ...]] = ("SG201", "SG311")

    min_made: int = 3
    min_skips: float = 1.0
    min_share: float = 0.05

    def judge(self, fact: Fact) -> None:
        made, skipped, steps = map(fact.number, ("made", "skipped", "steps"))
        if self.found:
            self.found.extend(fact.iteration)
        elif (
            made >= self.min_made
            and skipped >= self.min_skips * (made - 1)
            and skipped >= self.min_share * steps
        ):
            self.found.add(
                self.finding(
                    severity="error" if skipped == steps else self.severity,
                    first_step=0,
                    last_step=fact.iteration,
                    evidence=(Evidence("skipped_steps", "", fact.iteration, skipped, made - 1),),
                    cause=say(
                        "{made} GradScalers were created one after another (used at {line}); each "
                        "starts again at a scale of {scale:g}, so {skipped} of {steps} steps were "
                        "skipped because of an overflow",
                        made=int(made),
                        line=fact.where or "?",
                        scale=fact.number("scale"),
                        skipped=int(skipped),
                        steps=int(steps),
                    ),
                    advice=say("create the GradScaler once, before the loop over epochs"),
                    where=fact.text("place") or fact.where,
                    excerpt=f"{fact.text('text')}  # once, before the loop over the epochs"
                    if fact.text("text")
                    else 'scaler = torch.amp.GradScaler("cuda")\n'
                    "for epoch in range(epochs):\n    train_epoch(model, optimizer, scaler)",
                )
            )
