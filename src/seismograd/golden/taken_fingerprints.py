"""Fingerprints on their way from the runs of pytest to `seismograd pin`, which starts them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.golden.comparison import Pinned
from seismograd.golden.differences import QUANTITIES, measure_allowed
from seismograd.golden.fingerprint import Fingerprint
from seismograd.golden.golden_file import read_golden, write_golden
from seismograd.i18n import say
from seismograd.record import strict_json


@dataclass(frozen=True, slots=True, eq=False)
class TakenFingerprint:
    """The fingerprint of a test, and the file that it is to be pinned in."""

    golden: Path
    test: str
    fingerprint: Fingerprint


def keep_fingerprint(directory: Path, taken: TakenFingerprint) -> None:
    """Write it into the directory, under a name that is the same in each run of the test."""
    name = hashlib.sha256(taken.test.encode()).hexdigest()[:16]
    nothing = {each.name: np.zeros(taken.fingerprint.states.shape) for each in QUANTITIES}
    write_golden(directory / f"{name}.json", Pinned(taken.fingerprint, nothing))
    about = {"golden": str(taken.golden), "test": taken.test}
    (directory / f"{name}.about").write_bytes(strict_json.dumps(about))


def kept_fingerprints(directory: Path) -> list[TakenFingerprint]:
    """Return all of a directory, by test.

    Raises:
        SeismogradError: two tests pin the same file.
    """
    found: list[TakenFingerprint] = []
    for path in sorted(directory.glob("*.about")):
        about = strict_json.loads(path.read_bytes())
        fingerprint = read_golden(path.with_suffix(".json")).fingerprint
        found.append(TakenFingerprint(Path(about["golden"]), about["test"], fingerprint))
    by_file: dict[Path, str] = {}
    for each in found:
        other = by_file.setdefault(each.golden, each.test)
        if other != each.test:
            raise SeismogradError(
                say(
                    "{one} and {other} pin the same file, {path}",
                    one=other,
                    other=each.test,
                    path=str(each.golden),
                ),
                say("give each test a file of its own"),
            )
    return sorted(found, key=lambda each: each.test)


def pin(taken: TakenFingerprint, perturbed: Sequence[TakenFingerprint]) -> Pinned:
    """Write the file of a test, with what is allowed as measured in its perturbed runs.

    Raises:
        SeismogradError: a run trained other parameters or made no such run.
    """
    own = [each.fingerprint for each in perturbed if each.test == taken.test]
    names = [p.name for p in taken.fingerprint.parameters]
    if not own or any([p.name for p in each.parameters] != names for each in own):
        raise SeismogradError(
            say("{test} does not train the same parameters each time", test=taken.test),
            say("seed what is random in it"),
        )
    pinned = Pinned(taken.fingerprint, measure_allowed(taken.fingerprint, own))
    write_golden(taken.golden, pinned)
    return pinned
