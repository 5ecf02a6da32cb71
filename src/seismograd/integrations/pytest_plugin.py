"""The pytest plug-in: a fixture `gradients` that watches a training in a test, and a marker that
compares its gradients with pinned ones.

pytest loads it wherever seismograd is installed, so it imports nothing: neither torch nor NumPy is
there before a test asks for the fixture, and a test that does not is left alone.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

MARKER = "gradients"
RECORD_TO, ULP = "--gradients-to", "--gradients-ulp"  # what `seismograd pin` runs pytest with


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `seismograd pin`."""
    group = parser.getgroup("seismograd", "pinned gradients (used by `seismograd pin`)")
    group.addoption(
        RECORD_TO, metavar="DIR", default=None, help="write fingerprints there, compare nothing"
    )
    group.addoption(
        ULP,
        metavar="SEED",
        type=int,
        default=0,
        help="change what modules are given and return by an ulp (0: do not)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f'{MARKER}(golden="FILE.json", steps=5): the gradients of the first steps of the training '
        "that the test watches with the fixture `gradients` are those pinned in the file, beside "
        "the test; `seismograd pin` writes it",
    )


@pytest.fixture
def gradients(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Any, None, None]:
    """Watch a training: `with gradients(model, optimizer): train()`; afterwards `gradients.run` is
    its record and `gradients.findings` what is wrong with it.
    """
    from seismograd.integrations.watched_test import WatchedTest

    directory = tmp_path_factory.mktemp("gradients")
    watched = WatchedTest(directory / "run", request.config.getoption(ULP, 0) or 0)
    yield watched
    watched.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Compare, once a marked test has passed: what differs fails the test itself."""
    outcome = yield
    marker = item.get_closest_marker(MARKER)
    # A marker of this name without a golden is somebody else's.
    if marker is not None and "golden" in marker.kwargs:
        from seismograd.integrations.watched_test import problem_of

        watched = getattr(item, "funcargs", {}).get(MARKER)
        problem = problem_of(item, watched, marker.kwargs, item.config.getoption(RECORD_TO))
        if problem:
            pytest.fail(problem, pytrace=False)
    return outcome
