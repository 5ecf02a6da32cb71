"""Check whether models are trained in the mode that they had at first."""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import leaves_behind
from seismograd.capture.graph.unused_averages import UnusedAverages, unused_averages
from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.statements import statements
from seismograd.schema import FactKind

NORMS = (torch.nn.modules.batchnorm._NormBase,)  # pyright: ignore[reportPrivateUsage]
DROPOUTS = (torch.nn.modules.dropout._DropoutNd,)  # pyright: ignore[reportPrivateUsage]
MAX_MODELS = 16
MAX_BACK = 8  # more often it goes to and fro on purpose, as for an attack


@dataclass(slots=True)
class Watched:
    """A model that is trained."""

    alive: weakref.ref[torch.nn.Module]
    name: str
    num_norms: int
    num_dropouts: int
    has_trained: bool = False  # it was in train mode at a backward
    num_before: int = 0  # backwards in eval mode before it was ever in train mode
    unused: UnusedAverages | None = None  # then
    times: int = 0  # in eval mode since, or from the beginning where averages are unused
    num_back: int = 0  # to train mode


@dataclass(slots=True)
class Modes:
    """Looks at one attribute of each model, at every backward."""

    facts: Facts
    log: EventLog
    parameter_table: ParameterTable
    version: int = -1  # of the parameter table, up to which `watched` has its models
    watched: dict[int, Watched] = field(default_factory=dict[int, Watched])

    def backward_begins(self, _: ThreadState, losses: object = None) -> None:
        """A backward begins."""
        if self.version != self.parameter_table.version:
            self.version = self.parameter_table.version
            self._take_in()
        for watched in self.watched.values():
            model = watched.alive()
            if model is not None:
                self._look(watched, model, losses)

    def _eval_at(self, site: int, name: str) -> str:
        """Return the call that puts a model of this name in eval mode, as the script writes it."""
        file = self.log.call_sites.sites[site].file if site >= 0 else ""
        texts = {each.text for each in statements(file)} if file else set[str]()
        found = [
            each for each in texts if re.fullmatch(rf"([\w.]+\.)?{re.escape(name)}\.eval\(\)", each)
        ]
        return found[0] if len(found) == 1 else ""

    def _take_in(self) -> None:
        for model, prefix in self.parameter_table.models():
            if id(model) in self.watched and self.watched[id(model)].alive() is model:
                continue
            modules = list(model.modules())
            norms = sum(isinstance(each, NORMS) and _learns(each) for each in modules)
            dropouts = sum(isinstance(each, DROPOUTS) and each.p > 0 for each in modules)
            if (norms or dropouts) and len(self.watched) < MAX_MODELS:
                self.watched[id(model)] = Watched(
                    weakref.ref(model), prefix.rstrip("."), norms, dropouts
                )

    def _is_trained(self, model: torch.nn.Module, losses: object) -> bool:
        """Return whether a loss trains any of a model: not one that was trained and is frozen now,
        or that only teaches another. Where the graph shows no parameter that is known, as those
        that are gathered from shards, it may.
        """
        own = {id(p) for p in model.parameters() if p.requires_grad}
        if not own or not isinstance(losses, torch.Tensor) or losses.grad_fn is None:
            return bool(own)
        leaves = leaves_behind({losses.grad_fn})
        is_known = any(column >= 0 for column in self.parameter_table.columns(leaves))
        return not is_known or any(id(leaf) in own for leaf in leaves)

    def _look(self, watched: Watched, model: torch.nn.Module, losses: object) -> None:
        training = model.training
        if watched.num_back >= MAX_BACK:
            return
        if not training and not watched.has_trained:
            watched.num_before += 1
            if is_looked_at(watched.num_before) and isinstance(losses, torch.Tensor):
                watched.unused = unused_averages(losses.grad_fn) if watched.num_norms else None
        back = training and watched.times > 0
        watched.num_back += back
        watched.has_trained |= training
        unused = None if watched.has_trained else watched.unused
        counts = watched.has_trained or (unused is not None and unused.num > 0)
        watched.times = 0 if training or not counts else watched.times + 1
        if back or (
            watched.times and is_looked_at(watched.times) and self._is_trained(model, losses)
        ):
            site = self.log.call_sites.here(OWN_FRAMES)
            self.facts.report(
                FactKind.LEFT_IN_EVAL,
                site=site,
                text="" if back else self._eval_at(site, watched.name),
                model=watched.name,
                norms=watched.num_norms,
                dropouts=watched.num_dropouts,
                untouched=0 if unused is None else unused.num,
                size=1.0 if unused is None else unused.size,
                times=watched.times,
                back=int(back),
            )


def _learns(module: Any) -> bool:
    """Return whether it has weights that are trained: frozen ones are in eval mode on purpose."""
    return module.weight is not None and module.weight.requires_grad
