"""Which process of how many this is, and where rank 0 can be reached: read from torch, without a
collective.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seismograd.exception_origin import raised_by_user


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where rank 0 listens: hosts to try in turn, and what a caller says first so as not to be
    taken for a stranger.
    """

    hosts: Sequence[str]
    port: int
    token: str

    def to_json(self) -> bytes:
        """As it is put into the store."""
        return json.dumps(
            {"hosts": list(self.hosts), "port": self.port, "token": self.token}
        ).encode()

    @staticmethod
    def from_json(text: bytes) -> ServerAddress:
        """As it was put into the store."""
        told = json.loads(text)
        return ServerAddress(tuple(told["hosts"]), int(told["port"]), str(told["token"]))


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The processes of `torch.distributed` that train together. `store` is torch's own key-value
    store, `None` where it has none.

    `number` counts how often this rank has joined others by this store, so that no session is taken
    for an earlier one.
    """

    rank: int
    size: int
    store: Any
    number: int

    def publish(self, address: ServerAddress) -> None:
        """Rank 0: say where it listens."""
        self.store.set(self._key(), address.to_json())

    def look_up(self) -> ServerAddress | None:
        """The others: where rank 0 listens, `None` while it has not said so. Does not block."""
        key = self._key()
        return (
            ServerAddress.from_json(bytes(self.store.get(key))) if self.store.check([key]) else None
        )

    def host(self) -> str | None:
        """The host by which every process has found the store; with torchrun that is rank 0's."""
        store = self.store
        while (inner := getattr(store, "underlying_store", None)) is not None:
            store = inner
        host: object = getattr(store, "host", None) or os.environ.get("MASTER_ADDR")
        return host if isinstance(host, str) else None

    def _key(self) -> str:
        return f"{_prefix()}/{self.number}"


class WorldTracker:
    """Notices, at the price of two look-ups, when the process has joined others. Nothing of
    torch is patched for it.
    """

    def __init__(self) -> None:
        # a weak reference: a group that was destroyed must be free to go
        self._group: Callable[[], object] = lambda: None

    def may_have_joined(self) -> bool:
        """Whether there is anything to ask `joined` for: most processes are alone."""
        distributed: Any = sys.modules.get("torch.distributed.distributed_c10d")
        # it may be half imported, on another thread
        return getattr(getattr(distributed, "GroupMember", None), "WORLD", None) is not None

    def joined(self) -> World | None:
        """The world this process is in, the first time that this is asked there; `None` in a
        world of one, and outside of any.
        """
        distributed: Any = sys.modules.get("torch.distributed.distributed_c10d")
        if distributed is None:
            return None
        group: Any = distributed.GroupMember.WORLD
        if group is None or group is self._group():
            return None
        self._group = weakref.ref(group)
        if group.size() < 2:
            return None
        rank = int(group.rank())
        try:
            store: Any = distributed._get_default_store()
            number = int(store.add(f"{_prefix()}/count/{rank}", 1))
        except Exception as error:
            if raised_by_user(error):
                raise
            store, number = None, 0
        return World(rank, int(group.size()), store, number)


def _prefix() -> str:
    return f"seismograd/{num_restarts()}"  # torchrun starts processes again with the same store


def rank_of_this_process() -> int:
    """The rank in `torch.distributed`, else the one that a launcher such as torchrun gave this
    process, else 0.
    """
    distributed: Any = sys.modules.get("torch.distributed.distributed_c10d")
    if distributed is not None and distributed.GroupMember.WORLD is not None:
        return int(distributed.GroupMember.WORLD.rank())
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() and os.environ.get("WORLD_SIZE", "1") != "1" else 0


def num_restarts() -> int:
    """How often torchrun has started the processes again after a failure."""
    text = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(text) if text.isdecimal() else 0
