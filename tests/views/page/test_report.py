"""The report as a page: it opens from disk, alone, and shows what there is, however little or
bad that is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seismograd.i18n import say
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.views.page_api.run_source import open_source
from seismograd.views.report.report_formats import write_report
from tests.synthetic import block, info, note, write_run
from tests.views.page import made
from tests.views.page.browsing import Browsing
from tests.views.test_module_signals import NAMES, layered
from tests.views.test_unit_pictures import keep, weights

pytestmark = pytest.mark.browser

Browse = Callable[..., Browsing]


def report(run: Path) -> Path:
    path = run.with_suffix(".html")
    write_report(open_source(open_run(run)), path)
    return path


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(made.troubled(tmp_path_factory.mktemp("report") / "troubled"))


RUNS: dict[str, Callable[[Path], Path]] = {
    "empty": lambda path: write_run(path, []),
    "one step": lambda path: made.simple(path, [[1.0, 0.5, 0.2, 3.0]]),
    "one parameter": lambda path: made.simple(path, np.ones((40, 1))),
    "all NaN": lambda path: made.simple(path, np.full((40, 4), np.nan), loss=np.nan),
    "without parameters": lambda path: write_run(path, [block(np.empty((3, 0)))]),
    "hostile": made.hostile,
}


def test_it_shows_where_a_training_went_on(tmp_path: Path, browse: Browse) -> None:
    resumed = note(kind="resumed", iteration=20, message=say("resumed from step {step}", step=20))
    page = browse(
        report(write_run(tmp_path / "run", [block(np.ones((40, 4)))], notes=[resumed])), width=900
    )
    shown = str(page.page.text_content("body"))
    assert "resumed from a checkpoint" in shown
    assert "resumed from step 20" in shown
    assert page.problems == []


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_a_page_without_an_error(name: str, tmp_path: Path, browse: Browse) -> None:
    page = browse(report(RUNS[name](tmp_path / "run")), width=700)
    page.press(
        "d",
        "l",
        "t",
        "t",
        "s",
        "g",
        "c",
        "ArrowLeft",
        "ArrowUp",
        "]",
        "[",
        "0",
        "n",
        "End",
        "?",
        "Escape",
    )
    page.ready()
    assert page.page.locator("#verdict").count() == 1
    assert page.page.locator("img, b").count() == 0


def test_a_nan_is_seen_in_every_panel_and_in_the_table(troubled: Path, browse: Browse) -> None:
    for theme in ("light", "dark"):
        page = browse(troubled, theme=theme)
        page.wait_said(f"step {made.BAD_STEP}")
        for panel in ("heat", "profile", "scalars", "spread", "parameter", "lanes"):
            page.wait_pixels(panel)
    page.press("c")  # each parameter by its own median
    page.page.wait_for_function(
        "() => document.querySelector('#heat header').textContent.includes('median')"
    )
    page.wait_pixels("heat")
    page.press("t")
    page.page.wait_for_selector("#heat td.nonfinite")
    assert "since the previous call" in str(page.page.text_content("#lanes .scroll"))
    assert "non-finite" in str(page.page.text_content("#heat .scroll"))
    assert page.page.locator("#parameter td.nonfinite, #heat td.nonfinite").count() > 0


def test_a_heat_map_that_a_report_lacks_is_said_to_be_missing(
    troubled: Path, browse: Browse
) -> None:
    page = browse(troubled)
    page.wait_pixels("heat")
    page.page.select_option("#heat [data-name=which]", "low")
    page.page.select_option("#heat [data-name=statistic]", "applied_norm")
    page.page.wait_for_function("() => !document.querySelector('#heat canvas').dataset.shows")
    assert page.pixels("heat") == 0
    page.press("s", "c", "ArrowDown", "t", "t")
    page.page.select_option("#heat [data-name=which]", "high")
    page.wait_pixels("heat")


def test_the_cursor_links_everything(troubled: Path, browse: Browse) -> None:
    page = browse(troubled)
    page.press("End")
    page.wait_said("step 99")
    assert "step 99" in str(page.page.text_content("#profile header"))
    page.press("Home")
    page.wait_said("step 0 · ")
    page.page.click("#heat canvas", position={"x": 60, "y": 16})  # a name beside the picture
    page.wait_said("net.5.bias")
    page.press("ArrowDown")
    page.wait_said("step 0 · ")
    page.wait_said("net.5.weight")
    assert "net.5.weight" in str(page.page.text_content("#parameter header"))
    page.press("n")  # the first finding behind this step
    page.page.wait_for_function(
        "() => !document.getElementById('say').textContent.startsWith('step 0 ')"
    )
    page.press("Home")
    page.wait_said("step 0 · ")
    page.page.click("#heat canvas", position={"x": 500, "y": 100})
    page.page.wait_for_function(
        "() => !document.getElementById('say').textContent.startsWith('step 0 ')"
    )


def test_parameters_are_filtered_sorted_and_grouped(troubled: Path, browse: Browse) -> None:
    page = browse(troubled)
    listed = page.page.locator("#listed")
    page.press("/")
    page.page.keyboard.type("net.[0].* net.3.bias")
    page.press("Escape")
    page.page.wait_for_function(
        "() => document.getElementById('listed').textContent.startsWith('parameters: 3 of 12')"
    )
    page.page.fill("#filter", "/net\\.[0-4]\\.weight$/")
    page.page.wait_for_function(
        "() => document.getElementById('listed').textContent.startsWith('parameters: 5 of 12')"
    )
    page.page.fill("#filter", "")
    page.page.select_option("select[data-name=group]", "2")
    page.page.wait_for_function(
        "() => document.querySelector('#heat canvas').getAttribute('aria-label')"
        ".includes('rows: 6')"
    )
    page.page.select_option("select[data-name=group]", "0")
    page.page.select_option("select[data-name=sort]", "trouble")
    page.page.click("#heat [data-name=table]")
    page.page.wait_for_selector("#heat tbody tr")
    assert page.page.locator("#heat tbody tr").count() == 12
    assert "net.2.weight" in str(page.page.locator("#heat tbody tr").first.text_content())
    assert str(listed.text_content()).startswith("parameters: 12 of 12")


def test_both_languages_are_in_one_file(troubled: Path, browse: Browse) -> None:
    page = browse(troubled)
    page.press("l")
    page.page.wait_for_function("() => document.documentElement.lang === 'zh'")
    assert "错误" in str(page.page.text_content("#findings"))
    page.press("l")
    page.page.wait_for_function("() => document.documentElement.lang === 'en'")
    assert "error" in str(page.page.text_content("#findings"))


@pytest.mark.parametrize("width", [360, 2400])
def test_nothing_sticks_out_of_a_narrow_or_a_wide_window(
    troubled: Path, browse: Browse, width: int
) -> None:
    page = browse(troubled, width=width)
    assert page.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.press("t")
    assert page.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_a_table_is_copied_as_csv_that_no_spreadsheet_takes_for_a_formula(
    tmp_path: Path, browse: Browse
) -> None:
    page = browse(report(made.hostile(tmp_path / "run")))
    page.page.evaluate(
        "() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }"
    )
    page.page.select_option("select[data-name=kind]", "all")
    page.page.click("#heat [data-name=table]")
    page.page.click("#heat [data-name=copy]")
    page.page.wait_for_function("() => window.copied")
    lines = str(page.page.evaluate("() => window.copied")).splitlines()
    assert len(lines) == 5
    assert any(line.startswith("'=cmd") for line in lines)
    assert any("nan" in line for line in lines)


def test_a_thousand_parameters_are_drawn_and_print_without_the_controls(
    tmp_path: Path, browse: Browse
) -> None:
    page = browse(report(made.large(tmp_path / "run", 1000, 60)), width=1400)
    page.page.select_option("select[data-name=kind]", "all")
    page.page.wait_for_function(
        "() => document.getElementById('listed').textContent.startsWith('parameters: 1000 of 1000')"
    )
    assert page.pixels("heat") == 0
    page.page.emulate_media(media="print")
    assert not page.page.is_visible("#filters")
    assert page.page.is_visible("#heat canvas")


def test_what_was_damaged_is_said(tmp_path: Path, chromium: object) -> None:
    path = report(made.simple(tmp_path / "run", np.ones((10, 2))))
    text = path.read_text("utf-8")
    at = text.index('id="data">') + 200
    path.write_text(text[:at] + text[at + 400 :], "utf-8")
    page = chromium.new_page()  # type: ignore[attr-defined]
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("#trouble:not([hidden])")
    assert "cannot be read" in str(page.text_content("#trouble"))
    page.close()


def test_the_seismogram_is_the_first_picture_and_leads_to_a_layer(
    troubled: Path, browse: Browse
) -> None:
    page = browse(troubled)
    page.page.wait_for_selector("#seismogram svg rect.lost")  # the step that was NaN
    first = page.page.locator("main > section").first
    assert first.get_attribute("id") == "seismogram"
    channels = page.page.locator("#seismogram g[data-column]")
    assert channels.count() == made.NUM_LAYERS
    label = channels.last.locator(".name")
    name = str(label.text_content()).split(" ")[0]
    label.click()
    page.wait_said(f"{name}.")
    assert page.problems == []


def test_a_finding_unfolds_into_what_its_rule_looks_for(troubled: Path, browse: Browse) -> None:
    page = browse(troubled)
    folded = page.page.locator("details.explained").first
    assert not folded.locator("h4").first.is_visible()
    folded.locator("summary").click()
    assert "What it finds" in str(folded.locator("h4").first.text_content())
    assert folded.locator("h4").first.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signals_of_modules_are_drawn_where_they_were_sampled(
    tmp_path: Path, browse: Browse, theme: str
) -> None:
    batch = layered(4)
    batch.values[2, NAMES.index("signal_rms")] = np.nan
    writer = Writer(tmp_path / "run", info())
    writer.sampled(batch)
    writer.observe(block(np.ones((6, 2))))
    writer.close()
    page = browse(report(tmp_path / "run"), theme=theme)
    panel = page.page.locator("#signals")
    panel.locator("td", has_text="net.9").wait_for()
    assert "closest to step 5" in panel.locator("header").inner_text()
    assert panel.locator("tbody tr").nth(2).locator("td.nonfinite").inner_text() == "nan"
    assert page.pixels("signals") > 0


def test_a_run_without_samples_has_no_panel_for_them(troubled: Path, browse: Browse) -> None:
    assert browse(troubled).page.locator("#signals").is_hidden()


def test_the_gradient_of_a_unit_is_a_picture(tmp_path: Path, browse: Browse) -> None:
    run = write_run(tmp_path / "run", [block(np.ones((9, 2)), parameters=weights((5, 64), (3, 5)))])
    gradient = np.arange(5 * 64.0).reshape(5, 64)
    gradient[0] = np.nan
    keep(run, 4, **{"net.0.weight": gradient})
    page = browse(report(run))
    page.page.wait_for_selector("#pictures .units button")
    assert "net.0.weight · snapshot of step 4" in str(page.page.text_content("#pictures header"))
    page.wait_pixels("pictures")  # the unit that is not finite is the first
    page.page.click("#pictures [data-unit='3']")
    page.page.wait_for_function(
        "() => document.querySelector('#pictures figcaption').textContent.startsWith('unit 3')"
    )
    page.press("t")  # the tables are filled soon, and not at once
    page.page.wait_for_selector("#pictures tbody tr")
    assert page.page.locator("#pictures tbody tr").count() == 5
    assert "NaN/Inf" in str(page.page.text_content("#pictures tbody tr"))


def test_a_run_without_snapshots_has_no_pictures(troubled: Path, browse: Browse) -> None:
    assert not browse(troubled).page.is_visible("#pictures")
