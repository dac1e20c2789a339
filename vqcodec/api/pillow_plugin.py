"""The Pillow plugin for .vq files. In: the arguments of `Image.open` and `Image.save`. Out: an image, or a file.

Opening a file reads its header and metadata; `load` decodes it. Errors have the types that Pillow's own plugins raise,
with the `VqError` as their cause: SyntaxError if the data is not a .vq file, OSError if a file cannot be decoded or
written, ValueError for an invalid option. Decoding at reduced size (`Image.draft`) is not supported: it would save
little time.

`import vqcodec` registers the plugin (see `registration.py`). Before a file is opened, only Pillow is loaded.
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
# Options of `Image.save`; others are ignored.
_OPTIONS = (
    "quality", "target_ssimulacra2", "lossless", "model", "effort", "keep_metadata", "keep_location",
    "keep_hidden_colours",
)  # fmt: skip
_START = 1 << 12  # bytes to read first: more than most headers
_CHECKSUM = 4  # bytes of the checksum before each payload


class VqImageFile(ImageFile.ImageFile):
    """An open .vq file. It is decoded when its pixels are first needed."""

    format = _FORMAT
    format_description = "vqcodec, neural image compression"
    _undecoded = False  # not decoded yet; copies of an image already have pixels

    def _open(self) -> None:
        assert self.fp is not None
        with _pillow_errors():
            header = _read_header(self.fp)
            self.info.update(_read_info(self.fp, header))
        self._size = header.width, header.height
        self._mode = header.mode + ("A" if header.alpha_bytes else "")
        self.tile = []  # only Pillow's own decoders use it; None in older versions
        self._undecoded = True

    def load(self) -> Any:
        """Decode the picture, once. Raises OSError, or ValueError if the image is closed."""
        if self._undecoded:
            with _pillow_errors():
                image = api.decode(self._data())
            if (image.mode, image.size) != (self.mode, self.size):
                raise OSError("the file has changed since it was opened")
            self.im = image.im
            self._undecoded = False
            self._release_file()
        return super().load()

    def verify(self) -> None:
        """Verify all checksums without decoding. Raises OSError, or ValueError if the image is closed."""
        from vqcodec.format import container

        with _pillow_errors():
            container.unpack(self._data())
        self._release_file()

    def _data(self) -> bytes:
        """All bytes of the file. Raises ValueError if the image is closed."""
        if self.fp is None:
            raise ValueError("the image is closed")
        self.fp.seek(0)
        return self.fp.read()

    def _release_file(self) -> None:
        """Drop the file, and close it if this image opened it, as Pillow's own plugins do."""
        if self._exclusive_fp and self.fp is not None:
            self.fp.close()
        self.fp = None


def register() -> None:
    """Register the .vq format with Pillow. Repeated calls are harmless."""
    Image.register_open(_FORMAT, VqImageFile, _accept)
    Image.register_save(_FORMAT, _save)
    Image.register_extension(_FORMAT, ".vq")


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    options: dict[str, Any] = image.encoderinfo
    with _pillow_errors():
        data = api.encode(image, **{name: options[name] for name in _OPTIONS if name in options})
    fp.write(data)


def _read_header(fp: IO[bytes]) -> Header:
    """The header of a file. Raises `BadFile`, also if the file is shorter than the header declares."""
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
            size = MOST_HEADER  # the header may be longer than the first read
    fp.seek(0, io.SEEK_END)
    if fp.tell() < header.total_bytes:
        raise DamagedFile(f"the file is truncated: {fp.tell()} of {header.total_bytes} bytes are present")
    return header


def _read_info(fp: IO[bytes], header: Header) -> dict[str, bytes]:
    """The valid metadata, in the form of `Image.info`. Only its part of the file is read. Raises `BadFile`."""
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
def _pillow_errors() -> Iterator[None]:
    """Raise each `VqError` as the type that Pillow's own plugins raise."""
    try:
        yield
    except NotAVqFile as error:
        raise SyntaxError(str(error)) from error
    except UsageError as error:
        raise ValueError(str(error)) from error
    except VqError as error:
        raise OSError(str(error)) from error


register()
