"""Send a record to a place: in packs while it is written, as plain files once it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.places.manifest import (
    MOST_BYTES,
    ListedFile,
    listed_files,
    manifest_from_bytes,
    manifest_to_bytes,
)
from seismograd.record.places.pack import Pack
from seismograd.record.places.place import RecordPlace
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.spool_changes import SpoolChanges
from seismograd.record.places.spool_files import sending_order
from seismograd.record.places.stored_names import MANIFEST, PACKS, pack_name, pack_number
from seismograd.record.run_claim import META, STARTED

_MOST_BESIDE = 1000
_MOST_OWN = 2**20  # bytes


def _nobody_told(num_bytes: int) -> None:
    """Ignore how much was sent."""


class RecordUpload:
    """The upload of one record. Whatever is at the place by now reads as a record: each method may
    raise what the place raises, and is called again.

    Where the place holds another record, this one goes beside it: `-2` and so on.

    Args:
        path: the record.
        url: where it goes.
    """

    def __init__(self, path: Path, url: PlaceUrl) -> None:
        self._path = path
        self._requested = url
        self._place: RecordPlace | None = None
        self._next_pack = 1
        self._changes = SpoolChanges(path)
        self._has_packs = False

    @property
    def url(self) -> PlaceUrl:
        """Return where it goes, or will probably go."""
        return self._requested if self._place is None else self._place.url

    def send_changes(self) -> int:
        """Send what is new since the last time, of a record that is being written; return how many
        bytes that were.
        """
        place = self._claimed()
        num_bytes = 0
        for pack in self._changes.packs():
            num_bytes += self._send(place, pack)
        return num_bytes

    def complete(self, told: Callable[[int], None] = _nobody_told) -> None:
        """Put all files there as they are, of a record that is written no more, and remove the
        packs. `told` hears of the bytes of each file that is there.
        """
        place = self._claimed()
        files, there = listed_files(self._path), _listed_at(place)
        if files != there:
            stored = place.files()
            place.remove([MANIFEST])
            for name, each in sorted(files.items(), key=lambda item: sending_order(item[0])):
                is_there = name in stored and stored[name].size == each.size
                if not (is_there and there.get(name) == each):
                    place.put(self._path / name, name)
                told(each.size)
            place.write(MANIFEST, manifest_to_bytes(files))
            self._remove_others(place, set(files), set(stored))
        place.remove(f"{PACKS}/{name}" for name in place.files(PACKS) if pack_number(name))

    def _send(self, place: RecordPlace, pack: Pack) -> int:
        content = pack.encoded()
        place.write(pack_name(self._next_pack), content)
        self._next_pack += 1
        if not self._has_packs:
            place.remove([MANIFEST])  # of what the record was before it went on
            self._has_packs = True
        return len(content)

    def _claimed(self) -> RecordPlace:
        """Return the place, which nobody else writes to."""
        if self._place is None:
            self._place = self._first_free()
            numbers = [pack_number(name) or 0 for name in self._place.files(PACKS)]
            self._next_pack = 1 + max(numbers, default=0)
        return self._place

    def _first_free(self) -> RecordPlace:
        # what no other run has; records of before there was one have no first file
        name = STARTED if (self._path / STARTED).exists() else META
        own = (self._path / name).read_bytes()
        for number in range(1, _MOST_BESIDE):
            url = self._requested if number == 1 else self._requested.beside(f"-{number}")
            place = RecordPlace(url)
            if place.is_empty():
                place.write(name, own)
            if place.read(name, _MOST_OWN) == own:  # nobody else was faster
                return place
        raise SeismogradError(
            say(
                "{url} is not empty, and existing files are not overwritten",
                url=self._requested.shown,
            ),
            say("choose another place with --out URL"),
        )

    @staticmethod
    def _remove_others(place: RecordPlace, files: set[str], stored: set[str]) -> None:
        """Remove files that the record has no more."""
        own = {name for name in stored if not name.startswith(f"{PACKS}/")} - {MANIFEST}
        place.remove(sorted(own - files))


def _listed_at(place: RecordPlace) -> dict[str, ListedFile]:
    content = place.read(MANIFEST, MOST_BYTES)
    try:
        return {} if content is None else manifest_from_bytes(content)
    except ValueError:  # cut short
        return {}
