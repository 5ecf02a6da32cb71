"""The page follows a run that goes on, to its end or its death, and finds its server again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.record.processes import ENVIRONMENT, python_at_work
from tests.synthetic import make_parameters
from tests.views.page import made
from tests.views.page.browsing import NAN_COLOURS, Browsing

for package in ("starlette", "uvicorn", "sse_starlette"):
    pytest.importorskip(package, reason="the extra `view` is not installed")

pytestmark = pytest.mark.browser

Browse = Callable[..., Browsing]

TRAIN = """
import sys, time
from pathlib import Path
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while not Path(sys.argv[1]).exists():
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    time.sleep(0.02)
"""

RECORD = """
import itertools, sys, time
from pathlib import Path
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

writer = Writer(Path(sys.argv[1]), synthetic.info())
for iteration in itertools.count():
    writer.observe(endless_block(iteration, 1))
    print(iteration, flush=True)
    time.sleep(0.02)
"""


@contextmanager
def serving(path: Path, port: int = 0) -> Iterator[tuple[str, int]]:
    """A server of its own, and its address."""
    command = [
        sys.executable,
        "-m",
        "seismograd",
        "view",
        str(path),
        "--no-open",
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        command, env={**ENVIRONMENT, "LANGUAGE": "en"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)/\S+", process.stdout.readline())
            assert found
            yield found[0], int(found[1])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


def rows(page: Browsing) -> int:
    found = re.search(r"steps: ([\d,]+)", str(page.page.text_content("#bar")))
    return int(found[1].replace(",", "")) if found else 0


def wait_for_more(page: Browsing, than: int) -> int:
    page.page.wait_for_function(
        "than => Number((document.getElementById('bar').textContent.match(/steps: ([\\d,]+)/) ?? "
        "['', '0'])[1].replace(/,/g, '')) > than",
        arg=than,
    )
    return rows(page)


def test_the_page_follows_a_training_to_its_end(tmp_path: Path, browse: Browse) -> None:
    pytest.importorskip("torch")
    script, stop, run = tmp_path / "train.py", tmp_path / "stop", tmp_path / "runs" / "it"
    script.write_text(TRAIN, "utf-8")
    command = [
        sys.executable,
        "-m",
        "seismograd",
        "run",
        "--quiet",
        "-o",
        str(run),
        str(script),
        str(stop),
    ]
    with subprocess.Popen(command, env=ENVIRONMENT) as training:
        try:
            wait_until(
                lambda: (run / "meta.json").exists() and (run / "steps.bin").stat().st_size > 0
            )
            with serving(run) as (address, _):
                page = browse(address)
                seen = wait_for_more(page, 0)
                assert "live" in str(page.page.text_content("#state"))
                assert "token" not in page.page.url
                seen = wait_for_more(page, seen)
                stop.touch()
                page.page.wait_for_function(
                    "() => document.getElementById('state').textContent.includes('ended')"
                )
                assert training.wait(30) == 0
                page.wait_said("step")
                page.close()
        finally:
            training.kill()


def test_the_page_survives_the_death_of_a_run_and_of_its_server(
    tmp_path: Path, chromium: Any
) -> None:
    run = tmp_path / "run"
    with python_at_work(RECORD, run) as recording:
        assert recording.stdout is not None
        recording.stdout.readline()
        with serving(run) as (address, port):
            page = Browsing(chromium, address, 900, 700, "light")
            wait_for_more(page, 2)
            recording.kill()
            recording.wait()
            long_ago = time.time() - 600
            for file in run.rglob("*"):
                os.utime(file, (long_ago, long_ago))
            page.page.wait_for_function(
                "() => document.getElementById('state').textContent.includes('killed')"
            )
            before = rows(page)
        page.page.wait_for_selector("#trouble:not([hidden])")
        assert rows(page) == before
        with serving(run, port) as (address, _):
            page.page.wait_for_function(
                "() => document.getElementById('trouble').textContent.includes('was restarted')"
            )
            other = page.page.context.new_page()
            other.goto(address)
            page.page.wait_for_selector("#trouble[hidden]", state="attached")
            page.press("Home")
            page.wait_said("step 0")
        assert [
            problem
            for problem in page.problems
            if not problem.startswith("console: Failed to load resource")
        ] == []
        page.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("served")
    made.long(directory / "a_million", 10**6, spike=700_001, nan=300_003)
    made.troubled(directory / "b")
    made.troubled(directory / "c", 150)
    renamed = [f"body.{name}" for name in made.names()]
    made.simple(directory / "d", np.ones((90, 12)), parameters=make_parameters(names=renamed))
    made.hostile(directory / "<img src=x onerror=alert(3)>")
    with serving(directory) as (address, _):
        yield address


YELLOW = (253, 231, 37)  # the end of viridis, where the largest value is


@pytest.mark.parametrize(("step", "colour"), [(700_001, YELLOW), (300_003, NAN_COLOURS["light"])])
def test_a_spike_and_a_nan_of_one_step_in_a_million_are_seen_at_every_zoom(
    served: str, browse: Browse, step: int, colour: tuple[int, int, int]
) -> None:
    page = browse(f"{served}&run=1&step={step}")
    for _ in range(18):
        page.page.wait_for_function(
            "() => document.querySelector('#heat canvas').dataset.shows === "
            "document.body.dataset.window"
        )
        assert page.pixels("heat", colour) > 0
        page.press("]")
    page.wait_said(f"step {step}")
    assert (
        page.page.evaluate(
            "() => document.body.dataset.window.split('-').reduce((low, high) => high - low)"
        )
        < 50
    )


def test_the_list_of_runs_leads_to_each_and_to_a_comparison(served: str, browse: Browse) -> None:
    page = browse(served)
    page.page.wait_for_selector("#runs table a")
    assert page.page.locator("#runs table a").count() == 5
    assert page.page.locator("img").count() == 0
    button = page.page.locator("#runs .compare button")
    assert button.is_disabled()
    for name in ("c", "b"):
        page.page.get_by_label(f"compare {name}", exact=True).check()
    button.click()
    page.page.wait_for_function(
        "() => document.getElementById('bar').textContent.includes('compared with b')"
    )
    page.ready()
    page.wait_pixels("heat")
    assert "divided" in str(page.page.text_content("#heat header"))
    assert "compared with b" in str(page.page.text_content("#other-verdict"))


def test_runs_without_a_common_name_are_compared_by_order_and_shape(
    served: str, browse: Browse
) -> None:
    page = browse(f"{served}&run=2&with=4")
    page.page.wait_for_function(
        "() => document.querySelector('#heat header').textContent.includes('by order and shape (12)')"
    )
    page.page.wait_for_selector("#other-verdict")
    page.page.wait_for_function(
        "() => document.querySelector('#profile .body').textContent.includes('○ d')"
    )


def wait_until(there: Callable[[], bool], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)
