"""SG404 optimizer-remade."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.block_rows import integers, numbers
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import memory
from seismograd.i18n import Values, say
from seismograd.schema import Evidence, Fact, FactKind, Finding


@final
@dataclass
class OptimizerRemade(FactRule):
    """A new optimizer is created over the same parameters again and again, or a loaded state
    replaces its learning rate.

    What it finds
        Optimizers of one class over the same parameters that replace one another after a few steps
        each, because the function that trains a batch or an epoch creates one. Also an optimizer
        that was created with one learning rate and trains with another, because `load_state_dict`
        replaces the settings as well.

    Why it hurts
        The state of the optimizer is lost each time. Adam restarts its moving averages, so its
        first steps are as long as the learning rate for every scalar, however small the gradient.
        Momentum never builds up. A scheduler still holds the old optimizer. With a loaded learning
        rate, changing the one in the script has no effect.

    How it decides
        At least {min_made} optimizers of one class held the same parameters, each after the one
        before was gone, and made at most {max_life:g} steps on average. SGD without momentum has no
        state and does not count, nor does an optimizer that begins after the weights were loaded,
        as for another fold of a cross-validation. A loaded learning rate counts if it is higher
        than the one that the optimizer was created with, or at most {min_rate:g} times as high, and
        if neither a scheduler nor the script changes it up to the end of the run.

    False alarms
        Training in short phases, each of which starts again on purpose.

    What to try
        - Create the optimizer once, before the loop, and pass it to the function that trains.
        - To change the learning rate, set `group["lr"]` for the groups in `param_groups`; after
          `load_state_dict`, if you load a state.
        - To train more parameters, call `add_param_group`.

    References
        - PyTorch documentation, torch.optim: constructing it; Optimizer.load_state_dict.
        - Kingma, Ba (2015), Adam: initialization bias correction.
    """

    code: ClassVar[str] = "SG404"
    name: ClassVar[str] = "optimizer-remade"
    severity: ClassVar[str] = "warning"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.OPTIMIZER_REMADE,)
    takes_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.RATE_LOADED, FactKind.SCHEDULE)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG106", "SG107", "SG108")

    min_made: int = 4
    max_life: float = 200.0  # steps
    min_rate: float = 1e-3  # of the one that the optimizer was created with

    # of each optimizer, while nothing changes the loaded rate
    _loaded: dict[int, Fact] = memory(dict[int, Fact])

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        lr, iterations = numbers(block.steps, "lr"), integers(block.steps, "iteration")
        for optimizer, rows in block.updated if self._loaded else ():
            fact = self._loaded.get(optimizer)
            if fact is None or int(fact.number("group")):
                continue  # the record has the rate of the first group only
            later = rows[iterations[rows] >= fact.iteration]
            if (lr[later] != fact.number("loaded")).any():
                del self._loaded[optimizer]
        return super().observe(block)

    def judge(self, fact: Fact) -> None:
        match fact.kind:
            case FactKind.SCHEDULE:
                self._loaded.pop(fact.optimizer, None)
            case FactKind.RATE_LOADED:
                given, loaded = fact.number("given"), fact.number("loaded")
                if loaded > given or loaded <= self.min_rate * given:
                    self._loaded[fact.optimizer] = fact
            case _ if fact.number("remembers") == 0:
                pass
            case _:
                if fact.optimizer in self.found:
                    self.found.extend(fact.iteration, fact.optimizer)
                elif fact.number("made") >= self.min_made and fact.number("life") <= self.max_life:
                    self.found.add(self._of_made(fact))

    def finish(self) -> Iterable[Finding]:
        for fact in self._loaded.values():
            if self._last_step - fact.iteration + 1 >= self.min_evaluated:
                self.found.add_or_extend(self._of_rate(fact))
        return self.found.take()

    def _of_made(self, fact: Fact) -> Finding:
        made, life, kind = fact.number("made"), fact.number("life"), fact.text("class_name")
        own = fact.text("text")
        values: Values = {
            "made": int(made),
            "kind": kind,
            "step": fact.iteration,
            "life": round(life),
            "line": fact.where or "?",
        }
        if round(life) > 1:
            cause = say(
                "by step {step}, {made} {kind} optimizers had been created over the same "
                "parameters, a new one every {life} steps (step called at {line}): each starts "
                "without the state of the one before",
                **values,
            )
        else:
            cause = say(
                "by step {step}, {made} {kind} optimizers had been created over the same "
                "parameters, a new one for each step (called at {line}): each starts without the "
                "state of the one before",
                **values,
            )
        return self.finding_of_fact(
            fact,
            cause,
            say(
                "create the optimizer once, before the loop, and pass it to the function that "
                "trains"
            ),
            f"{own}  # once, before the loop"
            if own
            else f"optimizer = torch.optim.{kind}(model.parameters(), lr=lr)\n"
            "for batch in loader:\n    train_batch(model, optimizer, batch)",
            evidence=(Evidence("optimizers", "", fact.iteration, made, float(self.min_made)),),
            first_step=0,
        )

    def _of_rate(self, fact: Fact) -> Finding:
        given, loaded, optimizer = fact.number("given"), fact.number("loaded"), fact.text("name")
        return self.finding_of_fact(
            fact,
            say(
                "{optimizer}.load_state_dict at {line} replaced the learning rate {given:g}, with "
                "which {optimizer:the} was created, by {loaded:g} from the saved state, and "
                "nothing has changed it since",
                optimizer=optimizer,
                line=fact.where or "?",
                given=given,
                loaded=loaded,
            ),
            say("after load_state_dict, set the learning rate of each group again"),
            f"{optimizer}.load_state_dict(state)\nfor group in {optimizer}.param_groups:\n"
            f'    group["lr"] = {given:g}',
            evidence=(Evidence("lr", "", fact.iteration, loaded, given),),
            last_step=self._last_step,
        )
