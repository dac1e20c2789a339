"""Pictures to lay over each other -> the viewer of an HTML page: its section, and JSON blocks for the script.

Every picture is a separate element, so that the script parses its large block only when it is selected.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from vqcodec.bench.page import Section, json_block, part

__all__ = ["Side", "Sides", "viewer", "viewer_blocks"]

HEADING = "Pictures side by side"


@dataclass(frozen=True)
class Side:
    """What one side of the viewer can show."""

    label: str  # in the list of sides
    title: str  # below the picture
    facts: tuple[str, ...]  # below the title
    picture: bytes  # an image file
    media: str  # its media type


@dataclass(frozen=True)
class Sides:
    """One scene, as it was and as codecs left it."""

    name: str  # in the list of pictures; "" if there is only one and it needs no name
    width: int
    height: int
    sides: tuple[Side, ...]
    start: tuple[int, int]  # the indices of the sides that are shown first, left and right


def viewer(note: str) -> Section:
    """The section with the viewer, which the script fills and shows. `note` is HTML."""
    return Section("viewer", HEADING, Template(part("viewer.html")).substitute(heading=HEADING, note=note))


def viewer_blocks(pictures: Sequence[Sides]) -> dict[str, str]:
    """The JSON blocks of the viewer by id: the names of the pictures, and each picture. Empty without pictures."""
    if not pictures:
        return {}
    values: dict[str, Any] = {"pictures-data": [picture.name for picture in pictures]}
    values |= {f"picture-{index}": _plain(picture) for index, picture in enumerate(pictures)}
    return {name: json_block(name, value) for name, value in values.items()}


def _plain(picture: Sides) -> dict[str, Any]:
    sides = [
        {"label": side.label, "title": side.title, "src": _uri(side.media, side.picture), "facts": list(side.facts)}
        for side in picture.sides
    ]
    size = {"name": picture.name, "width": picture.width, "height": picture.height}
    return {**size, "sides": sides, "start": list(picture.start)}


def _uri(media: str, data: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
