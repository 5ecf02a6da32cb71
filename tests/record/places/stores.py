"""Places for tests: an empty cache, an empty store in memory, a store that fails on request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

fsspec: Any = pytest.importorskip("fsspec")
local: Any = pytest.importorskip("fsspec.implementations.local")
memory: Any = pytest.importorskip("fsspec.implementations.memory")


class FlakyStore(memory.MemoryFileSystem):  # type: ignore[misc]
    """A store in memory whose writes raise while `is_down`, before anything is written or behind
    it.
    """

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    num_until_failure = -1
    fails_behind = False
    num_writes = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return memory.MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        """Write, or not."""
        cls = type(self)
        cls.num_writes += 1
        if cls.num_until_failure == 0:
            if cls.fails_behind:
                super().pipe_file(path, value, **options)
            raise ConnectionError("the store is down; secret-token")
        cls.num_until_failure -= 1
        super().pipe_file(path, value, **options)

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        """Write, or not."""
        self.pipe_file(rpath, Path(lpath).read_bytes())


class OtherDirectories(local.LocalFileSystem):  # type: ignore[misc]
    """The directories of this machine, by another name."""

    protocol = "mine"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        """As newer releases of fsspec do it by themselves."""
        return str(super()._strip_protocol(path.removeprefix("mine://")))


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Places that nobody else has, and a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    for store in (memory.MemoryFileSystem, FlakyStore):
        store.store.clear()
        store.pseudo_dirs[:] = [""]
    FlakyStore.num_until_failure, FlakyStore.fails_behind, FlakyStore.num_writes = -1, False, 0
    yield
    for store in (memory.MemoryFileSystem, FlakyStore):
        store.store.clear()
        store.pseudo_dirs[:] = [""]
