"""SG412 restored-nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.kept_copy import with_copy
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class RestoredNothing(FactRule):
    """What is loaded to restore earlier weights is the current weights themselves.

    What it finds
        `best = model.state_dict()` in an epoch that was the best one, and
        `model.load_state_dict(best)` after the training. The tensors of a `state_dict()` are the
        parameters themselves and not copies: each step changes them, too.

    Why it hurts
        Nothing is restored. What is evaluated or saved is the last epoch, overfitted as it may be,
        under the name of the best one. Nothing raises an error.

    How it decides
        At `load_state_dict` of a model that is trained, after its first step, the memory of each
        tensor that is loaded is that of the parameter itself, and only one statement of the file
        keeps it, as `state_dict()` returns it: in another function, or in a loop that the load is
        not in. The rule is clear after {min_evaluated} steps.

    False alarms
        A state that is kept so, and whose tensors are written to on purpose before the load.

    What to try
        - `best = copy.deepcopy(model.state_dict())`, or a clone of each of its tensors.
        - Save it to a file with `torch.save`, and load that.

    References
        - PyTorch documentation, Saving and loading models: `best_model_state`.
    """

    code: ClassVar[str] = "SG412"
    name: ClassVar[str] = "restored-nothing"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LOADED_ITSELF,)

    def judge(self, fact: Fact) -> None:
        if len(self.found):
            return
        num = fact.number("num")
        self.found.add(
            self.finding_of_fact(
                fact,
                say(
                    "{model}.load_state_dict at {line} is given the current parameters themselves: "
                    "what was kept at {kept} are references to them and no copies, which every "
                    "step since has changed as well, so that nothing is restored",
                    model=fact.text("model"),
                    line=fact.where or "?",
                    kept=fact.text("kept_at"),
                ),
                say("keep a copy of the weights, as copy.deepcopy makes it"),
                with_copy(fact.text("kept")),
                evidence=(Evidence("references", "", fact.iteration, num, 0.0),),
            )
        )
