"""The .vq format for Pillow. In: what `Image.open` and `Image.save` hand over. Out: an image, or the bytes of a file.

Opening reads the header and the metadata; `load` decodes. Errors are those of Pillow's own readers, with the `VqError`
as their cause: SyntaxError for what is no .vq file, OSError for one that cannot be decoded or written, ValueError for
an option that makes no sense. Reduced decoding (`Image.draft`) would save little, so there is none.

`import vqcodec` registers the format (see `registration.py`); nothing but Pillow is loaded before a file is opened.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from vqcodec.api import functions as api
from vqcodec.errors import DamagedFile, NotAVqFile, UsageError, VqError
from vqcodec.format.magic import MAGIC
from vqcodec.limits import MOST_HEADER

if TYPE_CHECKING:
    from vqcodec.format.container import Header

__all__ = ["VqImageFile", "register"]

_FORMAT = "VQ"
_OPTIONS = ("quality", "model", "effort", "keep_metadata", "keep_location")  # of `Image.save`; others are not ours
_START = 1 << 12  # bytes: more than most headers
_CHECKSUM = 4  # bytes before a payload


class VqImageFile(ImageFile.ImageFile):
    """A .vq file that is open, and decoded when its pixels are asked for."""

    format = _FORMAT
    format_description = "vqcodec, neural image compression"
    _waiting = False  # for its pixels; what was made of an image by copying has them

    def _open(self) -> None:
        assert self.fp is not None
        with _in_terms_of_pillow():
            header = _read_header(self.fp)
            self.info.update(_read_info(self.fp, header))
        self._size = header.width, header.height
        self._mode = header.mode + ("A" if header.alpha_bytes else "")
        self.tile = []  # for Pillow's own decoders; older versions have None
        self._waiting = True

    def load(self) -> Any:
        """Decode the picture, once. Raises OSError."""
        if self._waiting:
            with _in_terms_of_pillow():
                image = api.decode(self._data())
            if (image.mode, image.size) != (self.mode, self.size):
                raise OSError("the file has changed since it was opened")
            self.im = image.im
            self._waiting = False
            self._let_go()
        return super().load()

    def verify(self) -> None:
        """Check every checksum without decoding. Raises OSError."""
        from vqcodec.format import container

        with _in_terms_of_pillow():
            container.unpack(self._data())
        self._let_go()

    def _data(self) -> bytes:
        if self.fp is None:
            raise ValueError("the image is closed")
        self.fp.seek(0)
        return self.fp.read()

    def _let_go(self) -> None:
        if self._exclusive_fp and self.fp is not None:
            self.fp.close()
        self.fp = None


def register() -> None:
    """Make .vq a format of Pillow's; again does no harm."""
    Image.register_open(_FORMAT, VqImageFile, _accept)
    Image.register_save(_FORMAT, _save)
    Image.register_extension(_FORMAT, ".vq")


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    given: dict[str, Any] = image.encoderinfo
    with _in_terms_of_pillow():
        data = api.encode(image, **{name: given[name] for name in _OPTIONS if name in given})
    fp.write(data)


def _read_header(fp: IO[bytes]) -> Header:
    """The header of a file that is as long as it says. Raises `BadFile`."""
    from vqcodec.format import container

    size = _START
    while True:
        fp.seek(0)
        data = fp.read(size)
        try:
            header = container.read_header(data, partial=True)
            break
        except DamagedFile:
            if len(data) < size or size >= MOST_HEADER:
                raise
            size = MOST_HEADER  # perhaps it was cut off
    fp.seek(0, io.SEEK_END)
    if fp.tell() < header.total_bytes:
        raise DamagedFile(f"the file is truncated: {fp.tell()} of {header.total_bytes} bytes are there")
    return header


def _read_info(fp: IO[bytes], header: Header) -> dict[str, bytes]:
    """The metadata that is sound, read without the units before it, as `Image.info` has it. Raises `BadFile`."""
    if not header.metadata_bytes:
        return {}
    from vqcodec.format.chunks import TYPES
    from vqcodec.format.container import metadata_payload
    from vqcodec.picture.metadata import Metadata, image_info
    from vqcodec.picture.write import sound_metadata

    found = {}
    for kind in header.metadata_bytes:
        part = len(header.unit_lengths) + header.chunk_types.index(TYPES[kind])
        start = header.offsets[part] - _CHECKSUM
        fp.seek(start)
        data = fp.read(_CHECKSUM + header.lengths[part])
        here = replace(header, offsets=tuple(offset - start for offset in header.offsets))
        found[kind] = metadata_payload(data, here, kind)
    return image_info(sound_metadata(Metadata(**found), header.width, header.height, header.mode)[0])


@contextmanager
def _in_terms_of_pillow() -> Iterator[None]:
    try:
        yield
    except NotAVqFile as error:
        raise SyntaxError(str(error)) from error
    except UsageError as error:
        raise ValueError(str(error)) from error
    except VqError as error:
        raise OSError(str(error)) from error


register()
