"""The seismogram shows every layer, what was found where, and never hides what is not finite."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from seismograd.cli import main
from seismograd.diagnosis.verdict import Verdict, make_verdict
from seismograd.i18n import use_language
from seismograd.record.reader import open_run
from seismograd.schema import Finding, FloatArray, State
from seismograd.views import png_fonts
from seismograd.views.page_api.packing import unpack
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.seismogram.channels import LONGEST_LABEL, MOST_CHANNELS, make_seismogram
from seismograd.views.seismogram.drawing import WIDTH, Shape, draw, height_of
from seismograd.views.seismogram.picture_file import picture, write_picture
from seismograd.views.seismogram.raster import points_of
from seismograd.views.text_layout import cell_width
from tests.synthetic import block, finding, make_parameters, write_run

SVG = "{http://www.w3.org/2000/svg}"


def verdict_of(
    path: Path,
    norms: FloatArray,
    findings: tuple[Finding, ...] = (),
    state: list[list[State]] | None = None,
) -> Verdict:
    """A run with a weight per layer, `net.0.weight` nearest the input."""
    names = [f"net.{layer}.weight" for layer in range(norms.shape[1])]
    given = {} if state is None else {"state": state}
    made = block(norms, parameters=make_parameters(names=names), **given)  # type: ignore[arg-type]
    return make_verdict(open_run(write_run(path, [made])), findings, ())


def heights(shapes: list[Shape], label: str) -> list[float]:
    """How far the bands of a channel reach above its middle."""
    (group,) = [each for each in shapes if each.inner and each.inner[0].text.startswith(label)]
    rule = next(each for each in group.inner if each.attributes.get("class") == "rule")
    bottom = float(rule.attributes["d"].split()[1].partition("H")[0])
    found: list[float] = []
    for each in group.inner:
        if each.attributes.get("class", "").startswith("band"):
            ys = [y for _, y in points_of(each.attributes["d"])]
            found.append(max(ys) - min(ys))
    assert all(height <= bottom for height in found)
    return found


def test_a_band_is_as_high_as_the_norm_is_large(tmp_path: Path) -> None:
    norms = np.tile(10.0 ** np.array([-6, -4, -2, 0]), (40, 1))
    shapes = draw(make_seismogram(verdict_of(tmp_path / "run", norms), 100))
    tall = [heights(shapes, f"net.{layer}")[0] for layer in range(4)]
    assert tall == sorted(tall)
    np.testing.assert_allclose(np.diff(tall), np.diff(tall).mean(), rtol=0.05)


def test_the_worst_layer_is_on_top_and_the_others_follow_in_their_order(tmp_path: Path) -> None:
    at_fault = finding(parameters=("net.7.weight",), first_step=3, last_step=9)
    verdict = verdict_of(tmp_path / "run", np.ones((20, 10)), (at_fault,))
    seismogram = make_seismogram(verdict, 100)
    labels = [each.label.split(" ")[0] for each in seismogram.channels]
    assert labels == ["net.7", *(f"net.{layer}" for layer in range(10) if layer != 7)]
    (mark,) = seismogram.channels[0].marks
    assert (mark.code, mark.first, mark.last) == (at_fault.code, 3, 9)


def test_what_is_not_finite_is_a_break_and_what_is_zero_a_flat_line(tmp_path: Path) -> None:
    norms = np.ones((30, 3))
    norms[10:, 1], norms[:, 2] = np.nan, 0
    before = [State.FINITE, State.FINITE, State.ZERO]
    after = [State.FINITE, State.NONFINITE, State.ZERO]
    state = [before] * 10 + [after] * 20
    shapes = draw(make_seismogram(verdict_of(tmp_path / "run", norms, state=state), 100))
    kinds = {
        each.inner[0].text.split(" ")[0]: [
            inner.attributes["class"] for inner in each.inner if "class" in inner.attributes
        ]
        for each in shapes
        if each.inner and "data-column" in each.attributes
    }
    assert "lost" in kinds["net.1"]
    assert "band" in kinds["net.1"]  # before it
    assert "zero" in kinds["net.2"]
    assert "band" not in kinds["net.2"]
    assert not {"lost", "zero"} & set(kinds["net.0"])


@pytest.mark.parametrize("num_layers", [1, 5, 31, 500])
def test_any_number_of_layers_is_a_picture_of_bounded_height(
    tmp_path: Path, num_layers: int
) -> None:
    norms = np.random.default_rng(0).lognormal(0, 1, (12, num_layers))
    at_fault = finding(parameters=(f"net.{num_layers - 1}.weight",), first_step=2, last_step=4)
    verdict = verdict_of(tmp_path / "run", norms, (at_fault,))
    seismogram = make_seismogram(verdict, 360)
    assert len(seismogram.channels) == min(num_layers, MOST_CHANNELS)
    assert seismogram.num_layers == num_layers
    assert seismogram.channels[0].label.startswith(f"net.{num_layers - 1}")
    assert height_of(seismogram) < 700
    shown = np.max([np.nanmax(each.high) for each in seismogram.channels])
    assert shown == pytest.approx(norms.max())


def test_a_spike_of_one_step_in_many_is_seen(tmp_path: Path) -> None:
    norms = np.ones((5000, 2))
    norms[3333, 0] = 1e6
    seismogram = make_seismogram(verdict_of(tmp_path / "run", norms), 100)
    channel = next(each for each in seismogram.channels if each.label.startswith("net.0"))
    assert channel.high.max() == 1e6
    assert seismogram.largest == pytest.approx(1e6)


def test_neighbours_that_share_a_channel_have_a_name_that_can_be_read(tmp_path: Path) -> None:
    names = [
        f"encoder.layers.{at // 4}.{('attention', 'proj', 'fc1', 'fc2')[at % 4]}.weight"
        for at in range(400)
    ]
    made = block(np.ones((4, 400)), parameters=make_parameters(names=names))
    verdict = make_verdict(open_run(write_run(tmp_path / "run", [made])), (), ())
    labels = [each.label for each in make_seismogram(verdict, 100).channels]
    assert labels[0] == "encoder.layers.0 … 3"
    assert all(len(label) <= LONGEST_LABEL for label in labels)
    assert len(set(labels)) == len(labels)


def test_a_loss_that_was_lost_is_never_shown_by_the_last_number_that_was_finite(
    tmp_path: Path,
) -> None:
    for first_lost in (0, 8):
        loss = np.where(np.arange(12) < first_lost, 1.0, np.nan)
        made = block(np.ones((12, 1)), loss=loss)
        path = write_run(tmp_path / str(first_lost), [made])
        shapes = draw(make_seismogram(make_verdict(open_run(path), (), ()), 100))
        assert "NaN/Inf" in [each.text for each in shapes]
        assert "lost" in [each.attributes.get("class") for each in shapes]


def test_names_cannot_leave_the_file(tmp_path: Path) -> None:
    name = '<script>alert("&")</script>.weight'
    made = block(np.ones((4, 1)), parameters=make_parameters(names=[name], shapes=[(2, 2)]))
    verdict = make_verdict(open_run(write_run(tmp_path / "run", [made])), (), ())
    write_picture(verdict, tmp_path / "it.svg")
    root = ElementTree.parse(tmp_path / "it.svg").getroot()
    assert root.findall(f".//{SVG}script") == []
    assert any(name[:10] in (each.text or "") for each in root.iter(f"{SVG}title"))


def test_the_page_gets_the_same_shapes(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path / "run", np.ones((20, 3)))
    header, _ = unpack(RunSource(verdict).answer("seismogram", {}))
    assert json.dumps(header["shapes"])
    assert [each["label"].split(" ")[0] for each in header["channels"]] == [
        "net.0",
        "net.1",
        "net.2",
    ]
    nothing = make_verdict(open_run(write_run(tmp_path / "empty", [])), (), ())
    assert unpack(RunSource(nothing).answer("seismogram", {}))[0]["shapes"] == []


def test_the_command_writes_it_alone_or_beside_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    verdict_of(tmp_path / "run", np.ones((20, 3)))
    assert main(["report", "run", "--picture", "it.svg"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "it.svg"}
    assert main(["report", "run", "--picture", "it.svg", "-o", "it.json", "--lang", "zh"]) == 0
    assert (tmp_path / "it.json").exists()
    assert "train.py 的梯度" in (tmp_path / "it.svg").read_text(encoding="utf-8")
    assert main(["report", "run", "--picture", "it.gif"]) == 2
    assert "use a file name that ends with .svg, .png" in capsys.readouterr().err


def test_it_is_written_as_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    norms = np.ones((20, 3))
    verdict = verdict_of(tmp_path / "run", norms, (finding(parameters=("net.1.weight",)),))
    write_picture(verdict, tmp_path / "it.png")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


def test_a_png_without_chinese_glyphs_is_in_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    verdict = verdict_of(tmp_path / "run", np.ones((20, 3)))
    there = png_fonts.installed_fonts()
    monkeypatch.setattr(png_fonts, "installed_fonts", lambda: there - set(png_fonts.CHINESE))
    pictures: list[bytes] = []
    for lang in ("en", "zh"):
        with use_language(lang):  # warnings are errors here
            write_picture(verdict, tmp_path / f"{lang}.png")
        pictures.append((tmp_path / f"{lang}.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_caption_is_no_wider_than_the_picture(tmp_path: Path, lang: str) -> None:
    with use_language(lang):
        shapes, height = picture(verdict_of(tmp_path / "run", np.ones((20, 3))))
    lines = [each for each in shapes if each.attributes.get("class") == "dim"]
    assert lines
    for line in lines:
        # the letters of 12 px of a wide font such as DejaVu Sans
        assert 12 + 7.4 * cell_width(line.text) < WIDTH
        assert float(line.attributes["y"]) < height
