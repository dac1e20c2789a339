"""Partial decoding: a region of the picture, or the intact parts of a damaged file.

In: the bytes of a .vq file. Out: a `Picture`. Only the units of coding that are needed, or intact, are decoded.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import grid_shape, read_part, unit_bounds
from vqcodec.errors import BadFile, DamagedFile, UsageError
from vqcodec.format.container import (
    Frame,
    alpha_payload,
    metadata_payload,
    postfilter_payload,
    read_header,
    read_metadata,
    unit_payload,
)
from vqcodec.limits import ANY_SIZE
from vqcodec.picture.alpha import unpack_alpha
from vqcodec.picture.metadata import NAMES, Metadata
from vqcodec.picture.picture import Picture
from vqcodec.progress import Progress, share_of
from vqcodec.windows import cover

__all__ = ["Region", "Salvaged", "decompress_region", "salvage"]

Samples = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
CODING_SHARE = 0.7  # share of the time that entropy decoding takes, for progress reports
FILL_WINDOW, FILL_REACH = 64, 2  # in cells: side of a window, and the margin that its interpolated pixels depend on


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels: its top left pixel and its size."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Salvaged:
    """A picture, parts of which may be interpolated, and one line of text for each loss."""

    picture: Picture
    damage: tuple[str, ...]


def decompress_region(codec: Codec, data: bytes, region: Region, progress: Progress | None = None) -> Picture:
    """Decode a region of the picture in a .vq file. The time depends on the size of the region, not of the picture.

    The pixels equal those of `Codec.decompress`, except for differences in the last bit of a float. Raises `BadFile` if
    a unit that the region needs is damaged, `UsageError` for a region that is not within the picture, and
    `LimitExceeded` for a region beyond the codec's limits.
    """
    header = read_header(data, ANY_SIZE)
    bounds = unit_bounds(header, codec.model)
    right, bottom = region.left + region.width, region.top + region.height
    inside = 0 <= region.left < right <= header.width and 0 <= region.top < bottom <= header.height
    if not inside:
        raise UsageError(
            f"the region {region.left},{region.top},{region.width},{region.height} is not within the picture of "
            f"{header.width}x{header.height} pixels; give X,Y,WIDTH,HEIGHT"
        )
    stride, reach = codec.model.config.vqvae.stride, codec.network.config.decoder_reach
    top_row, bottom_row = max(0, region.top // stride - reach), -(-bottom // stride) + reach
    left_col, right_col = max(0, region.left // stride - reach), -(-right // stride) + reach
    wanted = [
        index
        for index, (top, low, left, far) in enumerate(bounds)
        if top < bottom_row and low > top_row and left < right_col and far > left_col
    ]
    y, x = bounds[wanted[0]][0], bounds[wanted[0]][2]  # top left position of the units that are read
    low, far = (max(bounds[index][side] for index in wanted) for side in (1, 3))
    shape = (min(header.height - y * stride, (low - y) * stride), min(header.width - x * stride, (far - x) * stride))
    # Alpha is one PNG of the whole picture: it is decoded as a whole, however small the region.
    codec.refuse_beyond_limits(*((header.height, header.width) if header.alpha_bytes else shape))
    # Treat the units of the region as a picture of their own: the whole grid may not fit into memory.
    grid = grid_shape(*shape, stride * header.unit)
    frame = (header.model_digest, shape[1], shape[0], header.mode, header.quality, header.unit)
    block = Frame(*frame, *grid, stored=header.stored)
    payloads = {place: unit_payload(data, header, index) for place, index in enumerate(wanted)}
    content = read_part(block, codec.model, payloads, codec.prior, share_of(progress, 0, CODING_SHARE), codec.workers)
    weights = codec.weights(postfilter_payload(data, header))
    rest = share_of(progress, CODING_SHARE, 1)
    pixels = codec.decode(content, header.quality + 1, shape, header.mode, rest, weights)
    rows = slice(region.top - y * stride, bottom - y * stride)
    columns = slice(region.left - x * stride, right - x * stride)
    payload = alpha_payload(data, header)
    alpha = None
    if payload is not None:
        alpha = unpack_alpha(payload, header.height, header.width)[region.top : bottom, region.left : right]
    samples = np.ascontiguousarray(pixels[rows, columns])
    return Picture(samples, header.mode, alpha, metadata=read_metadata(data, header))


def salvage(codec: Codec, data: bytes, progress: Progress | None = None) -> Salvaged:
    """Decode the intact parts of a damaged .vq file.

    Lost units are filled by smooth interpolation of the colours around them. A picture that lost its transparency is
    returned without alpha. Raises `BadFile` if the header or every unit is damaged.
    """
    header = read_header(data, codec.limits, partial=True)
    bounds = unit_bounds(header, codec.model)
    payloads: dict[int, bytes] = {}
    for index in range(len(bounds)):
        with suppress(DamagedFile):
            payloads[index] = unit_payload(data, header, index)
    if not payloads:
        raise DamagedFile("every unit of the file is damaged; nothing can be recovered")
    damage = _losses([index for index in range(len(bounds)) if index not in payloads], header.cols)
    content = read_part(header, codec.model, payloads, codec.prior, share_of(progress, 0, CODING_SHARE), codec.workers)
    lost = ~(content.coded | content.stored)
    shape = (header.height, header.width)
    weights = None
    try:
        weights = codec.weights(postfilter_payload(data, header))
    except BadFile:
        damage.append("the weights of its post-filter were lost; the picture is slightly less accurate")
    rest = share_of(progress, CODING_SHARE, 1)
    pixels = codec.decode(content, header.quality + 1, shape, header.mode, rest, weights)
    if lost.any():
        _fill(pixels, lost, codec.model.config.vqvae.stride)
    alpha = None
    try:
        payload = alpha_payload(data, header)
        alpha = None if payload is None else unpack_alpha(payload, *shape)
    except BadFile:
        damage.append("its transparency was lost")
    metadata: dict[str, bytes] = {}
    for kind, name in NAMES.items():
        try:
            metadata[kind] = metadata_payload(data, header, kind)
        except DamagedFile:
            damage.append(f"its {name} was lost")
    return Salvaged(Picture(pixels, header.mode, alpha, metadata=Metadata(**metadata)), tuple(damage))


def _losses(lost: list[int], cols: int) -> list[str]:
    """One line for each run of lost units, so that a truncated file gives few lines, however large it is."""
    lines = []
    for _, run in groupby(enumerate(lost), lambda pair: pair[1] - pair[0]):
        indices = [index for _, index in run]
        where = f"{indices[0]} (row {indices[0] // cols}, column {indices[0] % cols})"
        several = f"{len(indices)} units from {where} on were lost"
        what = several if len(indices) > 1 else f"unit {where} was lost"
        lines.append(f"{what}; the area is filled with interpolated colours")
    return lines


def _fill(pixels: Samples, lost: Mask, stride: int) -> None:
    """Fill the lost cells [h, w] of pixels [H, W, 3] in place, by smooth interpolation of the colours around them.

    Uses a pyramid over the mean colours of the cells, the pull-push algorithm (Gortler et al. 1996, "The Lumigraph",
    section 3.4). Going down, each level has half the size and averages the known cells, until no cell is missing. Going
    up, each level fills its missing cells from the coarser one. The last step interpolates from cells to pixels, one
    window at a time.
    """
    weight = (~lost).astype(np.float32)[:, :, None]
    colour = _cell_means(pixels, stride) * weight
    levels = []
    while weight.min() == 0 and max(weight.shape) > 1:
        levels.append((colour, weight))
        colour, weight = _halved(colour * weight), _halved(weight)
        colour, weight = colour / np.maximum(weight, 1e-9), np.minimum(weight, 1)
    for finer, share in reversed(levels):
        colour = share * finer + (1 - share) * _doubled(colour)[: finer.shape[0], : finer.shape[1]]
    rows, columns = lost.shape
    for window in cover(rows, columns, FILL_WINDOW, FILL_REACH):
        if lost[window.core()].any():
            patch = colour[window.outer()]
            for _ in range(stride.bit_length() - 1):
                patch = _doubled(patch)
            target = pixels[window.core(stride)]
            height, width, _ = target.shape
            mask = np.kron(lost[window.core()], np.ones((stride, stride), bool))[:height, :width]
            target[mask] = patch[window.inner(stride)][:height, :width][mask].round().clip(0, 255)


def _cell_means(pixels: Samples, stride: int) -> Floats:
    """The mean colour of each cell of pixels [H, W, 3]: [h, w, 3]; cells at the right and lower edge may be smaller."""
    height, width, _ = pixels.shape
    rows, columns = np.arange(0, height, stride), np.arange(0, width, stride)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.uint16), columns, axis=1, dtype=np.float32)
    counts = np.outer(np.minimum(stride, height - rows), np.minimum(stride, width - columns))
    means: Floats = np.divide(sums, counts[:, :, None], dtype=np.float32)
    return means


def _halved(values: Floats) -> Floats:
    """Sums of 2 x 2 blocks: [H, W, C] -> [ceil(H / 2), ceil(W / 2), C]."""
    height, width, channels = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    result: Floats = even.reshape(-(-height // 2), 2, -(-width // 2), 2, channels).sum((1, 3))
    return result


def _doubled(values: Floats) -> Floats:
    """Upsample by 2 with linear interpolation: [H, W, C] -> [2 H, 2 W, C]."""
    for axis in (0, 1):
        values = values.repeat(2, axis)
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        before, after = np.delete(padded, (-1, -2), axis), np.delete(padded, (0, 1), axis)
        values = (before + 2 * values + after) * np.float32(0.25)
    return values
