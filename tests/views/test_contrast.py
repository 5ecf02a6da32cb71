"""Every text and every edge of the page can be told from what is behind it (WCAG 2.2, AA)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from seismograd.lab.drawing import chart_svg

CSS = files("seismograd.views.page").joinpath("page.css").read_text("utf-8")
TEXTS = ("text", "dim", "accent", "error", "warning", "info", "good", "nan")
EDGES = ("edge", "focus", "cursor", "before", "after", "limit", "loss", "lr", "other")


def colours(theme: str) -> dict[str, str]:
    block = CSS.split(':root[data-theme="dark"] {' if theme == "dark" else ":root {")[1]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block.split("}")[0]))


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("behind", ["panel", "back"])
def test_texts_and_edges_stand_out_in_every_theme(theme: str, behind: str) -> None:
    known = colours(theme)
    weak = {
        name: round(contrast(known[name], known[behind]), 2)
        for names, least in ((TEXTS, 4.5), (EDGES, 3.0))
        for name in names
        if contrast(known[name], known[behind]) < least
    }
    assert weak == {}


@pytest.mark.parametrize(
    ("colours", "behind"), [(chart_svg.COLOURS, "#ffffff"), (chart_svg.ON_DARK, "#121212")]
)
def test_lines_of_the_labs_stand_out_in_the_light_and_in_the_dark(
    colours: tuple[str, ...], behind: str
) -> None:
    assert {each: contrast(each, behind) for each in colours if contrast(each, behind) < 4.5} == {}
