"""URLs of places, such as `s3://bucket/runs/first`. Loads nothing, because it runs before the
user's script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.printable import printable

# Two letters at least: C:\ is a drive. An URL that was made a path has one slash.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}")
_WITH_SLASHES = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^?#]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlaceUrl:
    """The address of a record, or of a folder of records. `text` may hold a password or a token:
    it goes to nobody but fsspec. What is shown or recorded is `shown`. It is pickled for processes
    that the script starts.
    """

    text: str

    def __repr__(self) -> str:
        return f"PlaceUrl({self.shown!r})"

    @property
    def protocol(self) -> str:
        """Return what stands before `://`."""
        return self.text.partition("://")[0].lower()

    @property
    def shown(self) -> str:
        """Return the URL without user, password, query and fragment."""
        found = _WITH_SLASHES.match(self.text)
        if found is None:
            return f"{self.protocol}://…"
        host, slash, path = found[2].partition("/")
        return printable(f"{found[1]}://{host.rpartition('@')[2]}{slash}{path}")

    @property
    def name(self) -> str:
        """Return the last part of the path; empty for that of a folder, which ends with a slash."""
        return self._path().rpartition("/")[2]

    def record(self) -> PlaceUrl:
        """Return the URL of a record: without a slash at its end."""
        before, rest = self._split()
        return PlaceUrl(before.rstrip("/") + rest)

    def child(self, name: str) -> PlaceUrl:
        """Return the URL of what has this name in the folder."""
        before, rest = self._split()
        return PlaceUrl(f"{before.rstrip('/')}/{name}{rest}")

    def beside(self, ending: str) -> PlaceUrl:
        """Return the URL with something added to its name."""
        before, rest = self._split()
        return PlaceUrl(f"{before.rstrip('/')}{ending}{rest}")

    def folder(self) -> PlaceUrl:
        """Return the URL of the folder that it is in."""
        before, rest = self._split()
        return PlaceUrl(before.rstrip("/").rpartition("/")[0] + "/" + rest)

    def without_secrets(self, text: str) -> str:
        """Return a text, such as that of an exception, without what is secret in this URL."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        # what a store signs its own addresses with
        return printable(re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1?***", text))

    def _secrets(self) -> set[str]:
        before, rest = self._split()
        user = before.partition("://")[2].partition("/")[0].rpartition("@")[0]
        parts = {user, *user.split(":")[1:], rest, rest[1:]}
        parts |= {each.partition("=")[2] for each in re.split(r"[?&#;]", rest)}
        return {each for each in parts if len(each) > 2}

    def _path(self) -> str:
        return self._split()[0].partition("://")[2]

    def _split(self) -> tuple[str, str]:
        """Return the URL up to its path, and its query and fragment."""
        found = _WITH_SLASHES.match(self.text)
        end = len(self.text) if found is None else found.end()
        return self.text[:end], self.text[end:]


def is_url(given: str | Path) -> bool:
    """Return whether somebody means a place and not a directory."""
    return _URL.match(str(given)) is not None


def place_of(given: str | Path | None) -> PlaceUrl | None:
    """Return the URL that somebody gave in place of a directory; `None` where it is a directory.

    Raises:
        SeismogradError: it looks like one and is none that could be used.
    """
    if given is None or not is_url(given):
        return None
    text = str(given)
    if "://" not in text and isinstance(given, Path):
        raise SeismogradError(
            say("{path} was an URL before it was made a path", path=printable(text)),
            say("give it as a text"),
        )
    url = PlaceUrl(text)
    if not text.partition("://")[2].strip("/"):
        raise SeismogradError(
            say("{url} is not an URL of a place", url=printable(text)),
            say("for example s3://bucket/runs/first"),
        )
    if "::" in text:
        raise SeismogradError(
            say("{url} is a chain of places, which cannot be a record", url=url.shown),
            say("give the URL of one place, such as s3://bucket/runs/first"),
        )
    return url
