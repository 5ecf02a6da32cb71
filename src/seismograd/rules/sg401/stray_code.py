"""What to write where the script creates an optimizer, so that it holds what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.analysis.mended_argument import HIDDEN
from seismograd.analysis.mended_parameters import (
    names_model,
    pieces_of,
    target_of,
    with_parameters,
)
from seismograd.analysis.parameter_cover import listed
from seismograd.rules.sg401.stray_words import LEFT_OUT, OTHER_MODEL, REPLACED
from seismograd.schema import Fact, Parameter

OF_PEFT = ("lora_", ".modules_to_save.")  # in names of parameters that peft has made


@dataclass(frozen=True, slots=True)
class StrayCode:
    """The line that creates the optimizer, and the code for it."""

    where: str
    excerpt: str


def code_for(
    kind: int, created: Fact | None, strays: Sequence[Parameter], known: Sequence[Parameter]
) -> StrayCode | None:
    """Return the statement of the script with these parameters in it, or what is to follow it, by
    the fact about the creation; `None` where neither can be told.
    """
    if created is None or not created.text("place") or not strays:
        return None
    text, call = created.text("text"), created.text("call")
    if call != created.text("class_name"):  # a framework makes it from its settings
        return None
    if kind != LEFT_OUT and not names_model(text, call, strays[0].model):
        return None
    if kind == OTHER_MODEL:
        written = "" if HIDDEN in text else f"{text}  # {_last_change(strays)}"
    elif kind in (LEFT_OUT, REPLACED):
        written = _with_strays(kind, created, strays, known)
    else:
        written = ""
    return StrayCode(created.text("place"), written) if written else None


def _with_strays(
    kind: int, created: Fact, strays: Sequence[Parameter], known: Sequence[Parameter]
) -> str:
    text, call = created.text("text"), created.text("call")
    pieces = pieces_of(text, call, strays, known, created.optimizer)
    if kind == LEFT_OUT and (whole := with_parameters(text, call, pieces)):
        return whole
    target = target_of(text)
    if not pieces or not target:
        return ""
    if kind == LEFT_OUT:
        place = f"after the line that creates {target}"
    elif len(pieces) == 1:
        place = f"after the line that replaces {pieces[0].text}"
    else:
        place = "after the last change to the model"
    return f'{target}.add_param_group({{"params": {listed(pieces)}}})  # {place}'


def _last_change(strays: Sequence[Parameter]) -> str:
    if any(part in each.name for part in OF_PEFT for each in strays):
        return "after get_peft_model"
    return "after the last change to the model"
