"""A page shows the numbers of its run, on the terminal and in files that need nothing else."""

from __future__ import annotations

import importlib.util
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from seismograd.cli import main
from seismograd.errors import SeismogradError
from seismograd.i18n import say, use_language
from seismograd.lab.drawing import (
    chart_svg,
    figures_svg,
    page_html,
    page_output,
    page_terminal,
    picture_svg,
)
from seismograd.lab.drawing.chart_axes import Axis, axes
from seismograd.lab.experiments import EXPERIMENTS, find_experiment
from seismograd.lab.lab_page import (
    Chart,
    ChartSeries,
    CodeBlock,
    Heading,
    Page,
    PageTable,
    Panel,
    Paragraph,
    Picture,
)
from seismograd.views.text_layout import cell_width

numbers = st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e-300])


def page(charts: tuple[Chart | Picture, ...] = ()) -> Page:
    return Page(
        say("A title <with> marks"),
        (
            Heading(say("A section")),
            CodeBlock("a < b"),
            Paragraph(say("{count} scalars & more", count=3)),
            PageTable((say("name"), "n"), (("a<b", "1"),)),
            *charts,
        ),
        say("One sentence."),
        ((say("Do:"), "seismograd lab chain"),),
    )


@st.composite
def charts(draw: st.DrawFn) -> Chart:
    log, count = draw(st.booleans()), draw(st.integers(1, 6))
    values = st.lists(numbers, min_size=count, max_size=count)
    if draw(st.booleans()):
        return Chart(
            say("bars"),
            "x",
            (ChartSeries("one", range(count), draw(values)),),
            "bars",
            log,
            tuple(f"label {i}" for i in range(count)),
        )
    xs = sorted(draw(st.lists(st.floats(-1e6, 1e6), min_size=count, max_size=count)))
    return Chart(
        say("lines"),
        "x",
        tuple(ChartSeries(f"s{i}", xs, draw(values)) for i in range(draw(st.integers(1, 3)))),
        "lines",
        log,
    )


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    columns = draw(st.integers(1, 9))
    row = st.lists(numbers, min_size=columns, max_size=columns)
    panel = st.builds(Panel, st.text("ab<&é字", max_size=5), st.lists(row, min_size=1, max_size=4))
    return Picture(say("picture"), draw(st.lists(panel, min_size=1, max_size=3)))


class Tags(HTMLParser):
    """Every tag, and whether those that must be closed are."""

    VOID = frozenset({"meta", "path", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@given(st.lists(charts() | pictures(), max_size=2).map(tuple))
def test_every_figure_can_be_drawn_whatever_its_numbers(
    drawn: tuple[Chart | Picture, ...],
) -> None:
    shown = page(drawn)
    content = page_html.render(shown)
    tags = Tags()
    tags.feed(content)
    assert tags.open == []
    assert tags.links == []
    assert "script" not in tags.seen
    assert "A title &lt;with&gt; marks" in content
    ET.fromstring(figures_svg.stack(list(drawn)))
    console = Console(width=100, file=None, record=True, quiet=False)
    with console.capture() as captured:
        console.print(page_terminal.render(shown))
    assert "3 scalars & more" in captured.get()
    assert not re.search(r"=\"-?(nan|inf)", figures_svg.stack(list(drawn)))


@pytest.mark.parametrize("long", [3, 12, 25, 60])
def test_names_of_lines_lie_beside_or_below_each_other(long: int) -> None:
    names = [f"{at}{'x' * (long - 1)}" for at in range(5)]
    series = tuple(ChartSeries(name, (0.0, 1.0), (1.0, 2.0)) for name in names)
    drawing = ET.fromstring(chart_svg.draw(Chart(say("title"), "x", series)))
    end: dict[str, float] = {}
    for text in drawing.iter("{http://www.w3.org/2000/svg}text"):
        said = "".join(text.itertext())
        if said.startswith("— "):
            assert float(text.attrib["x"]) >= end.get(text.attrib["y"], 0.0)
            end[text.attrib["y"]] = float(text.attrib["x"]) + 7 * len(said)
    assert max(end.values()) <= chart_svg.WIDTH
    assert max(map(float, end)) < float(drawing.attrib["height"])


@pytest.mark.parametrize("width", [60, 80])
def test_a_page_is_no_wider_than_the_terminal(width: int) -> None:
    shown = page(
        (
            Chart(
                say("a title that is longer than the terminal is wide " * 2),
                "x",
                tuple(
                    ChartSeries(f"a series with a name, {number}", [1.0, 9.0], [0.1, 5.0])
                    for number in range(4)
                ),
            ),
        )
    )
    console = Console(width=width)
    with console.capture() as captured:
        console.print(page_terminal.render(shown))
    lines = captured.get().splitlines()
    assert max(map(cell_width, lines)) <= width
    assert all(any(f"name, {number}" in line for line in lines) for number in range(4))


@given(st.floats(1e-12, 1e12), st.floats(1e-12, 1e12), st.booleans())
def test_the_marks_of_an_axis_lie_on_it_in_order(a: float, b: float, log: bool) -> None:
    low, high = sorted((a, b))
    if high <= low * (1 + 1e-6):
        high = low * 2
    axis = Axis(low, high, log)
    positions = [axis.position(value) for value, _ in axis.marks()]
    assert all(position is not None and -1e-6 <= position <= 1 + 1e-6 for position in positions)
    assert positions == sorted(positions, key=lambda position: position or 0.0)
    assert axis.position(low) == pytest.approx(0, abs=1e-9)
    assert axis.position(high) == pytest.approx(1)


def test_a_chart_without_any_usable_number_has_axes() -> None:
    across, up = axes(Chart(say("empty"), "x", (ChartSeries("s", [1.0], [math.nan]),), log=True))
    assert across.position(1.0) is not None
    assert up.position(math.nan) is None


@pytest.mark.parametrize("name", [e.name for e in EXPERIMENTS])
def test_a_page_shows_its_own_numbers_in_every_form(name: str, tmp_path: Path) -> None:
    shown = find_experiment(name).run()
    console = Console(width=120)
    with console.capture() as captured:
        console.print(page_terminal.render(shown))
    known = {
        "gradients": "200,704",
        "chain": "13,78",
        "accumulation": "4.0000",
        "zero-grad": "8,396,800",
        "losses": "no gradient",
        "clipping": "0.5000",
        "norm": "1.05",
    }
    assert known[name] in captured.get()
    for suffix in (".html", ".svg"):
        page_output.write(shown, tmp_path / f"x{suffix}")
    assert (tmp_path / "x.html").read_text(encoding="utf-8").count("<svg") == sum(
        isinstance(block, Chart | Picture) for block in shown.blocks
    )
    ET.parse(tmp_path / "x.svg")
    assert shown.following
    # Pictures fit a phone, and what is to be remembered stands at the end.
    content = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "svg { max-width: 100%" in content
    assert content.index("<strong>") > content.index("<svg") or "<svg" not in content


def test_the_command_lists_and_writes_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["--lang", "en", "lab"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == [e.name for e in EXPERIMENTS]
    assert main(["--lang", "en", "lab", "accumulation", "--out", str(tmp_path / "x.html")]) == 0
    assert 'lang="en"' in (tmp_path / "x.html").read_text(encoding="utf-8")
    for arguments, words in (
        (["lab", "nothing"], "unknown experiment"),
        (["lab", "chain", "--out", "x.pdf"], ".svg"),
        (["lab", "chain", "--out", str(tmp_path / "nowhere" / "x.svg")], "nowhere does not exist"),
    ):
        assert main(["--lang", "en", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_without_matplotlib_a_png_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SeismogradError) as raised:
        page_output.check(Path("x.png"))
    assert "pip install matplotlib" in raised.value.line()


def test_with_matplotlib_a_png_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chart = Chart(say("lines"), "x", (ChartSeries("s", [1, 2, 3], [1.0, math.nan, 3.0]),))
    bars = Chart(
        say("bars"), "x", (ChartSeries("s", [1, 2], [1.0, 3.0]),), "bars", labels=("a", "b")
    )
    page_output.write(
        page((chart, bars, Picture(say("p"), (Panel("a", ((1.0, -1.0),)),)))), tmp_path / "x.png"
    )
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_of_a_picture_shows_its_sign_its_size_and_what_is_not_finite() -> None:
    panel = Panel("p", ((0.5, -1.0, 0.0, math.nan),))
    assert [panel.depth(value) for value in panel.values[0]] == [0.5, -1.0, 0.0, None]
    drawn = picture_svg.draw(Picture(say("x"), (panel,)))
    assert drawn.count("<rect") == 1 + 3  # the frame, and none for zero
    for color, opacity in (("#0969da", "0.50"), ("#cf222e", "1.00"), ("#bf3989", "1.00")):
        assert f'fill="{color}" fill-opacity="{opacity}"' in drawn
    console = Console(width=80)
    with console.capture() as captured:
        console.print(page_terminal.render(page((Picture(say("x"), (panel,)),))))
    assert "▒▒██  NN" in captured.get()


def test_the_language_of_a_page_is_the_one_in_force() -> None:
    with use_language("zh"):
        assert '<html lang="zh">' in page_html.render(page())
