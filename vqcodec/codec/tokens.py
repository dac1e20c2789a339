"""Codes as data: the codes of pictures <-> one safetensors file, for example to train other models on codes.

In: `Tokens`, the codes of pictures from one model. Out: a file, and back. Needs no torch.

The file holds one tensor for each picture, named "0", "1" and so on: its codes [G, h, w]. They are uint8 if no codebook
of the model has more than 256 codes, otherwise uint16. The metadata has one entry, "vqcodec.tokens": the fields of
`_Header` as JSON. Checksums cover the codes of each picture and the JSON, because safetensors itself has none.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import grid_shape
from vqcodec.errors import BadFile, DamagedFile, ModelError, UnknownModel, UnsupportedFile, UsageError, VqError
from vqcodec.model.config import from_json, to_json
from vqcodec.model.store import Model
from vqcodec.output import write_atomic
from vqcodec.picture.picture import Picture
from vqcodec.progress import Progress

__all__ = [
    "PictureTokens",
    "Tokens",
    "file_name",
    "is_wide",
    "pack_tokens",
    "read_tokens",
    "render",
    "vocabulary",
    "write_tokens",
]

KEY = "vqcodec.tokens"
VERSION = 1
Vocabulary = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class PictureTokens:
    """The codes of a picture, and everything else that decoding them needs."""

    name: str  # of the picture's file, without the folder
    width: int
    height: int
    mode: Literal["RGB", "L"]
    quality: int  # from 1
    codes: npt.NDArray[np.integer]  # [G, h, w]; uint8 or uint16 when read by `read_tokens`


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of pictures from one model.

    At quality q, codebook g uses the codes 0 to `vocabulary[q - 1][g]` - 1.
    """

    model: str  # its name
    digest: str  # of the model, hexadecimal
    stride: int  # height and width of a latent position in pixels
    vocabulary: Vocabulary
    wide: bool  # uint16: some codebook has more than 256 codes, used or not
    pictures: tuple[PictureTokens, ...] = ()

    @classmethod
    def of(cls, model: Model, pictures: Sequence[PictureTokens] = ()) -> Tokens:
        """The tokens of pictures that `model` encoded."""
        stride = model.config.vqvae.stride
        return cls(model.name, model.digest.hex(), stride, vocabulary(model), is_wide(model), tuple(pictures))


@dataclass(frozen=True)
class _Entry:
    name: str
    width: int
    height: int
    mode: Literal["RGB", "L"]
    quality: int
    crc32: int  # of the codes in C order, little endian


@dataclass(frozen=True)
class _Header:
    version: int
    model: str
    digest: str
    stride: int
    vocabulary: tuple[tuple[int, ...], ...]
    wide: bool
    pictures: tuple[_Entry, ...]
    crc32: int  # of this JSON with 0 in place of this number


def is_wide(model: Model) -> bool:
    """Whether a code of the model may need more than one byte."""
    return max(size for size, _ in model.config.vqvae.codebooks) > 256


@lru_cache(maxsize=8)  # loads every prior of the model, which takes time
def vocabulary(model: Model) -> Vocabulary:
    """How many codes (the first ones) of each codebook a model uses at each quality. Raises `ModelError`."""
    sizes = []
    for quality in range(model.config.vqvae.qualities):
        prior = model.prior(quality)
        state = np.zeros((1, prior.layout.channels), np.float32)  # any state gives one count for each code
        sizes.append(tuple(prior.counts(g, state).shape[1] for g in range(len(prior.layout.sizes))))
    return tuple(sizes)


def write_tokens(path: str | Path, tokens: Tokens, *, force: bool = False) -> None:
    """Write a file of tokens atomically. Raises `UsageError` if `tokens` are inconsistent."""
    write_atomic(Path(path), pack_tokens(tokens), force=force)


def pack_tokens(tokens: Tokens) -> bytes:
    """The bytes of a file of tokens. Raises `UsageError` if the tokens are inconsistent."""
    from safetensors.numpy import save

    try:
        _check(tokens)
    except DamagedFile as error:
        raise UsageError(f"these tokens cannot be written: {error}") from None
    arrays = [np.ascontiguousarray(picture.codes, _dtype(tokens)) for picture in tokens.pictures]
    entries = tuple(
        _Entry(p.name, p.width, p.height, p.mode, p.quality, _checksum(codes))
        for p, codes in zip(tokens.pictures, arrays, strict=True)
    )
    header = _Header(
        VERSION, tokens.model, tokens.digest, tokens.stride, tokens.vocabulary, tokens.wide, entries, crc32=0
    )
    header = replace(header, crc32=zlib.crc32(to_json(header).encode()))
    data: bytes = save({str(index): codes for index, codes in enumerate(arrays)}, metadata={KEY: to_json(header)})
    return data


def read_tokens(path: str | Path) -> Tokens:
    """Read and check a file of tokens. Raises `BadFile` for another kind of file or a damaged one."""
    path = Path(path)
    if not path.is_file():  # reading from a device or a pipe might never end
        raise BadFile(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
    try:
        return _read(path)
    except VqError as error:
        raise type(error)(f"{path}: {error}") from None
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise
    except Exception as error:  # safetensors and numpy raise many types for invalid types, shapes and sizes
        raise BadFile(f"{path}: not a complete safetensors file ({error or type(error).__name__})") from None


def _read(path: Path) -> Tokens:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = _read_header((file.metadata() or {}).get(KEY))
        names = [str(index) for index in range(len(header.pictures))]
        if set(file.keys()) != set(names):
            raise DamagedFile("its tensors do not match its list of pictures; the file is damaged")
        arrays = [file.get_tensor(name) for name in names]
    pictures = tuple(
        PictureTokens(entry.name, entry.width, entry.height, entry.mode, entry.quality, codes)
        for entry, codes in zip(header.pictures, arrays, strict=True)
    )
    tokens = Tokens(header.model, header.digest, header.stride, header.vocabulary, header.wide, pictures)
    for entry, codes in zip(header.pictures, arrays, strict=True):
        if codes.dtype != _dtype(tokens) or _checksum(codes) != entry.crc32:
            raise DamagedFile(f"the codes of {entry.name} are damaged")
    _check(tokens)
    return tokens


def _read_header(text: str | None) -> _Header:
    """Parse and check the JSON in the metadata. Raises `BadFile`."""
    if text is None:
        raise BadFile("not a file of tokens: its metadata has no entry vqcodec.tokens")
    try:
        value = json.loads(text)
        version = value.get("version") if isinstance(value, dict) else None
        if isinstance(version, int) and version > VERSION:  # its fields may differ
            raise UnsupportedFile(f"version {version} of files of tokens is not supported; please upgrade vqcodec")
        header = from_json(_Header, text)
    except (ValueError, RecursionError, ModelError) as error:
        raise DamagedFile(f"its description of the pictures is damaged: {error}") from None
    if header.version != VERSION:
        raise DamagedFile(f"there is no version {header.version} of files of tokens; the file is damaged")
    if zlib.crc32(to_json(replace(header, crc32=0)).encode()) != header.crc32:
        raise DamagedFile("its description of the pictures is damaged")
    return header


def _check(tokens: Tokens) -> None:
    """Raise `DamagedFile` if tokens are inconsistent, or contain an invalid file name."""
    most = 1 << (16 if tokens.wide else 8)
    valid = all(sizes and min(sizes) >= 1 and max(sizes) <= most for sizes in tokens.vocabulary)
    valid = valid and re.fullmatch("[0-9a-f]{16}", tokens.digest) is not None
    if tokens.stride < 1 or not valid or len({len(sizes) for sizes in tokens.vocabulary}) != 1:
        raise DamagedFile("invalid digest, stride or vocabulary")
    seen: dict[str, str] = {}
    for picture in tokens.pictures:
        name, codes = picture.name, picture.codes
        target = file_name(name)
        if target in seen:
            raise DamagedFile(f"{seen[target]} and {name} would both become {target}")
        seen[target] = name
        if not 1 <= picture.quality <= len(tokens.vocabulary):
            raise DamagedFile(f"{name}: the model has no quality {picture.quality}")
        sizes = tokens.vocabulary[picture.quality - 1]
        shape = (len(sizes), *grid_shape(picture.height, picture.width, tokens.stride))
        if min(picture.width, picture.height) < 1 or codes.shape != shape or codes.dtype.kind not in "iu":
            found = f"{codes.dtype} {list(codes.shape)}"
            raise DamagedFile(f"{name}: {found} does not fit a picture of {picture.width}x{picture.height} pixels")
        for g, size in enumerate(sizes):
            if codes[g].min() < 0 or codes[g].max() >= size:
                raise DamagedFile(f"{name}: a code is outside the range 0 to {size - 1} of codebook {g + 1}")


def file_name(name: str) -> str:
    """The name of the PNG file of a picture. Raises `DamagedFile` for a name that contains a path or is not valid."""
    if name in ("", ".", "..") or "\0" in name or Path(name).name != name or os.path.isabs(name):
        raise DamagedFile(f"{name!r} is not the name of a file")
    return Path(name).with_suffix(".png").name


def render(codec: Codec, tokens: Tokens, picture: PictureTokens, progress: Progress | None = None) -> Picture:
    """Decode one of the pictures of `tokens`. Raises `UnknownModel`, `DamagedFile` or `LimitExceeded`."""
    model = codec.model
    if tokens.digest != model.digest.hex():
        raise UnknownModel(
            f"the tokens are from another model (digest {tokens.digest}), "
            f"not from {model.name} (digest {model.digest.hex()})"
        )
    if tokens.stride != model.config.vqvae.stride or tokens.vocabulary != vocabulary(model):
        raise DamagedFile("the tokens do not fit their model; the file is damaged")
    codec.refuse_beyond_limits(picture.height, picture.width)
    shape = (picture.height, picture.width)
    codes = picture.codes.astype(np.int32)
    return Picture(codec.render(codes, picture.quality, shape, picture.mode, progress), picture.mode)


def _dtype(tokens: Tokens) -> type[np.unsignedinteger]:
    return np.uint16 if tokens.wide else np.uint8


def _checksum(codes: npt.NDArray[np.integer]) -> int:
    return zlib.crc32(codes.astype(codes.dtype.newbyteorder("<"), order="C", copy=False))
