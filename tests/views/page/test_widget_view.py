"""The views of a widget in a browser: they grow, tell what is under the pointer, go to a finding,
and do not get into each other's way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seismograd.record.reader import open_run
from seismograd.views.widget.widget_answers import widget_answers
from tests.synthetic import block, write_run
from tests.views.page import made
from tests.views.page.widget_harness import Notebook, write_notebook

pytestmark = pytest.mark.browser

Open = Callable[..., Notebook]
LIGHT, DARK = "rgb(245, 246, 248)", "rgb(16, 19, 24)"
NUM_STEPS = 100


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Of a run that goes on, and of a longer one that has ended."""
    folder = tmp_path_factory.mktemp("widget")
    going_on = write_run(folder / "live", [block([[0.5, 0.25]] * 40)], ended=False)
    ended = made.troubled(folder / "ended", NUM_STEPS)
    return widget_answers(open_run(going_on), True), widget_answers(open_run(ended), False)


@pytest.fixture
def notebook(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page; at the end there must have been no error and no request."""
    opened: list[Notebook] = []

    def open_page(**options: Any) -> Notebook:
        theme = options.get("theme", "light")
        path = write_notebook(tmp_path / f"{len(opened)}.html", **options)
        opened.append(Notebook(chromium, path, theme))
        return opened[-1]

    yield open_page
    for each in opened:
        each.close()
        assert each.problems == []


def background(page: Notebook, index: int = 0) -> str:
    script = "each => getComputedStyle(each).getPropertyValue('background-color')"
    return str(page.view(index).locator(".widget").evaluate(script))


def test_it_grows_and_tells_what_is_under_the_pointer_and_where_a_finding_is(
    notebook: Open, answers: tuple[bytes, bytes]
) -> None:
    page = notebook()
    page.show()
    view = page.view()
    view.get_by_text("Nothing has been recorded yet.").wait_for()
    assert view.locator("#trouble").is_hidden()
    page.push(answers[0])
    page.wait_steps(40)
    assert "live" in view.locator("#state").text_content()
    assert page.nan_pixels("heat") == 0
    page.push(answers[1])
    page.wait_steps(NUM_STEPS)
    assert "ended" in view.locator("#state").text_content()
    page.wait_nan_pixels("heat", 50)
    page.wait_nan_pixels("scalars", 20)  # the mark above the gap: it is not left out
    canvas = view.locator("#heat .canvas").first
    box = canvas.bounding_box()
    # net.0.weight is the last row, and its NaN in the middle of column 60
    inner = box["width"] - 170 - 64
    page.page.mouse.move(
        box["x"] + 170 + inner * (made.BAD_STEP + 0.5) / NUM_STEPS, box["y"] + box["height"] - 26
    )
    assert (
        view.locator("#heat .tip").inner_text() == f"net.0.weight\nstep {made.BAD_STEP}\nnon-finite"
    )
    page.page.mouse.move(box["x"] + 170 + inner * 0.905, box["y"] + box["height"] - 26)
    name, step, value = view.locator("#heat .tip").inner_text().split("\n")
    assert (name, step) == ("net.0.weight", "step 90")
    assert 0 < float(value) < 0.1
    view.locator(".card button", has_text="SG103").click()
    view.locator("#say", has_text=re.compile(f"^step {made.SPIKE_STEP} ·")).wait_for()
    view.locator(".card button", has_text="SG201").click()
    view.locator("#say", has_text=re.compile(f"^step {made.BAD_STEP} ·.*non-finite")).wait_for()


def test_several_views_have_a_cursor_a_language_and_colours_of_their_own(
    notebook: Open, answers: tuple[bytes, bytes]
) -> None:
    page = notebook()
    page.push(answers[1])  # as in a notebook that was opened without a kernel
    page.show()
    page.show(is_late=True)
    for index in range(2):
        page.wait_steps(NUM_STEPS, index)
    first, second = page.view(0), page.view(1)
    for index in range(2):
        page.wait_nan_pixels("heat", 50, index)
        page.wait_nan_pixels("scalars", 20, index)
    before = second.locator("#say").text_content()
    first.locator(".card button", has_text="SG103").click()
    first.locator("#say", has_text=re.compile(f"^step {made.SPIKE_STEP} ·")).wait_for()
    assert second.locator("#say").text_content() == before
    second.locator("[data-name=language]").click()
    second.locator("[data-name=language]", has_text="English").wait_for()
    second.locator("[data-name=theme]").click()
    assert "Is training healthy?" in first.locator("#findings").text_content()
    assert "Is training healthy?" not in second.locator("#findings").text_content()
    assert (background(page, 0), background(page, 1)) == (LIGHT, DARK)
    assert page.page.evaluate("() => window.listening()") == 2
    page.page.evaluate("() => window.ends[1]()")
    assert page.page.evaluate("() => window.listening()") == 1
    page.push(answers[0])  # what is run again: its widget begins anew
    page.wait_steps(40, 0)


def test_it_takes_the_colours_and_the_language_of_the_notebook_and_keeps_its_keys(
    notebook: Open, answers: tuple[bytes, bytes]
) -> None:
    page = notebook(theme="dark", lang="zh", width=460)
    page.push(answers[1])
    page.show()
    page.wait_steps(NUM_STEPS)
    page.wait_nan_pixels("heat", 50)
    all_rows = page.nan_pixels("heat")
    assert background(page) == DARK
    assert "Is training healthy?" not in page.view().text_content()
    page.wait_nan_pixels("heat", 50)
    page.page.evaluate(
        "() => { window.keys = 0; document.addEventListener('keydown', () => { window.keys += 1; });"
        "document.body.style.background = '#ffffff'; }"
    )
    page.view().locator("#filter").press_sequentially("net.0")
    page.view().locator("#listed", has_text="2 / 12").wait_for()
    assert page.page.evaluate("() => window.keys") == 0  # `d`, `d` deletes a cell
    page.page.wait_for_function(
        "() => document.querySelector('.seismograd-widget').dataset.theme === 'light'"
    )
    # a long notebook takes out what is out of sight
    page.page.evaluate(
        "() => { window.cell = document.querySelector('.cell'); window.cell.remove();"
        "document.body.style.background = '#111318'; }"
    )
    page.push(answers[0])
    page.page.evaluate("() => setTimeout(() => document.getElementById('cells').append(cell), 50)")
    page.wait_steps(40)
    page.push(answers[1])
    page.wait_steps(NUM_STEPS)
    page.page.wait_for_function(
        "() => document.querySelector('.seismograd-widget').dataset.theme === 'dark'"
    )
    assert background(page) == DARK
    page.view().locator("#filter").fill("")
    page.view().locator("#listed", has_text="12 / 12").wait_for()
    page.wait_nan_pixels("heat", all_rows)
