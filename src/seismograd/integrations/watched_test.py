"""The training that a test watches, and the comparison of its gradients with pinned ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seismograd.api import watch
from seismograd.errors import SeismogradError
from seismograd.golden.comparison import differing
from seismograd.golden.fingerprint import fingerprint_of
from seismograd.golden.golden_file import read_golden
from seismograd.golden.taken_fingerprints import TakenFingerprint, keep_fingerprint
from seismograd.i18n import say
from seismograd.integrations.ulp_perturbation import UlpPerturbation
from seismograd.record.reader import Run, open_run
from seismograd.schema import Finding
from seismograd.views.values import short_path

if TYPE_CHECKING:
    import pytest

    from seismograd.recording import Recording

STEPS = 5
_KEYS = ("golden", "steps")


class WatchedTest:
    """What the fixture `gradients` gives: call it with the models and optimizers of the training,
    as `seismograd.watch`.

    Args:
        path: where the record goes.
        ulp_seed: perturb what modules are given and return by an ulp; 0: do not.
    """

    def __init__(self, path: Path, ulp_seed: int = 0) -> None:
        self._path, self._ulp_seed = path, ulp_seed
        self._perturbation: UlpPerturbation | None = None
        self.recording: Recording | None = None

    def __call__(self, *watched: Any, **options: Any) -> Recording:
        """Begin to record; leave the `with` block, or end the test, to finish.

        Raises:
            SeismogradError: an option is not well formed, or the test records already.
        """
        if self.recording is not None:
            raise SeismogradError(say("a test watches one training"))
        options.setdefault("quiet", True)
        self.recording = watch(*watched, out=self._path, **options)
        if self._ulp_seed:
            self._perturbation = UlpPerturbation(self._ulp_seed)
        return self.recording

    @property
    def run(self) -> Run:
        """Return the record, which it finishes.

        Raises:
            SeismogradError: the test has watched no step.
        """
        self.close()
        if self.recording is None:
            raise SeismogradError(
                say("the test watches no training"),
                say("write: with gradients(model, optimizer): …"),
            )
        return open_run(self._path)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return what the rules have found, once the record is finished."""
        return self.run.findings

    def close(self) -> None:
        """Finish the record. A second call does nothing."""
        if self._perturbation is not None:
            self._perturbation.remove()
            self._perturbation = None
        if self.recording is not None:
            self.recording.close()


def problem_of(
    item: pytest.Item,
    watched: object,
    marked: Mapping[str, Any],
    record_to: str | None,
) -> str:
    """Return why the gradients of a test that has passed are not those that it has pinned; nothing
    where they are. With `record_to` keep their fingerprint there instead.
    """
    try:
        return "\n".join(_problem(item, watched, marked, record_to))
    except SeismogradError as error:
        return error.line()


def _problem(
    item: pytest.Item, watched: object, marked: Mapping[str, Any], record_to: str | None
) -> Iterator[str]:
    unknown = sorted(set(marked) - set(_KEYS))
    steps = marked.get("steps", STEPS)
    if unknown or type(steps) is not int or steps < 1:
        raise SeismogradError(
            say("the marker takes golden, a file, and steps, a number from 1 on"),
            say('write: @pytest.mark.gradients(golden="small.json", steps=5)'),
        )
    if not isinstance(watched, WatchedTest):
        raise SeismogradError(
            say("the test does not use the fixture gradients"),
            say("write: with gradients(model, optimizer): …"),
        )
    path = item.path.parent / str(marked["golden"])
    run = watched.run
    if record_to is not None:
        taken = TakenFingerprint(path, item.nodeid, fingerprint_of(run, steps))
        keep_fingerprint(Path(record_to), taken)
        return
    pinned = read_golden(path)
    found = fingerprint_of(run, pinned.fingerprint.num_steps)
    said = [message.render() for message in differing(pinned, found)]
    if not said:
        return
    yield say(
        "the gradients are not those that are pinned in {path}", path=short_path(path)
    ).render()
    yield from (f"  {line}" for line in said)
    then, now = pinned.fingerprint.torch_version, found.torch_version
    yield "  " + (
        say("pinned with torch {then}, this is {now}", then=then, now=now).render()
        if then != now
        else say("pinned with the same torch, {now}", now=now).render()
    )
    yield (
        "  "
        + say(
            "record: {run}; if the change is meant: seismograd pin {test}",
            run=str(run.path),
            test=item.nodeid,
        ).render()
    )
