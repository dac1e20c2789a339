"""Two compared pictures -> one self-contained HTML page: both laid over each other, and every measure.

The page has the frame and the viewer of the page of `bench`. It embeds the samples that were compared, without loss.
"""

from __future__ import annotations

import io

from PIL import Image

from vqcodec.bench.compare import Compared, Input, Layer, Samples, facts, shown
from vqcodec.bench.page import Column, Frame, Section, page, section, table, text
from vqcodec.bench.viewer import Side, Sides, viewer, viewer_blocks
from vqcodec.picture.measures import MEASURES, Measure

__all__ = ["to_html"]

_MOST_WEBP = 16383  # pixels a side


def to_html(compared: Compared) -> str:
    """The page as text, to be written as UTF-8."""
    notes = ["Left A, the reference; right B."]
    if len(compared.layers) > 1:
        notes.append("The pictures have transparency: choose what they are laid over.")
    frame = Frame(
        command="vqcodec compare",
        title=f"{_short(compared.a)} and {_short(compared.b)}",
        summary=_summary(compared),
        without_script="The viewer needs JavaScript; the table contains the figures.",
        footer="Sizes are those of the files, headers included.",
    )
    data = viewer_blocks([_sides(compared, layer) for layer in compared.layers])
    return page(frame, [viewer(" ".join(notes)), _measures(compared), _files(compared)], data.values())


def _short(side: Input) -> str:
    """The name of a file without its folder."""
    return side.name.replace("\\", "/").rpartition("/")[2] or side.name


def _summary(compared: Compared) -> str:
    if compared.identical:
        return "The pictures are identical."
    first = next(measure for measure in MEASURES if _value(compared, measure) != "-")
    share = 100 * compared.b.bytes / compared.a.bytes
    return text(f"B has {share:.2f} % of the bytes of A. {first.title} {_value(compared, first)}.")


def _sides(compared: Compared, layer: Layer) -> Sides:
    sides = []
    for label, side, samples in (("A", compared.a, layer.before), ("B", compared.b, layer.after)):
        found = [f"{side.bytes:,} bytes", f"{side.bpp:.3f} bpp"]
        if label == "B":
            found += [f"{m.title} {_value(compared, m)}" for m in MEASURES if _value(compared, m) != "-"]
        picture, media = _image_file(samples)
        sides.append(Side(f"{label}: {_short(side)}", f"{label}: {_short(side)}", tuple(found), picture, media))
    name = "" if layer.ground is None else f"over {layer.ground}"
    height, width, _ = layer.before.shape
    return Sides(name, width, height, tuple(sides), (0, 1))


def _image_file(samples: Samples) -> tuple[bytes, str]:
    """Samples -> a lossless image file and its media type."""
    image = Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
    stream = io.BytesIO()
    if max(image.size) > _MOST_WEBP:
        image.save(stream, "PNG")
        return stream.getvalue(), "image/png"
    image.save(stream, "WEBP", lossless=True, quality=50, method=3)
    return stream.getvalue(), "image/webp"


def _value(compared: Compared, measure: Measure) -> str:
    return shown(measure, compared.measures[measure.name])


def _measures(compared: Compared) -> Section:
    note = "Of B beside the reference A."
    if len(compared.layers) > 1:
        note += " Both were laid over black and over white; of each measure this is the worse value."
    columns: tuple[Column[Measure], ...] = (
        Column("measure", lambda measure: measure.title),
        Column("value", lambda measure: _value(compared, measure)),
        Column("better", lambda measure: "higher" if measure.rising else "lower"),
    )
    return section("Measures", note, table("Measures", columns, MEASURES))


def _files(compared: Compared) -> Section:
    columns: tuple[Column[tuple[str, Input]], ...] = (
        Column("", lambda entry: entry[0]),
        Column("file", lambda entry: entry[1].name),
        Column("content", lambda entry: ", ".join(facts(entry[1])), long=True),
        Column("notes", lambda entry: "; ".join(entry[1].picture.notices), long=True),
    )
    return section("Files", "", table("Files", columns, [("A", compared.a), ("B", compared.b)]))
