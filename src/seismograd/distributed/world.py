"""Find this process's rank, the world size and rank 0's address: read from torch, without a
collective.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from seismograd.exception_origin import raised_by_user
from seismograd.i18n import Message, say

TORCHS = "torch.distributed.distributed_c10d"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of rank 0: hosts to try in turn, none where it has no port, and a token that
    callers present first, so that strangers are rejected. `training` names the world.
    """

    hosts: Sequence[str]
    port: int
    token: str
    training: str

    def to_json(self) -> bytes:
        """Encode it for the store."""
        return json.dumps(
            {
                "hosts": list(self.hosts),
                "port": self.port,
                "token": self.token,
                "training": self.training,
            }
        ).encode()

    @staticmethod
    def from_json(text: bytes) -> ServerAddress:
        """Decode it from the store."""
        address = json.loads(text)
        return ServerAddress(
            tuple(address["hosts"]),
            int(address["port"]),
            str(address["token"]),
            str(address["training"]),
        )


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
        """Publish the address of rank 0."""
        self.store.set(self._key(), address.to_json())

    def look_up(self) -> ServerAddress | None:
        """Return rank 0's address, `None` while it has not published it. Does not block."""
        key = self._key()
        return (
            ServerAddress.from_json(bytes(self.store.get(key))) if self.store.check([key]) else None
        )

    def say_apart(self) -> None:
        """Tell rank 0 that this process cannot reach it, and keeps its reports."""
        self.store.set(f"{self._key()}/apart/{self.rank}", b"1")

    def is_apart(self, rank: int) -> bool:
        """Return whether a process keeps its reports. Does not block."""
        return bool(self.store.check([f"{self._key()}/apart/{rank}"]))

    def publish_directory(self, path: str) -> None:
        """Publish where rank 0 records."""
        self.store.set(f"{self._key()}/directory", path.encode())

    def look_up_directory(self) -> str | None:
        """Return where rank 0 records, `None` while it has not published that. Does not block."""
        key = f"{self._key()}/directory"
        if self.store is None or not self.store.check([key]):
            return None
        return bytes(self.store.get(key)).decode()

    def host(self) -> str | None:
        """Return the host by which every process has found the store; with torchrun that is rank
        0's.
        """
        store = self.store
        while (inner := getattr(store, "underlying_store", None)) is not None:
            store = inner
        host: object = getattr(store, "host", None) or os.environ.get("MASTER_ADDR")
        return host if isinstance(host, str) else None

    def _key(self) -> str:
        return f"{_prefix()}/{self.number}"


class WorldTracker:
    """Notices, at the cost of two look-ups, when the process has joined others. Nothing in torch is
    patched for it.
    """

    def __init__(self) -> None:
        # a weak reference: a destroyed group must be free to go
        self._group: Callable[[], object] = lambda: None
        # A true result: there may be a group. In C, as it is asked at every call of a training; the
        # module may be imported later, or may be half imported, on another thread.
        distributed: Any = sys.modules.get(TORCHS)
        self.group_if_any: Callable[[], object] = partial(sys.modules.get, TORCHS)
        if hasattr(getattr(distributed, "_world", None), "_default_pg"):
            # what `GroupMember.WORLD` returns, by two properties in Python
            self.group_if_any = partial(getattr, distributed._world, "_default_pg", None)
        elif hasattr(distributed, "GroupMember"):
            self.group_if_any = partial(getattr, distributed.GroupMember, "WORLD", None)

    def may_have_joined(self) -> bool:
        """Return whether `joined` is worth calling: most processes are alone."""
        distributed: Any = sys.modules.get(TORCHS)
        # it may be half imported, on another thread
        return getattr(getattr(distributed, "GroupMember", None), "WORLD", None) is not None

    def joined(self) -> World | None:
        """Return the world this process is in, on the first call there; `None` in a world of one,
        and outside of any.
        """
        distributed: Any = sys.modules.get(TORCHS)
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
    return f"seismograd/{num_restarts()}"  # torchrun restarts processes with the same store


def rank_of_this_process() -> int:
    """Return the rank in `torch.distributed`, else the one that a launcher such as torchrun gave
    this process, else 0.
    """
    distributed: Any = sys.modules.get(TORCHS)
    if distributed is not None and distributed.GroupMember.WORLD is not None:
        return int(distributed.GroupMember.WORLD.rank())
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() and os.environ.get("WORLD_SIZE", "1") != "1" else 0


def num_restarts() -> int:
    """Return how often torchrun has restarted the processes after a failure, or, where it has not,
    how often Slurm has put the job into its queue again.
    """
    counts = (
        os.environ.get(name, "0")[:9]
        for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    )
    return next((int(text) for text in counts if text.isdecimal() and int(text)), 0)


def slurm_job() -> Message | None:
    """Return which job of Slurm this is; `None` outside of one."""
    job, restarts = (
        os.environ.get(name, "0")[:18] for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")
    )
    if not (job.isdecimal() and int(job)):
        return None
    return say(
        "Slurm job {job}, restarts: {restarts}",
        job=job,
        restarts=int(restarts) if restarts.isdecimal() else 0,
    )
