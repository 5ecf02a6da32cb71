"""SG409 stale-copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.mended_update import in_float32, mended_update
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import Explanation, memory
from seismograd.i18n import Values, say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class StaleCopy(FactRule):
    """A copy of a network that is trained, such as a target network or an average, does not follow
    it, though the script means it to.

    What it finds
        A target network, an averaged model (EMA) or a mean teacher whose update changes nothing:
        `target.state_dict().update(…)`, entries of a `state_dict()` that are set and never loaded,
        a loop over both networks' parameters that only assigns to its own variable, or calls
        `mul`, `add` or `lerp` without the underscore. An average kept in bfloat16 or float16, whose
        small updates round to nothing. And an average of the parameters alone, whose batch
        normalization keeps the running mean and variance that it was made with.

    Why it hurts
        The copy stays at random or early weights. Targets, averages and teachers that are computed
        with it are wrong, while the loss may fall calmly. Nothing raises an error.

    How it decides
        The rule compares some numbers of networks that no optimizer trains with those of one that
        is built alike and trained, at the first backward passes and less and less often later. A
        copy that is exactly as it was counts after {min_steps} steps, where the trained network has
        moved at {min_times} checks in a row or more, if the script has one statement that is meant
        to change weights and cannot. A copy in half precision counts after {min_rounded_steps}
        steps, at {min_times} checks in a row, if {min_share:.0%} of its numbers that stand far from
        those of the trained network, all on the side from which they should move, are exactly as
        they were at the last check, while others have changed, or the script has one statement that
        averages. An average whose weights follow counts after {min_steps} steps, if at {min_times}
        checks in a row all of its running means are exactly zero and all its running variances
        one, those of the trained network are not, and the script uses the average and says nothing
        of buffers or of `update_bn`.

    False alarms
        A reference that is meant to stay as it is, a target network that is set again after many
        steps, and layers that are left out of an average do not count.

    What to try
        - `target.load_state_dict(model.state_dict())` copies; under `torch.no_grad()`,
          `p_target.lerp_(p, tau)` for each pair of parameters averages.
        - Copy the buffers with each update, or call `torch.optim.swa_utils.update_bn` before the
          average is used; `AveragedModel(model, use_buffers=True)` averages them, too.
        - Keep averages in float32, also of a model in bfloat16.
        - Print the sum of a weight of the copy before and after the update.

    References
        - PyTorch documentation, torch.nn.Module.state_dict; torch.optim.swa_utils.AveragedModel.
        - Tarvainen, Valpola (2017), Mean teachers are better role models.
    """

    code: ClassVar[str] = "SG409"
    name: ClassVar[str] = "stale-copy"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.STALE_COPY,)

    min_times: int = 3
    min_steps: int = 24
    min_rounded_steps: int = 96
    min_share: float = 0.25  # of the numbers that stand far away

    _seen: dict[str, int] = memory(dict[str, int])  # findings' first steps, by the copy's name

    def judge(self, fact: Fact) -> None:
        name, share = fact.text("name"), fact.number("share")
        if name in self._seen:
            self.found.extend(fact.iteration)
            return
        first = int(fact.number("since"))
        length = fact.iteration - first
        if (
            self._seen
            or 0 < share < self.min_share
            or fact.number("times") < self.min_times
            or length < (self.min_rounded_steps if share else self.min_steps)
        ):
            return
        self._seen[name] = first
        evidence = Evidence("stuck" if share else "moved", "", fact.iteration, share, 0.0)
        is_of_buffers = fact.text("statement") == "buffers"
        explain = _rounded if share else _left_out if is_of_buffers else _void
        explanation = explain(fact)
        self.found.add(
            self.finding_of_fact(fact, *explanation, evidence=(evidence,), first_step=first)
        )


def _values(fact: Fact) -> Values:
    return {
        "name": fact.text("name"),
        "of": fact.text("of"),
        "line": fact.text("place") or "?",
        "steps": fact.iteration - int(fact.number("since")),
        "dtype": fact.text("dtype"),
        "share": fact.number("share"),
        "target": fact.text("target").partition(" ")[0],
    }


def _void(fact: Fact) -> Explanation:
    statement, values = fact.text("statement"), _values(fact)
    match statement:
        case "update" | "entry":
            cause = say(
                "{name} has not changed in {steps} steps, while {of}, which is built alike, "
                "trains: {line} only changes the dictionary that state_dict() returns, a new one "
                "each time, and not the weights",
                **values,
            )
        case "dict":
            cause = say(
                "{name} has not changed in {steps} steps, while {of}, which is built alike, "
                "trains: {line} sets entries of the dictionary {target}, and nothing loads it into "
                "the network",
                **values,
            )
        case "variable":
            cause = say(
                "{name} has not changed in {steps} steps, while {of}, which is built alike, "
                "trains: {line} gives the variable {target} of the loop a new tensor, and leaves "
                "the parameter as it is",
                **values,
            )
        case _:
            cause = say(
                "{name} has not changed in {steps} steps, while {of}, which is built alike, "
                "trains: {line} computes new numbers and does not keep them, because the method "
                "without the underscore leaves the parameter as it is",
                **values,
            )
    return (
        cause,
        say("write to the weights themselves, under torch.no_grad()"),
        mended_update(fact.text("text"), statement, fact.text("target")),
    )


def _left_out(fact: Fact) -> Explanation:
    values = {**_values(fact), "norm": fact.text("target")}
    return (
        say(
            "{name}, an average of {of}, has its parameters and not its running averages: {line} "
            "leaves out buffers, so that batch normalization ({norm} and others) still has the "
            "mean of zero and the variance of one that it was made with, and computes with them in "
            "eval mode",
            **values,
        ),
        say("copy the buffers as well, at each update of the average"),
        f"for b_average, b in zip({fact.text('name')}.buffers(), {fact.text('of')}.buffers()):\n"
        "    b_average.copy_(b)",
    )


def _rounded(fact: Fact) -> Explanation:
    return (
        say(
            "{name}, an average of {of} in {dtype}, does not follow it: in {steps} steps, "
            "{share:.0%} of the numbers that stand far from those of {of} have stayed exactly as "
            "they were, because an update that is small beside a number rounds to nothing in "
            "{dtype}",
            **_values(fact),
        ),
        say("keep the average in float32, and convert what is added to it, not the average"),
        in_float32(fact.text("text")),
    )
