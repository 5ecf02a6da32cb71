"""Find the user's file and line of an intercepted call."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType

import torch

from seismograd.capture.names.shown_paths import shown_path
from seismograd.capture.source.recordable_source import recordable_statement
from seismograd.capture.source.shown_sources import remember
from seismograd.package_info import PACKAGE_DIR
from seismograd.parsed_source import parsed
from seismograd.printable import printable
from seismograd.schema import Site

OWN, LIBRARY, USER = 0, 1, 2
MAX_TEXT = 200  # characters of a statement that are recorded
MAX_PLACES = 256
# Where packages are installed: in the environment, in one below it, in the user's home.
INSTALLED = ("site-packages", "dist-packages")


class CallSites:
    """Finds the user's line on the stack and numbers each one once, in the append-only list
    `sites`.
    """

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self._index: dict[tuple[str, int], int] = {}
        self._kinds: dict[str, int] = {}
        # the index of an instruction, as its line is found by reading the code's table from its
        # start; the code itself is kept, so that no other has its id
        self._places: dict[tuple[int, int], tuple[CodeType, int]] = {}
        self._hidden = tuple(f"{each}/" for each in (Path(str(torch.__file__)).parent, PACKAGE_DIR))
        paths = sysconfig.get_paths()
        self._libraries = tuple(
            {f"{paths[k]}/" for k in ("stdlib", "platstdlib", "purelib", "platlib")}
        )
        self._home = Path.cwd()

    def here(self, skip: int = 1) -> int:
        """Return the index of the innermost line of the user's own code on the calling thread's
        stack, else of a library's; -1 for none.

        `skip` frames are known to be neither.
        """
        frame: FrameType | None = sys._getframe(skip)  # pyright: ignore[reportPrivateUsage]
        library: FrameType | None = None
        outermost: FrameType | None = None  # of the library's frames, called by the script
        while frame is not None:
            name = frame.f_code.co_filename
            kind = self._kinds.get(name)
            if kind is None:
                kind = self._kinds[name] = self._classify(name)
            if kind == USER:
                if outermost is not None:
                    return self._number(frame, outermost)
                place = self._places.get((id(frame.f_code), frame.f_lasti))
                if place is None or place[0] is not frame.f_code:
                    place = self._remember(frame)
                return place[1]
            if kind == LIBRARY:
                library = frame if library is None else library
                outermost = frame
            frame = frame.f_back
        return -1 if library is None else self._number(library, outermost)

    def inner(self, frame: FrameType | None, outer: FrameType) -> FrameType | None:
        """Return the innermost frame of the user's own code, else of a library's, between two
        frames of the stack; `None` for none.
        """
        library: FrameType | None = None
        while frame is not None and frame is not outer:
            name = frame.f_code.co_filename
            kind = self._kinds.get(name)
            if kind is None:
                kind = self._kinds[name] = self._classify(name)
            if kind == USER:
                return frame
            if kind == LIBRARY and library is None:
                library = frame
            frame = frame.f_back
        return library

    def at(self, file: str, line: int, function: str) -> int:
        """Return the index of a line that is known by the name of its file."""
        return self._numbered((file, line), function)

    def labelled(self, label: str) -> int:
        """Return the index of the calling line as the place of the loss that the script calls
        `label`.
        """
        index = self.here()
        return self._labelled(self.sites[index] if index >= 0 else Site("", 0, ""), label)

    def is_of_script(self, filename: str) -> bool:
        """Return whether a file is of the user's own code."""
        return self._kinds.setdefault(filename, self._classify(filename)) == USER

    def numbered(self, index: int, turn: int) -> int:
        """Return the index of a site as the place of the loss backpropagated there at this turn,
        from 0.
        """
        return (
            index
            if index < 0
            else self._labelled(self.sites[index], f"{self.sites[index]} #{turn + 1}")
        )

    def _labelled(self, position: Site, label: str) -> int:
        key = (f"{position.file}\0{label}", position.line)
        if key not in self._index:
            self._add(key, replace(position, label=label))
        return self._index[key]

    def _classify(self, filename: str) -> int:
        if filename.startswith(("<frozen", "<string>", *self._hidden)):
            return OWN
        is_installed = is_of_package(filename, self._home)
        if filename.startswith(self._libraries):
            return LIBRARY if _installed(Path(filename)) is not None else OWN
        return LIBRARY if is_installed else USER

    def _remember(self, frame: FrameType) -> tuple[CodeType, int]:
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        place = frame.f_code, self._number(frame, None)
        self._places[id(frame.f_code), frame.f_lasti] = place
        return place

    def _number(self, frame: FrameType, outermost: FrameType | None) -> int:
        via = "" if outermost is None else _package_of(outermost)
        key = (frame.f_code.co_filename, frame.f_lineno)
        return self._numbered(key, frame.f_code.co_qualname, via)

    def _numbered(self, key: tuple[str, int], function: str, via: str = "") -> int:
        index = self._index.get(key)
        if index is None:
            is_own = self._kinds.get(key[0], USER) == USER
            text = printable(_statement(*key)) if is_own else ""
            site = Site(printable(self._shown(key[0])), key[1], function, via=via, text=text)
            index = self._add(key, site)
        return index

    def _add(self, key: tuple[str, int], site: Site) -> int:
        index = len(self.sites)
        # Without a call in between, where an exception of the program's could arrive: a number that
        # is known has its site.
        self.sites += [site]
        self._index[key] = index
        return index

    def _shown(self, filename: str) -> str:
        shown = self._short(filename)
        remember(shown, filename)
        return shown

    def _short(self, filename: str) -> str:
        """Return the path as short as it stays unambiguous. A library's is relative to its own
        folder, even when the environment is in the folder that the run began in.
        """
        path = Path(filename)
        if (installed := _installed(path)) is not None:
            return installed.as_posix()
        if not path.is_relative_to(self._home):
            for folder in sorted(self._libraries, key=len, reverse=True):
                if path.is_relative_to(folder):
                    return path.relative_to(folder).as_posix()
        return shown_path(path, self._home)


def is_of_package(filename: str, home: Path | None = None) -> bool:
    """Return whether a file is of an installed package, in this environment or in another one.
    `home`: the folder of the program, which may lie in an environment itself.
    """
    path, home = Path(filename), Path.cwd() if home is None else home
    if path.is_relative_to(home):
        path = path.relative_to(home)
    return _installed(path) is not None


def _statement(file: str, line: int) -> str:
    """Return the statement at a line; empty where it is not a simple one, or goes on."""
    source = linecache.getline(file, line).strip()
    tree = parsed(source)
    if tree is None or len(tree.body) != 1:
        return ""
    text = recordable_statement(tree.body[0], source)
    return text if len(text) <= MAX_TEXT else ""


def _installed(path: Path) -> Path | None:
    """Return a path relative to the folder of packages that it is in, `None` for the user's own."""
    places = [k for k, part in enumerate(path.parts) if part in INSTALLED]
    return Path(*path.parts[places[-1] + 1 :]) if places else None


def _package_of(frame: FrameType) -> str:
    """Return the package of a library's frame, `lightning` for each of its names."""
    name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return {"pytorch_lightning": "lightning", "lightning_fabric": "lightning"}.get(name, name)
