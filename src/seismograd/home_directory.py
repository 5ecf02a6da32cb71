"""The home directory of whoever runs the process: a record that is sent to others does not name
it.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path


def _homes() -> tuple[Path, ...]:
    """Return the home directory by each of its names; none of a user who has none but `/`."""
    names = [os.path.expanduser("~")]  # noqa: PTH111  it does not raise without one
    with suppress(ImportError, KeyError):
        import pwd

        names.append(pwd.getpwuid(os.getuid()).pw_dir)
    paths = {Path(name) for name in names if Path(name).is_absolute()}
    paths |= {Path(os.path.realpath(path)) for path in paths}
    return tuple(path for path in sorted(paths, reverse=True) if path != Path(path.anchor))


HOMES = _homes()
_NAMES = {
    json.dumps(str(home), ensure_ascii=escaped)[1:-1] for home in HOMES for escaped in (False, True)
}
_NEEDLES = tuple(name.encode(errors="surrogateescape") for name in sorted(_NAMES, reverse=True))
_HOME = re.compile(rb"(?<![\w.~-])(?:" + b"|".join(map(re.escape, _NEEDLES)) + rb")(?![\w.-])")


def without_home(encoded: bytes) -> bytes:
    """Return JSON in which `~` stands for the home directory."""
    if not any(needle in encoded for needle in _NEEDLES):
        return encoded
    return _HOME.sub(b"~", encoded)
