"""Patches of modules that a program imports later are looked for at each backward, at the price of
these modules and not of all that the program has imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from seismograd.capture.events import EventHub, Listener
from seismograd.capture.hooks import backward_calls


class Modules(dict[str, ModuleType]):
    """Counts how often all modules are looked through."""

    num_walks = 0

    def __iter__(self) -> Iterator[str]:
        Modules.num_walks += 1
        return super().__iter__()


def test_a_backward_does_not_look_through_all_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, listener = EventHub([backward_calls.install]), Listener()
    installed: list[str] = []
    hub.attach(listener)
    try:
        torch.ones((), requires_grad=True).backward()  # what imports at first has done it now
        monkeypatch.setattr(sys, "modules", Modules(sys.modules))
        monkeypatch.setattr(Modules, "num_walks", 0)
        hub.late["a.module.not.imported"] = lambda: installed.append("early")
        hub.late["another"] = lambda: installed.append("another") or (lambda: None)
        torch.ones((), requires_grad=True).backward()
        assert (installed, Modules.num_walks) == ([], 0)
        sys.modules["another"] = ModuleType("another")
        torch.ones((), requires_grad=True).backward()
        assert (installed, set(hub.late)) == (["another"], {"a.module.not.imported"})
        assert Modules.num_walks == 0
    finally:
        monkeypatch.undo()
        hub.detach(listener)
