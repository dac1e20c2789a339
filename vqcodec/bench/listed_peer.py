"""What every codec of the benchmark can do, and what the codecs of the table `PEERS` have in common.

In: a `Picture` and a quality on the codec's own scale, or a target size in bytes. Out: the bytes of a file; and from
bytes back to a `Picture`. A listed codec differs from others in how it encodes; Pillow decodes all their files.
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vqcodec.bench.bisection import TRIALS, Scale, approach, lowest
from vqcodec.errors import VqError

if TYPE_CHECKING:
    from PIL import Image

    from vqcodec.bench.match import Match
    from vqcodec.model.store import Model
    from vqcodec.picture.picture import Picture

__all__ = ["TOLERANCE", "Encoded", "ListedPeer", "Peer", "note", "probe_picture"]

TOLERANCE = 0.02  # relative to the target size
MATCH_TRIALS = 9  # of a quality that is not a whole number: finer steps change a measure by less than its last digit


class Encoded(NamedTuple):
    """A file near the target size, and the quality used. `note`: a remark if the size is outside the tolerance."""

    data: bytes
    quality: float
    note: str | None


class Peer(Protocol):
    """A codec that can be measured. `model` is None for codecs other than vqcodec."""

    @property
    def model(self) -> Model | None: ...

    def compress(self, picture: Picture, quality: float) -> bytes:
        """The bytes of a file. Raises `VqError`."""

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        """A file of at most `size` bytes, as near to it as possible. Raises `VqError` if the size cannot be met."""

    def compress_for(self, picture: Picture, match: Match) -> Encoded:
        """The smallest file whose decoded picture is at least as good as `match`, which is not a rate.

        Raises `VqError` if no file is.
        """

    def decompress(self, data: bytes) -> Picture:
        """Decode a file. Raises `VqError`."""


@dataclass(frozen=True, kw_only=True)
class ListedPeer(ABC):
    """A codec of the table, other than vqcodec. Higher qualities are better."""

    name: str
    family: str  # codecs of one family make files of one format; the strongest of them is the one to compare with
    format: str  # Pillow's name of the format
    qualities: tuple[float, ...]  # of the points of a curve, in ascending order
    span: tuple[float, float]  # the lowest and the highest valid quality
    settings: str  # for display
    whole: bool = False  # qualities must be whole numbers
    threads: int = 1
    keeps_alpha: bool = False  # exactly, as vqcodec does

    @property
    def model(self) -> Model | None:
        """None: not a vqcodec model."""
        return None

    @property
    def scale(self) -> Scale:
        """The valid qualities."""
        return Scale(*self.span, self.whole)

    @abstractmethod
    def missing(self) -> str | None:
        """Why this codec cannot be used on this machine, or None."""

    def repeats(self) -> str | None:
        """The name of another codec of the table that makes the same files with the installed libraries, or None."""
        return None

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of what encodes and decodes. A change of any of them may change the figures."""

    @abstractmethod
    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file; `image` is RGB or grey (L). Raises any exception if the encoder fails."""

    def prepare(self) -> None:  # noqa: B027 (most codecs need nothing)
        """Make Pillow able to decode the format. Raises `ImportError`."""

    def compress(self, picture: Picture, quality: float) -> bytes:
        """The bytes of a file. Raises `VqError`, also for transparency that the codec does not keep exactly.

        vqcodec stores alpha exactly. Not every format does, so the sizes would not be comparable.
        """
        from vqcodec.picture.write import to_image

        if picture.alpha is not None and not self.keeps_alpha:
            raise VqError(f"{self.name} is only measured on pictures without transparency")
        try:
            self.prepare()
            return self.encode(to_image(picture), quality)
        except (VqError, MemoryError):
            raise
        except Exception as error:  # encoders raise many types
            raise VqError(f"{self.name} cannot write this picture ({error or type(error).__name__})") from error

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        """A file of at most `size` bytes, found by bisection over the quality; at least 98 % of `size` if possible.

        If no quality gives a size within this range, the result is the nearest one, with a note if it is more than 2 %
        off. Raises `VqError` if `size` is more than 2 % outside the range of sizes that the codec can produce.
        """
        files: dict[float, bytes] = {}

        def trial(quality: float) -> int:
            files[quality] = self.compress(picture, quality)
            return len(files[quality])

        sizes = approach(self.scale, trial, ((1 - TOLERANCE) * size, size))
        met = [quality for quality, found in sizes.items() if (1 - TOLERANCE) * size <= found <= size]
        quality = met[0] if met else min(sizes, key=lambda q: abs(math.log(sizes[q] / size)))
        miss = sizes[quality] / size - 1
        smallest, largest = min(sizes.values()), max(sizes.values())
        if abs(miss) > TOLERANCE and not smallest < size < largest:
            kind, end = ("smallest", smallest) if smallest > size else ("largest", largest)
            raise VqError(f"{size:,.0f} bytes cannot be met: the {kind} file {self.name} makes is {end:,} bytes")
        return Encoded(files[quality], quality, note(miss))

    def compress_for(self, picture: Picture, match: Match) -> Encoded:
        """The file of the lowest quality that is at least as good as `match`, found by bisection.

        Raises `VqError` if the highest quality is not so good.
        """
        figures: dict[float, float] = {}
        files: dict[float, bytes] = {}

        def holds(quality: float) -> bool:
            files[quality] = self.compress(picture, quality)
            figures[quality] = match.figure(picture, self.decompress(files[quality]))
            return figures[quality] >= match.value

        trials = TRIALS if self.whole else MATCH_TRIALS
        quality = lowest(self.scale, holds, trials)
        if quality is None:
            best = figures[self.span[1]]
            raise VqError(f"{match} cannot be met: {self.name} reaches {best:.2f}")
        return Encoded(files[quality], quality, None)

    def decompress(self, data: bytes) -> Picture:
        """Decode a file to RGB, with Pillow. Raises `VqError`."""
        import numpy as np
        from PIL import Image

        from vqcodec.picture.picture import Picture

        try:
            self.prepare()
            with Image.open(io.BytesIO(data), formats=(self.format,)) as image:
                return Picture(np.array(image.convert("RGB")), "RGB")
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers raise many types
            raise VqError(f"{self.name} cannot read its own file ({error or type(error).__name__})") from error


def note(miss: float) -> str | None:
    """A note about a file whose size is off by this share of the target size; None within the tolerance."""
    if abs(miss) <= TOLERANCE:
        return None
    return f"{abs(miss):.1%} {'over' if miss > 0 else 'under'}: no quality gives a nearer size"


def probe_picture() -> Image.Image:
    """A small picture with gradients and texture, to find out what an encoder accepts and whether options matter."""
    import numpy as np
    from PIL import Image

    y, x, c = np.ogrid[:64, :64, :3]
    return Image.fromarray(((2 * x + y + 40 * c + 31 * (x * y % 7)) % 256).astype(np.uint8))
