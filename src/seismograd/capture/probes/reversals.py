"""Listen to autograd Functions whose name says that they reverse a gradient: whether they turn its
sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.custom_functions import backward_site, custom_functions
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.source.reversing import reversing_statement
from seismograd.schema import FactKind
from seismograd.tensors.isolation import without_user_modes

# a reversible network recomputes, and reverses nothing
NAME = re.compile(r"revers(?!ib)|rev_?grad|grad(ient)?_?rev(?!ib)|^grl|grl$", re.IGNORECASE)
MAX_FUNCTIONS = 4  # in a graph
PARALLEL = 1e-4  # how far the two may be from being multiples of each other


@dataclass(slots=True)
class Reversals:
    """Observes backwards, the first ones and ever rarer ones, where there are such Functions."""

    facts: Facts
    call_sites: CallSites
    is_listening: bool = False
    _undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    _factors: dict[Any, torch.Tensor] = field(default_factory=dict[Any, torch.Tensor])
    _times: dict[str, int] = field(default_factory=dict[str, int])

    def backward_begins(self, tops: list[Any]) -> None:
        """Listen to the Functions in these graphs."""
        self._stop()
        found = [node for node in custom_functions(tops) if NAME.search(_name(node))]
        for node in found[:MAX_FUNCTIONS]:
            self._undo.append(node.register_hook(_listener(self._factors, node)).remove)
        self.is_listening = bool(self._undo)

    def backward_ends(self) -> None:
        """Report the Functions that have passed a gradient on with its sign."""
        factors = self._factors
        self._stop()
        for node, numbers in factors.items():
            dot, given, returned = map(float, numbers.unbind())
            size = math.sqrt(given * returned)
            # else it is zero, or turned, or something else is done with it
            if not size > 0 or dot < (1 - PARALLEL) * size:
                continue
            name = _name(node)
            times = self._times[name] = self._times.get(name, 0) + 1
            site = backward_site(node, self.call_sites)
            statement = None
            if site >= 0:
                at = self.call_sites.sites[site]
                statement = reversing_statement(at.file, at.line)
            self.facts.report(
                FactKind.REVERSAL,
                site=site,
                function=name,
                factor=math.sqrt(returned / given),
                times=times,
                place="" if statement is None else statement.place,
                text="" if statement is None else statement.text,
            )

    def _stop(self) -> None:
        undo, self._undo, self._factors, self.is_listening = self._undo, [], {}, False
        for each in undo:
            each()


def _name(node: Any) -> str:
    return str(node._forward_cls.__name__)


def _listener(factors: dict[Any, torch.Tensor], node: Any) -> Callable[[Any, Any], None]:
    def listen(returned: Any, given: Any) -> None:
        pairs = [
            (one, other)
            for one, other in zip(returned, given, strict=False)
            if isinstance(one, torch.Tensor)
            and isinstance(other, torch.Tensor)
            and one.shape == other.shape
            and one.numel() > 1
        ]
        if len(pairs) == 1:
            with without_user_modes():
                one, other = (each.detach().double() for each in pairs[0])
                numbers = (one * other).sum(), other.square().sum(), one.square().sum()
                factors[node] = torch.stack(numbers)

    return listen
