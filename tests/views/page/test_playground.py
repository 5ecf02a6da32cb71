"""The page where a reader drags depth, scale and activation gives what the experiment measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seismograd.lab.measurements import chain_experiment

PAGE = Path(__file__).parents[3] / "docs" / "playground" / "depth.html"
DEFAULT = {"scale": math.sqrt(1 / 3), "bias": 1 / (3 * chain_experiment.WIDTH)}
PLAIN = {"norm": False, "residual": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "sigmoid": {"activation": "sigmoid", **DEFAULT, **PLAIN},
    "tanh": {"activation": "tanh", **DEFAULT, **PLAIN},
    "ReLU": {"activation": "relu", **DEFAULT, **PLAIN},
    "tanh, xavier_normal_": {"activation": "tanh", "scale": 5 / 3, "bias": 0, **PLAIN},
    "ReLU, kaiming_normal_": {"activation": "relu", "scale": math.sqrt(2), "bias": 0, **PLAIN},
    "sigmoid, LayerNorm": {"activation": "sigmoid", **DEFAULT, **PLAIN, "norm": True},
    "ReLU, LayerNorm": {"activation": "relu", **DEFAULT, **PLAIN, "norm": True},
    "sigmoid, x + f(x)": {"activation": "sigmoid", **DEFAULT, **PLAIN, "residual": True},
    "ReLU, x + f(x)": {"activation": "relu", **DEFAULT, **PLAIN, "residual": True},
}


@pytest.fixture
def browse(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page; it must not have raised, been refused anything or asked anyone."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_page(width: int = 1000, theme: str = "light") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, locale="en-US"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith("file:") else problems.append(f"asked {asked.url}")
            ),
        )
        page.goto(PAGE.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def profile(page: Any, **settings: Any) -> dict[str, Any]:
    return page.evaluate("settings => window.profile(settings)", settings)


def test_the_page_computes_what_the_experiment_measures(
    browse: Callable[..., Any],
) -> None:
    found = chain_experiment.measure()
    page = browse()
    assert set(SETTINGS) == set(chain_experiment.KINDS)
    for kind in found.kinds:
        computed = profile(page, depth=chain_experiment.KINDS_DEPTH, **SETTINGS[kind.name])
        # 64 units and 16 samples: a layer's factor scatters by some per cent around theory.
        assert computed["weightsPerLayer"] == pytest.approx(kind.per_layer, rel=0.06), kind.name
        assert len(computed["weights"]) == chain_experiment.KINDS_DEPTH
    for chain in found.linear:
        computed = profile(
            page, depth=chain.depth, activation="linear", scale=chain.gain, bias=0, **PLAIN
        )
        arrived = computed["signal"][0] * chain.gain
        assert arrived == pytest.approx(chain.arrived, rel=1e-4)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_dragging_changes_what_is_said_in_both_languages(
    browse: Callable[..., Any], theme: str
) -> None:
    page = browse(width=360, theme=theme)
    assert "vanishes" in page.inner_text("#verdict")
    page.select_option("#activation", "relu")
    page.click("text=kaiming_normal_")
    assert "about as large" in page.inner_text("#verdict")
    page.locator("#scale").fill("0.4")
    assert "explodes" in page.inner_text("#verdict")
    assert "2.51" in page.inner_text("#scale-value")
    page.click("#language")
    assert page.locator("html").get_attribute("lang") == "zh"
    assert "爆炸" in page.inner_text("#verdict")
    page.locator("#depth").fill("2")
    assert "2 层" in page.inner_text("#verdict")
    # Nothing is wider than a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
