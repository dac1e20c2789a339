"""A vqcodec model as a codec of the benchmark. In: a `Picture` and a quality, or a target size. Out: a .vq file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqcodec.bench.listed_peer import Encoded, note
from vqcodec.errors import VqError

if TYPE_CHECKING:
    from vqcodec.bench.match import Match
    from vqcodec.model.store import Model
    from vqcodec.picture.picture import Picture

__all__ = ["ModelPeer"]


class ModelPeer:
    """A vqcodec model at one effort (None: the default), or storing all pixels without loss."""

    def __init__(self, model: Model, effort: int | None = None, *, lossless: bool = False) -> None:
        from vqcodec.codec.codec import Codec

        self.model = model
        self.effort = effort
        self.lossless = lossless
        self._codec = Codec(model)

    def compress(self, picture: Picture, quality: float) -> bytes:
        """The bytes of a .vq file; without loss, `quality` means nothing. Raises `VqError`."""
        if self.lossless:
            from vqcodec.codec.encode_options import EncodeOptions, compress

            return compress(self._codec, picture, EncodeOptions(lossless=True)).data
        if self.effort is None:
            return self._codec.compress(picture, int(quality))
        return self._codec.compress(picture, int(quality), effort=self.effort)

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        """A .vq file of at most `size` bytes, as near to it as possible. Raises `VqError` if the size cannot be met."""
        from vqcodec.codec.codec import DEFAULT_EFFORT
        from vqcodec.codec.describe import describe
        from vqcodec.codec.rate_control import Target, compress_to

        effort = DEFAULT_EFFORT if self.effort is None else self.effort
        found = compress_to(self._codec, picture, Target("bytes", size), None, effort)
        if found.notices:  # the largest file is smaller: codecs are compared at equal sizes
            raise VqError(f"{size:,.0f} bytes cannot be met: {found.notices[0]}")
        return Encoded(found.data, describe(found.data).quality, note(len(found.data) / size - 1))

    def compress_for(self, picture: Picture, match: Match) -> Encoded:
        """The smallest .vq file that is at least as good as `match`. Raises `VqError` if none is."""
        from vqcodec.codec.codec import DEFAULT_EFFORT
        from vqcodec.codec.describe import describe
        from vqcodec.codec.rate_control import Target, compress_to

        assert match.measure != "bpp"
        effort = DEFAULT_EFFORT if self.effort is None else self.effort
        found = compress_to(self._codec, picture, Target(match.measure, match.value), None, effort)
        return Encoded(found.data, describe(found.data).quality, found.notices[0] if found.notices else None)

    def decompress(self, data: bytes) -> Picture:
        """Decode a .vq file. Raises `VqError`."""
        return self._codec.decompress(data)
