"""Detect attributes that were set to freeze or to train something, and that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import cast

import torch

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.switch_settings import switch_setting
from seismograd.schema import FactKind, Site

RIGHT = "requires_grad"
LIKE_IT = 0.85  # share of matching letters
MAX_NAMES = 64


class Switches:
    """Inspects the attributes of modules and parameters, and reports each one once."""

    def __init__(
        self, facts: Facts, parameter_table: ParameterTable, sites: Sequence[Site]
    ) -> None:
        self._facts, self._parameter_table, self._sites = facts, parameter_table, sites
        self._reported: set[tuple[str, str]] = set()

    def look(self, site: int) -> None:
        """Inspect all trained models."""
        for model, prefix in self._parameter_table.models():
            slips: dict[tuple[str, bool], list[torch.Tensor]] = {}
            for name, module in cast(
                "Iterator[tuple[str, torch.nn.Module]]", model.named_modules()
            ):
                path = f"{prefix}{name}".rstrip(".")
                for attribute, value in _set_on(module):
                    self._report(site, attribute, value, "module", path, list(module.parameters()))
                for parameter in module.parameters(recurse=False):
                    for attribute, value in vars(parameter).items():
                        if isinstance(value, bool) and attribute != RIGHT and is_like_it(attribute):
                            slips.setdefault((attribute, value), []).append(parameter)
            for (attribute, value), parameters in slips.items():
                self._report(site, attribute, value, "parameter", prefix.rstrip("."), parameters)

    def _report(
        self,
        site: int,
        attribute: str,
        value: bool,
        on: str,
        name: str,
        parameters: Sequence[torch.Tensor],
    ) -> None:
        others = [each for each in parameters if each.requires_grad is not value]
        # some train: perhaps the rest is frozen on purpose
        if value and len(others) < len(parameters):
            others = []
        parameter_table = self._parameter_table
        names = [
            parameter_table.parameters[parameter_table.column(each)].name
            for each in others
            if each in parameter_table
        ]
        key = (attribute, names[0] if names else "")
        if not names or key in self._reported:
            return
        self._reported.add(key)
        file = "" if site < 0 else self._sites[site].file
        statement = switch_setting(file, attribute, value)
        self._facts.report(
            FactKind.SWITCH,
            site=site,
            parameters=names[:MAX_NAMES],
            attribute=attribute,
            value=str(value),
            on=on,
            name=name,
            num=len(names),
            place="" if statement is None else statement.place,
            text="" if statement is None else statement.text,
            model=next(
                parameter_table.parameters[parameter_table.column(each)].model
                for each in others
                if each in parameter_table
            ),
        )


def _set_on(module: torch.nn.Module) -> list[tuple[str, bool]]:
    """Return what was set on a module by someone other than its own class, which may use an
    attribute of that name itself.
    """
    made = getattr(type(module).__init__, "__code__", None)
    own: tuple[str, ...] = () if made is None else made.co_names
    found = [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, bool) and name not in own
    ]
    return [(name, value) for name, value in found if is_like_it(name)]


def is_like_it(attribute: str) -> bool:
    """Return whether this is `requires_grad`, or a misspelling of it."""
    return "gr" in attribute and (
        attribute == RIGHT or SequenceMatcher(None, attribute.lower(), RIGHT).ratio() >= LIKE_IT
    )
