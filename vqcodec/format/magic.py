"""Recognises .vq files by their first bytes.

For other data, the error says what the data probably is: another format, or a .vq file that was transferred as text.
"""

from __future__ import annotations

from vqcodec.errors import DamagedFile, NotAVqFile

__all__ = ["MAGIC", "check_magic"]

MAGIC = b"\x89VQ\n"

_MANGLED = {  # the magic after a transfer as text
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
    """Check that data begins with the magic. Raises `DamagedFile` for a damaged magic, `NotAVqFile` for other data."""
    if data.startswith(MAGIC):
        return
    if not data:
        raise NotAVqFile("not a .vq file: it is empty")
    if MAGIC.startswith(data):
        raise DamagedFile(f"the file is truncated: only {len(data)} bytes are present")
    for start, damage in _MANGLED.items():
        if data.startswith(start):
            raise DamagedFile(f"the file was transferred as text and {damage}: transfer it again as binary")
    for start, name in _FOREIGN.items():
        if data.startswith(start):
            raise NotAVqFile(f"not a .vq file: it looks like {name}")
    raise NotAVqFile("not a .vq file: it does not start like one")
