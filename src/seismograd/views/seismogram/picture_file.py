"""Write a seismogram into a picture file: SVG, light and dark, or PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from seismograd.diagnosis.verdict import Verdict
from seismograd.errors import SeismogradError
from seismograd.i18n import say, translate
from seismograd.views.png_fonts import readable_fonts
from seismograd.views.seismogram.channels import Seismogram, make_seismogram
from seismograd.views.seismogram.drawing import (
    MOST_COLUMNS,
    NAMESPACE,
    WIDTH,
    Shape,
    draw,
    height_of,
)
from seismograd.views.seismogram.raster import as_png
from seismograd.views.text_layout import wrap
from seismograd.views.values import number

HEAD, FOOT = 30, 26
_LINE, _WIDEST = 16, 130  # height and letters of a line of the caption


def write_picture(verdict: Verdict, path: Path) -> int:
    """Write the picture and return its size in bytes.

    Raises:
        SeismogradError: the name does not say which format, there is no step to draw, or it cannot
            be written.
    """
    render = find_picture_format(path)
    if not verdict.run.num_rows:
        raise SeismogradError(
            say("no optimizer step was recorded in {run}", run=str(verdict.run.path))
        )
    with readable_fonts() if render is as_png else nullcontext():
        data = render(*picture(verdict))
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SeismogradError(
            say(
                "cannot write {path}: {reason}", path=str(path), reason=error.strerror or str(error)
            )
        ) from error
    return len(data)


def find_picture_format(path: Path) -> Callable[[list[Shape], int], bytes]:
    """Return the renderer for a file of this name.

    Raises:
        SeismogradError: its extension names no format.
    """
    render = PICTURE_FORMATS.get(path.suffix.lower())
    if render is None:
        raise SeismogradError(
            say("the picture's format is not clear from the name {path}", path=str(path)),
            say("use a file name that ends with {ends}", ends=", ".join(PICTURE_FORMATS)),
        )
    return render


def picture(verdict: Verdict) -> tuple[list[Shape], int]:
    """Return the shapes of a picture of its own, with a title and a caption, and its height."""
    seismogram = make_seismogram(verdict, MOST_COLUMNS)
    lines = wrap(caption(seismogram), _WIDEST)
    below = HEAD + height_of(seismogram)
    height = below + FOOT + _LINE * (len(lines) - 1)
    title = translate("Gradients of {script}").format(script=verdict.run.info.script)
    place = {"x": "12", "text-anchor": "start"}
    return [
        Shape(
            "rect",
            {"class": "back", "x": "0", "y": "0", "width": str(WIDTH), "height": str(height)},
        ),
        Shape("text", {"class": "title", "y": "21", **place}, title),
        *(
            Shape("text", {"class": "dim", "y": str(below + 16 + _LINE * at), **place}, line)
            for at, line in enumerate(lines)
        ),
        Shape("g", {"transform": f"translate(0 {HEAD})"}, "", tuple(draw(seismogram))),
    ], height


def caption(seismogram: Seismogram) -> str:
    """Return how to read the picture."""
    return translate(
        "A trace per layer over the steps: the band is as high as the gradient's norm is large "
        "(flat: {smallest}, full: {largest}, logarithmic; right: its median); ▼ a finding; "
        "red: not finite."
    ).format(smallest=number(seismogram.smallest, 2), largest=number(seismogram.largest, 2))


def as_svg(shapes: list[Shape], height: int) -> bytes:
    """Return the picture as an SVG file with its styles in it."""
    style = files("seismograd.views.page").joinpath("seismogram.css").read_text("utf-8")
    head = (
        f'<svg xmlns="{NAMESPACE}" class="seismogram file" role="img" '
        f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
    )
    inner = "\n".join(map(_element, shapes))
    return f"{head}\n<style>{style}</style>\n{inner}\n</svg>\n".encode()


def _element(shape: Shape) -> str:
    named = "".join(f" {name}={quoteattr(value)}" for name, value in shape.attributes.items())
    inner = escape(shape.text) + "".join(map(_element, shape.inner))
    return f"<{shape.tag}{named}>{inner}</{shape.tag}>"


PICTURE_FORMATS: Mapping[str, Callable[[list[Shape], int], bytes]] = {
    ".svg": as_svg,
    ".png": as_png,
}
