"""Whether bytes are a .vq file at all, from how they begin; if not, what they are, so that an error can help."""

from __future__ import annotations

from vqcodec.errors import DamagedFile, NotAVqFile

__all__ = ["MAGIC", "check_magic"]

MAGIC = b"\x89VQ\n"

_MANGLED = {  # what is left of the magic after a transfer as text
    b"\x89VQ\r": "its line ends were translated",
    b"\x09VQ\n": "its top bits were removed",
    b"\xef\xbf\xbdVQ": "it was converted to UTF-8",
}
_FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or another RIFF file",
    b"II*\0": "a TIFF picture",
}


def check_magic(data: bytes) -> None:
    """Raise `NotAVqFile`, or `DamagedFile`, for data that does not begin with the magic."""
    if data.startswith(MAGIC):
        return
    if not data:
        raise NotAVqFile("not a .vq file: it is empty")
    if MAGIC.startswith(data):
        raise DamagedFile(f"the file is truncated: only {len(data)} bytes are there")
    for start, damage in _MANGLED.items():
        if data.startswith(start):
            raise DamagedFile(f"the file was transferred as text and {damage}: transfer it again as binary")
    for start, name in _FOREIGN.items():
        if data.startswith(start):
            raise NotAVqFile(f"not a .vq file: it looks like {name}")
    raise NotAVqFile("not a .vq file: it does not start like one")
