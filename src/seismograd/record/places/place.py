"""A place in which files can be read and written, through fsspec. What it raises is whatever the
package of the place raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from seismograd.record.places.place_packages import cannot_import, require_packages
from seismograd.record.places.place_url import PlaceUrl

_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss"})
_SIGNS = ("ETag", "etag", "md5Hash", "content_md5", "ino", "created", "LastModified", "mtime")
_AT_ONCE = 2**22  # bytes


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file at a place: its bytes, and text that is another one when its content is."""

    size: int
    sign: str


class RecordPlace:
    """A folder at a place.

    Raises:
        SeismogradError: a package is missing.
    """

    def __init__(self, url: PlaceUrl) -> None:
        self.url = url
        require_packages(url)
        core: Any = import_module("fsspec.core")
        try:
            # not one that the script uses too
            self._files, root = core.url_to_fs(url.text, skip_instance_cache=True)
        except ImportError as error:
            raise cannot_import(url, error) from error
        self._root = str(root).rstrip("/")

    def files(self, under: str = "") -> dict[str, PlacedFile]:
        """Return all files below the folder, by their names in it; no links."""
        self._files.invalidate_cache()
        root = self._path(under)
        try:
            found: dict[str, Any] = self._files.find(root, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path[len(root) :].lstrip("/"): _stored(info)
            for path, info in found.items()
            if path.startswith(f"{root}/")
            and info.get("type", "file") == "file"
            and not info.get("islink")
        }

    def folders(self) -> list[str]:
        """Return the names of the folders in the folder."""
        self._files.invalidate_cache()
        try:
            found: list[dict[str, Any]] = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        names = [str(each["name"]) for each in found if each.get("type") == "directory"]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in names)

    def is_empty(self) -> bool:
        """Return whether there is nothing in the folder."""
        self._files.invalidate_cache()
        try:
            found: list[str] = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return True
        return all(each.rstrip("/") == self._root for each in found)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a small file; `None` where there is none, or a larger one."""
        try:
            with self._files.open(self._path(name), "rb") as file:
                content: bytes = file.read(limit + 1)
        except FileNotFoundError:
            return None
        return None if len(content) > limit else content

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield what a file holds."""
        with self._files.open(self._path(name), "rb") as file:
            while chunk := file.read(_AT_ONCE):
                yield chunk

    def write(self, name: str, content: bytes) -> None:
        """Write a file, over one that is there."""
        self._make_folder(name)
        self._files.pipe_file(self._path(name), content)

    def put(self, path: Path, name: str) -> None:
        """Write a file from the disk, over one that is there."""
        self._make_folder(name)
        self._files.put_file(str(path), self._path(name))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; nothing happens where there is none."""
        for name in names:
            try:
                self._files.rm_file(self._path(name))
            except (FileNotFoundError, KeyError):
                continue

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _make_folder(self, name: str) -> None:
        # Where there are no folders this would make a bucket of a name that was mistyped.
        if self.url.protocol not in _WITHOUT_FOLDERS:
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)


def _stored(info: dict[str, Any]) -> PlacedFile:
    sign = next((f"{key}={info[key]}" for key in _SIGNS if info.get(key) is not None), "")
    if "mtime" in info:
        sign = f"{sign} {info['mtime']}"
    return PlacedFile(int(info.get("size") or 0), sign)
