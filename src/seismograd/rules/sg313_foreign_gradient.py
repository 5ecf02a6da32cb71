"""SG313 foreign-gradient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import optimizer_name
from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.analysis.windows import NUM_BITS
from seismograd.diagnosis.rule import memory
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, Values, say
from seismograd.schema import Fact, FactKind, Finding


@final
@dataclass
class ForeignGradient(WindowRule):
    """An optimizer steps on what another network's loss has left in its gradients.

    What it finds
        Two networks that are trained against each other, or one through the other: a critic whose
        gradients still hold those of the actor's loss, a discriminator with those of the
        generator's loss, or a generator with those of the discriminator's loss, because its output
        was not detached. `zero_grad` stands after the step or at the beginning of the iteration,
        and not before the own backward.

    Why it hurts
        `backward` adds to all parameters that a loss reaches, also to those of the other network.
        What is left there is added to the next own gradient: the critic is pushed to value all that
        the actor does, the generator to be detected. Nothing raises an error.

    How it decides
        The rule knows from the graph which losses only push the output of a network of another
        optimizer up or down, so that this network judges. It counts a step of the judge if its
        gradients hold those of such a loss, on which the other optimizer has stepped, beside those
        of a later backward of another line. It counts a step of what is judged if its gradients
        hold those of a loss on which the judge has stepped, beside those of a later loss that
        pushes the output of the judge and that the judge throws away. It reports {in_a_row} steps
        in a row.

    False alarms
        Several losses that train one network in turn do not count, nor does a shared encoder.

    What to try
        - Call `zero_grad()` of each optimizer right before the backward that it steps on.
        - Detach what a generator gives the discriminator in the discriminator's own loss.
        - Freeze the judge (`requires_grad_(False)`) while the other network trains through it.

    References
        - PyTorch documentation, DCGAN tutorial.
        - Lillicrap et al. (2016), Continuous control with deep reinforcement learning.
    """

    code: ClassVar[str] = "SG313"
    name: ClassVar[str] = "foreign-gradient"
    severity: ClassVar[str] = "error"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.JUDGED_OUTPUT,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG102", "SG103", "SG107", "SG307", "SG602")

    in_a_row: int = 3

    _judged: dict[str, Fact] = memory(dict[str, Fact])  # the judges of losses, by their lines
    _last: dict[int, WindowEvent] = memory(dict[int, WindowEvent])  # own backwards

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.JUDGED_OUTPUT and 0 <= fact.optimizer < NUM_BITS:
            self._judged.setdefault(fact.where, fact)
        return ()

    def look(self, window: StepWindow) -> None:
        if not self._judged or window.is_closure or len(window.backwards) < 2:
            return
        *earlier, own = window.backwards
        before, self._last[window.optimizer] = self._last.get(window.optimizer), own
        earlier = [e for e in earlier if e.iteration < own.iteration and e.site != own.site]
        for each in earlier:
            judge = self._judge(window, each)
            other = _other_that_used(each, window.optimizer)
            if judge == window.optimizer and other is not None:
                self.at_fault(window, self._of_judge, each, own, other)
                return
        judge = self._judge(window, own)
        if judge in (None, window.optimizer) or before is None or _is_used(before, judge):
            return
        for each in earlier:
            if _is_used(each, judge) and self._judge(window, each) in (None, judge):
                self.at_fault(window, self._of_judged, each, own, judge)
                return

    def _judge(self, window: StepWindow, backward: WindowEvent) -> int | None:
        """Return the optimizer of the network that a loss is judged by."""
        fact = self._judged.get(window.line(backward))
        known = fact is not None and fact.iteration <= backward.iteration
        return fact.optimizer if fact is not None and known else None

    def _of_judge(
        self,
        window: StepWindow,
        shown: FaultSteps,
        foreign: WindowEvent,
        own: WindowEvent,
        other: int,
    ) -> Finding:
        values = _values(window, foreign, own, other)
        fact = self._judged[window.line(foreign)]
        return self._finding(
            window,
            shown,
            say(
                "{optimizer:the} steps on gradients that the backward at {foreign} has left: that "
                "loss, which {other:the} steps on, only pushes the output behind {name} up or "
                "down, whatever is right, and nothing clears what it adds there before the own "
                "backward at {own}",
                name=fact.parameters[0],
                **values,
            ),
            say("clear the gradients of {optimizer} right before its own backward", **values),
            own,
        )

    def _of_judged(
        self,
        window: StepWindow,
        shown: FaultSteps,
        foreign: WindowEvent,
        own: WindowEvent,
        other: int,
    ) -> Finding:
        values = _values(window, foreign, own, other)
        return self._finding(
            window,
            shown,
            say(
                "{optimizer:the} steps on gradients that the backward at {foreign} has left: that "
                "loss trains {other} to judge what {optimizer} makes, and reaches {optimizer} "
                "because that was not detached; nothing clears it before the own backward at "
                "{own}, which wants the opposite",
                **values,
            ),
            say(
                "clear the gradients of {optimizer} right before its own backward, and detach what "
                "it makes in the loss of {other}",
                **values,
            ),
            own,
        )

    def _finding(
        self,
        window: StepWindow,
        shown: FaultSteps,
        cause: Message,
        advice: Message,
        own: WindowEvent,
    ) -> Finding:
        clearing = f"{window.optimizer_text}.zero_grad()"
        return self.finding_of_window(
            window,
            cause,
            advice,
            f"{clearing}\n{window.text(own, 'loss.backward()')}",
            evidence=(window.evidence("num_backwards", len(window.backwards), 1.0),),
            at=own,
            since=shown.first,
        )


def _values(window: StepWindow, foreign: WindowEvent, own: WindowEvent, other: int) -> Values:
    return {
        "optimizer": window.name,
        "other": optimizer_name(window.block, other),
        "foreign": window.at(foreign),
        "own": window.at(own),
    }


def _is_used(backward: WindowEvent, optimizer: int | None) -> bool:
    return optimizer is not None and bool(backward.used >> optimizer & 1)


def _other_that_used(backward: WindowEvent, optimizer: int) -> int | None:
    used = backward.used & ~(1 << optimizer) & ((1 << NUM_BITS) - 1)
    return used.bit_length() - 1 if used else None
