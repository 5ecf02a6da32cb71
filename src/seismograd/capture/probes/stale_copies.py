"""Follow networks that nothing trains and that are built like one that is trained, such as a target
network or an average: whether they stay as they are, keep some of their weights by rounding, or
leave their running averages as they were made.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.cuda import is_initialized
from torch.nn.parameter import is_lazy

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.made_objects import MADE
from seismograd.capture.names.parameter_groups import num_parameters_below, parameters_below
from seismograd.capture.names.parameter_names import walk
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.names.script_variables import variables
from seismograd.capture.probes.fresh_norms import fresh_norm
from seismograd.capture.source.averaging import averaging_statement
from seismograd.capture.source.left_out_buffers import left_out_buffers
from seismograd.capture.source.void_updates import FoundUpdate, void_update
from seismograd.schema import FactKind, Site
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable
from seismograd.tensors.isolation import without_user_modes

SEARCHES = (3, 64)  # numbers of the backwards
MAX_MODULES = 4096
MAX_TENSORS, MAX_SCALARS = 8, 256  # of a network, of each tensor
MAX_PAIRS, MAX_FILES = 8, 16
MAX_NAMED = 1024  # objects that are inspected for a name
LOW = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # distance of two numbers near one
MIN_ULPS = 8.0  # by which a number is away from the one that it should follow
MIN_STUCK = 0.25  # of the numbers of a tensor that are that far away

Structure = tuple[tuple[str, torch.Size], ...]


@dataclass(slots=True)
class FollowedTensor:
    """A tensor of the copy and that of what is trained, and some scalars of both."""

    name: str
    copy: weakref.ref[torch.Tensor]
    source: weakref.ref[torch.Tensor]
    first: torch.Tensor  # of the copy
    last: torch.Tensor
    last_source: torch.Tensor

    def look(self) -> TensorChange | None:
        """Return how both have changed since the last look; `None` where they cannot be read."""
        copy, source = _scalars(self.copy()), _scalars(self.source())
        if copy is None or source is None or copy.shape != self.last.shape:
            return None
        same = copy == self.last
        # the distance that is left, in steps of the copy's numbers, before and now
        step = copy.double().abs() * LOW.get(copy.dtype, 0.0)
        gap, before = (
            source.double() - copy.double(),
            self.last_source.double() - self.last.double(),
        )
        is_far = (step > 0) & (gap.abs().minimum(before.abs()) >= MIN_ULPS * step)
        is_far &= gap * before > 0
        change = TensorChange(
            is_as_at_first=bool((copy == self.first).all()),
            has_moved=bool((source != self.last_source).any()),
            num_changed=int((~same).sum()),
            num_far=int((is_far | ~same).sum()),
            num_stuck=int((is_far & same).sum()),
        )
        self.last, self.last_source = copy, source
        return change


@dataclass(frozen=True, slots=True)
class TensorChange:
    """What has happened to a tensor's scalars since the last look."""

    is_as_at_first: bool  # the copy
    has_moved: bool  # what is trained
    num_changed: int  # scalars of the copy
    num_far: int  # that have changed, or stand far from where they should be
    num_stuck: int  # that stand there, and are exactly as they were


@dataclass(slots=True)
class FollowedCopy:
    """A network that nothing trains, and what it seems to be a copy of."""

    module: weakref.ref[torch.nn.Module]
    source: weakref.ref[torch.nn.Module]
    dtype: torch.dtype
    tensors: list[FollowedTensor]
    since: int  # the iteration of the first look
    num_unmoved: int = 0  # looks, in a row
    num_stuck: int = 0
    num_fresh: int = 0


@dataclass(slots=True)
class StaleCopies:
    """Looks at the first backwards, and ever more rarely."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _copies: list[FollowedCopy] = field(default_factory=list[FollowedCopy])

    def look(self, number: int, site: int) -> None:
        """Look at the backward with this number, from 1, that begins at this call site."""
        if number < SEARCHES[0] or (is_initialized() and is_capturing()):
            return
        with without_user_modes():
            if number in SEARCHES:
                self._search()
            for each in list(self._copies):
                self._follow(each, site)

    def _search(self) -> None:
        known = {id(each.module()) for each in self._copies}
        alive = [m for m in MADE.alive()[:MAX_MODULES] if isinstance(m, torch.nn.Module)]
        table = self.parameter_table
        untrained = [
            m
            for m in alive
            if id(m) not in known
            and (first := next(parameters_below(m), None)) is not None
            and not table.owned(first)
        ]
        if not untrained:
            return
        trained: dict[Structure, torch.nn.Module] = {}
        for module in alive:
            first = next(parameters_below(module), None)
            if first is not None and table.owned(first):
                trained[_structure(module)] = module
        taken = {id(p) for each in self._copies for p in _parameters(each.module())}
        # the outermost first: it was made last
        untrained.reverse()
        for module in sorted(untrained, key=lambda m: -num_parameters_below(m)):
            held = [tensor for _, tensor, _ in walk(module)]
            if len(held) < 2 or any(id(p) in taken or table.owned(p) for p in held):
                continue
            source = trained.get(_structure(module))
            if source is None or len(self._copies) >= MAX_PAIRS:
                continue
            followed = list(_followed(module, source))
            if followed:
                taken.update(map(id, held))
                self._copies.append(
                    FollowedCopy(
                        weakref.ref(module),
                        weakref.ref(source),
                        held[0].dtype,
                        followed,
                        self.facts.iteration,
                    )
                )

    def _follow(self, copy: FollowedCopy, site: int) -> None:
        if self.facts.iteration == copy.since:
            return
        changes = [change for each in copy.tensors if (change := each.look()) is not None]
        if not changes or copy.module() is None:
            self._copies.remove(copy)
            return
        is_unmoved = all(each.is_as_at_first for each in changes)
        has_moved = any(each.has_moved for each in changes)
        copy.num_unmoved = copy.num_unmoved + has_moved if is_unmoved else 0
        # a tensor of which nothing has changed, beside others that have, is left out on purpose
        of_moving = [each for each in changes if each.num_changed or is_unmoved]
        changed, far, stuck = (
            sum(getattr(each, name) for each in of_moving)
            for name in ("num_changed", "num_far", "num_stuck")
        )
        is_stuck = stuck >= MIN_STUCK * far > 0
        if is_stuck or changed:  # else nothing is known
            copy.num_stuck = copy.num_stuck + 1 if is_stuck else 0
        files = tuple(dict.fromkeys(each.file for each in self.sites))[:MAX_FILES]
        void = void_update(files) if is_unmoved and copy.num_unmoved else None
        if void is not None:
            self._report(copy, site, copy.num_unmoved, 0.0, void)
        elif is_stuck:
            averaging = averaging_statement(files)
            if averaging is not None or not is_unmoved:
                self._report(copy, site, copy.num_stuck, stuck / far, averaging)
        elif changed and not is_unmoved:
            self._look_at_norms(copy, site, files)

    def _look_at_norms(self, copy: FollowedCopy, site: int, files: tuple[str, ...]) -> None:
        """Look whether a copy whose weights follow has running averages that do not."""
        norm = fresh_norm(copy.module(), copy.source())
        copy.num_fresh = copy.num_fresh + 1 if norm else 0
        if not norm:
            return
        found = left_out_buffers(files, *self._names(copy))
        if found is not None:
            found = FoundUpdate(found.place, found.text, "buffers", norm)
            self._report(copy, site, copy.num_fresh, 0.0, found)

    def _names(self, copy: FollowedCopy) -> tuple[str, str]:
        """Return what the script calls both, nothing where that is not known."""
        names = variables(MAX_NAMED)
        name, of = (
            names[id(each)][1] if each is not None and id(each) in names else ""
            for each in (copy.module(), copy.source())
        )
        return name, of

    def _report(
        self, copy: FollowedCopy, site: int, times: int, share: float, found: FoundUpdate | None
    ) -> None:
        name, of = self._names(copy)
        self.facts.report(
            FactKind.STALE_COPY,
            site=site,
            name=name or type(copy.module()).__name__,
            of=of or type(copy.source()).__name__,
            times=times,
            since=copy.since,
            share=share,
            dtype=str(copy.dtype).removeprefix("torch."),
            statement="" if found is None else found.kind,
            target="" if found is None else found.name,
            place="" if found is None else found.place,
            text="" if found is None else found.text,
        )


def _structure(module: torch.nn.Module) -> Structure:
    return tuple(
        (name, torch.Size(()) if is_lazy(tensor) else tensor.shape)
        for name, tensor, _ in walk(module)
    )


def _parameters(module: torch.nn.Module | None) -> Iterator[torch.Tensor]:
    return iter(()) if module is None else parameters_below(module)


def _followed(module: torch.nn.Module, source: torch.nn.Module) -> Iterator[FollowedTensor]:
    """Yield the matrices of a network, beginning with the last ones, and those of the other one."""
    trained = {name: tensor for name, tensor, _ in walk(source)}
    num = 0
    for name, tensor, _ in reversed(list(walk(module))):
        if not is_lazy(tensor) and tensor.ndim > 1 and num < MAX_TENSORS:
            copy, other = _scalars(tensor), _scalars(trained[name])
            if copy is not None and other is not None:
                num += 1
                yield FollowedTensor(
                    name, weakref.ref(tensor), weakref.ref(trained[name]), copy, copy, other
                )


def _scalars(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return some scalars of a tensor, spread over all of it  # (MAX_SCALARS,) at most."""
    if (
        tensor is None
        or type(tensor) not in PLAIN_TYPES
        or not tensor.is_floating_point()
        or tensor.is_meta
        or not tensor.numel()
        or not tensor.is_contiguous()
        or not is_readable(tensor)
    ):
        return None
    every = max(1, tensor.numel() // MAX_SCALARS)
    return tensor.detach().view(-1)[::every][:MAX_SCALARS].cpu().clone()
