"""Fetch records from a place into a directory of this machine, where they are opened as any other:
what a place holds is never read in any other way.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.places.fetched_record import FetchedRecord, Key
from seismograd.record.places.manifest import MOST_BYTES, ListedFile, manifest_from_bytes
from seismograd.record.places.pack import decoded
from seismograd.record.places.place import PlacedFile, RecordPlace
from seismograd.record.places.place_cache import cache_folder, locked
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.stored_names import (
    MANIFEST,
    PACKS,
    is_record_file,
    is_sent,
    pack_name,
    pack_number,
)
from seismograd.record.run_claim import META, STARTED

Told = Callable[[int, int], None]
_MOST_FILES = 10**6
_MOST_PACK = 2**28
_ROOM = 2**26  # that stays free on the disk


def nobody_told(done: int, total: int) -> None:
    """Ignore how far it is: bytes, of how many."""


def fetch_run(url: PlaceUrl, told: Told = nobody_told) -> Path:
    """Fetch a record, or what is new of it, and return the directory with it.

    Raises:
        SeismogradError: there is none, or the place cannot be read.
    """
    url = url.record()
    if not is_record_file(url.name):
        raise SeismogradError(
            say("{url} is not an URL of a place", url=url.shown),
            say("for example s3://bucket/runs/first"),
        )
    with _Explained(url):
        place = RecordPlace(url)
        folder = cache_folder(url.folder())
        with locked(folder, url.name):
            return _fetched(place, folder, told)


def fetch_runs(url: PlaceUrl, told: Told = nobody_told) -> Path:
    """Fetch all records of a folder, and return the directory with them. A single record is
    fetched as such.

    Raises:
        SeismogradError: the place cannot be read.
    """
    with _Explained(url):
        place = RecordPlace(url)
        if is_record_file(url.record().name) and _is_record(place):
            return fetch_run(url, told)
        folder = cache_folder(url)
        names = [name for name in place.folders() if is_record_file(name)]
        places = {name: RecordPlace(url.child(name)) for name in names}
        found = {name: each for name, each in places.items() if _is_record(each)}
        if not found:
            raise SeismogradError(
                say("there is no run in {directory}", directory=url.shown),
                say(
                    "record one with: seismograd run --out {url} train.py",
                    url=f"{url.shown.rstrip('/')}/",
                ),
            )
        for path in folder.iterdir():
            if path.is_dir() and path.name not in found:
                shutil.rmtree(path)
        for name, each in found.items():
            with locked(folder, name):
                _fetched(each, folder, told)
        return folder


class _Explained:
    """Makes one line of whatever a place raises."""

    def __init__(self, url: PlaceUrl) -> None:
        self._url = url

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise what is to be said."""
        if isinstance(error, Exception) and not isinstance(error, SeismogradError):
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise SeismogradError(
                say(
                    "cannot read {url}: {reason}",
                    url=self._url.shown,
                    reason=self._url.without_secrets(text)[:200],
                )
            ) from error


def _is_record(place: RecordPlace) -> bool:
    return any(place.read(name, MOST_BYTES) is not None for name in (MANIFEST, STARTED, META))


def _fetched(place: RecordPlace, folder: Path, told: Told) -> Path:
    copy = FetchedRecord(folder, place.url.name)
    try:
        try:
            _fetch(place, copy, told)
        except (ValueError, FileNotFoundError):  # it has become another one meanwhile
            _fetch(place, copy, told)
    except (ValueError, FileNotFoundError) as error:
        raise SeismogradError(
            say("{url} holds a record that is damaged, or just being sent", url=place.url.shown),
            say("try again"),
        ) from error
    finally:
        copy.save()
    return copy.path


def _fetch(place: RecordPlace, copy: FetchedRecord, told: Told) -> None:
    listed = _manifest(place)
    if listed is not None:
        _fetch_listed(place, copy, listed, told)
        return
    stored = place.files()
    if len(stored) > _MOST_FILES:
        raise _too_large(place.url)
    packs = {name: each for name, each in stored.items() if name.startswith(f"{PACKS}/")}
    if any(pack_number(name) for name in packs):
        _fetch_packs(place, copy, packs, told)
        if copy.packs:
            return
        # Not even the first one is whole. What lies beside it is a run that begins.
    _fetch_plain(place, copy, stored, told)


def _manifest(place: RecordPlace) -> dict[str, ListedFile] | None:
    content = place.read(MANIFEST, MOST_BYTES)
    try:
        return None if content is None else manifest_from_bytes(content)
    except ValueError:  # cut short, or being written
        return None


def _fetch_listed(
    place: RecordPlace, copy: FetchedRecord, listed: Mapping[str, ListedFile], told: Told
) -> None:
    _check_room(place.url, copy.path.parent, sum(each.size for each in listed.values()))
    keys: dict[str, Key] = {name: [each.size, each.crc32] for name, each in listed.items()}
    copy.begin_files(listed)
    wanted = [name for name in listed if not copy.has_file(name, keys[name])]
    done, total = 0, sum(listed[name].size for name in wanted)
    for name in wanted:
        each = listed[name]
        copy.add_file(name, keys[name], place.chunks(name), each.crc32, each.modified_ns)
        done += each.size
        told(done, total)


def _fetch_plain(
    place: RecordPlace, copy: FetchedRecord, stored: Mapping[str, PlacedFile], told: Told
) -> None:
    """Fetch a record that somebody copied there: nothing says when its files were written."""
    files = {name: each for name, each in stored.items() if is_sent(name)}
    if META not in files and STARTED not in files:
        raise SeismogradError(say("there is no run at {path}", path=place.url.shown))
    _check_room(place.url, copy.path.parent, sum(each.size for each in files.values()))
    copy.begin_files(files)
    keys: dict[str, Key] = {name: [each.size, each.sign] for name, each in files.items()}
    wanted = [name for name in files if not copy.has_file(name, keys[name])]
    done, total = 0, sum(files[name].size for name in wanted)
    for name in wanted:
        copy.add_file(name, keys[name], place.chunks(name), None, 0)
        done += files[name].size
        told(done, total)


def _fetch_packs(
    place: RecordPlace, copy: FetchedRecord, packs: Mapping[str, PlacedFile], told: Told
) -> None:
    """Fetch a record that is being written, or was when its machine was lost: each pack as far as
    they are whole.
    """
    numbers = sorted(pack_number(name) or 0 for name in packs)
    names = [pack_name(number) for number in numbers if number]
    names = [name for name in names if name in packs]
    keys: list[Key] = [[name, packs[name].size, packs[name].sign] for name in names]
    num_known = copy.begin_packs(keys)
    _check_room(place.url, copy.path.parent, sum(packs[name].size for name in names[num_known:]))
    done, total = 0, sum(packs[name].size for name in names[num_known:])
    for name, key in zip(names[num_known:], keys[num_known:], strict=True):
        content = place.read(name, min(_MOST_PACK, packs[name].size))
        if content is None:  # replaced by plain files meanwhile
            raise ValueError(name)
        try:
            pack = decoded(content)
        except ValueError:
            if name == names[-1]:  # being written
                break
            raise
        copy.add_pack(pack, key)
        done += packs[name].size
        told(done, total)


def _check_room(url: PlaceUrl, folder: Path, num_bytes: int) -> None:
    if num_bytes > shutil.disk_usage(folder).free - _ROOM:
        raise _too_large(url)


def _too_large(url: PlaceUrl) -> SeismogradError:
    return SeismogradError(
        say("{url} is larger than what is free on the disk", url=url.shown),
        say("XDG_CACHE_HOME names another directory for caches"),
    )
