"""Which packages a place needs. Imports none of them: the script has not run yet."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.places.place_url import PlaceUrl

# What fsspec needs for a protocol: the package to install, and the module that shows it is there.
PACKAGES = {
    "s3": ("s3fs", "s3fs"),
    "s3a": ("s3fs", "s3fs"),
    "gs": ("gcsfs", "gcsfs"),
    "gcs": ("gcsfs", "gcsfs"),
    "az": ("adlfs", "adlfs"),
    "abfs": ("adlfs", "adlfs"),
    "abfss": ("adlfs", "adlfs"),
    "adl": ("adlfs", "adlfs"),
    "oss": ("ossfs", "ossfs"),
    "hf": ("huggingface_hub", "huggingface_hub"),
    "sftp": ("paramiko", "paramiko"),
    "ssh": ("paramiko", "paramiko"),
    "smb": ("smbprotocol", "smbclient"),
    "hdfs": ("pyarrow", "pyarrow"),
    "http": ("aiohttp", "aiohttp"),
    "https": ("aiohttp", "aiohttp"),
}
BUILT_IN = ("file", "local", "memory", "ftp")
_OF_ONE_PROCESS = ("memory",)


def require_packages(url: PlaceUrl) -> None:
    """Check that what the place needs is installed.

    Raises:
        SeismogradError: it is not, or nobody knows the protocol; with the command that installs it.
    """
    if find_spec("fsspec") is None:
        raise SeismogradError(
            say("{url} needs fsspec, which is not installed", url=url.shown),
            say("pip install 'seismograd[{extra}]'", extra="places"),
        )
    package, module = PACKAGES.get(url.protocol, ("", ""))
    if package and find_spec(module) is None:
        raise _missing(url, package)
    if not package and url.protocol not in BUILT_IN:
        _require_known(url)


def require_lasting(url: PlaceUrl) -> None:
    """Check that what one process writes there another one can read.

    Raises:
        SeismogradError: it is gone with its process.
    """
    if url.protocol in _OF_ONE_PROCESS:
        raise SeismogradError(
            say("{url} would be gone with the process that writes there", url=url.shown),
            say("give a directory, or the URL of another place"),
        )


def implementation_of(url: PlaceUrl) -> str:
    """Return the module and the class of a place that this program has registered with fsspec;
    empty for those that fsspec finds by itself in any process, and for classes of the script.
    """
    if url.protocol in PACKAGES or url.protocol in BUILT_IN or "fsspec" not in sys.modules:
        return ""
    registry: Any = import_module("fsspec.registry")
    found = registry.registry.get(url.protocol)
    if found is not None and found.__module__ != "__main__":
        return f"{found.__module__}.{found.__qualname__}"
    known = registry.known_implementations.get(url.protocol)
    return "" if known is None else str(known["class"])


def cannot_import(url: PlaceUrl, error: ImportError) -> SeismogradError:
    """Return the error about a place whose own package is missing."""
    package = PACKAGES.get(url.protocol, ("", ""))[0] or error.name
    if package:
        return _missing(url, package)
    return SeismogradError(
        say("{url} cannot be used: {reason}", url=url.shown, reason=url.without_secrets(str(error)))
    )


def _require_known(url: PlaceUrl) -> None:
    registry: Any = import_module("fsspec.registry")
    known = registry.known_implementations.get(url.protocol)
    if known is None and url.protocol not in registry.registry:
        raise SeismogradError(
            say(
                "{url}: fsspec knows no places that begin with {protocol}://",
                url=url.shown,
                protocol=url.protocol,
            ),
            say("for example s3://bucket/runs/first"),
        )
    module = "" if known is None else str(known["class"]).partition(".")[0]
    if module and find_spec(module) is None:
        raise _missing(url, module)


def _missing(url: PlaceUrl, package: str) -> SeismogradError:
    return SeismogradError(
        say("{url} needs {package}, which is not installed", url=url.shown, package=package),
        say("pip install {package}", package=package),
    )
