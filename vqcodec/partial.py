"""Parts of a file: a region of the picture, or what is left of a damaged one.

In: the bytes of a .vq file. Out: a `Picture`, from those units of coding alone that are needed, or sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqcodec.alpha import decode_alpha
from vqcodec.codec import Codec, Progress, read_part, share_of, unit_bounds
from vqcodec.coding.integer_prior import Codes
from vqcodec.container import alpha_payload, read_header, unit_payload
from vqcodec.errors import BadFile, DamagedFile, UsageError
from vqcodec.image import Picture

__all__ = ["Region", "Salvaged", "decode_region", "salvage"]

Samples = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
CODING_SHARE = 0.7  # of the time, as progress is told


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels; right and lower edge are exclusive."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Salvaged:
    """A picture of which parts may be made up, and what was lost, in words."""

    picture: Picture
    damage: tuple[str, ...]


def decode_region(codec: Codec, data: bytes, region: Region, progress: Progress | None = None) -> Picture:
    """The region of the picture in a .vq file; the time grows with the region, not with the picture.

    Its pixels are those that `Codec.decompress` gives there (but for the last bit of a float). Raises `BadFile` where
    a unit that it needs is damaged, `UsageError` for a region that is not within the picture.
    """
    header = read_header(data)
    bounds = unit_bounds(header, codec.model)
    right, bottom = region.left + region.width, region.top + region.height
    inside = 0 <= region.left < right <= header.width and 0 <= region.top < bottom <= header.height
    if not inside:
        raise UsageError(
            f"the region {region.left},{region.top},{region.width},{region.height} is not within the picture of "
            f"{header.width}x{header.height} pixels; give X,Y,WIDTH,HEIGHT"
        )
    stride, reach = codec.model.config.vqvae.stride, codec.network.decoder_reach
    top_row, bottom_row = max(0, region.top // stride - reach), -(-bottom // stride) + reach
    left_col, right_col = max(0, region.left // stride - reach), -(-right // stride) + reach
    wanted = [
        index
        for index, (top, low, left, far) in enumerate(bounds)
        if top < bottom_row and low > top_row and left < right_col and far > left_col
    ]
    payloads = {index: unit_payload(data, header, index) for index in wanted}
    codes = read_part(header, codec.model, payloads, codec.prior, share_of(progress, 0, CODING_SHARE))
    y, x = bounds[wanted[0]][0], bounds[wanted[0]][2]  # what was read begins here
    low, far = (max(bounds[index][side] for index in wanted) for side in (1, 3))
    shape = (min(header.height - y * stride, (low - y) * stride), min(header.width - x * stride, (far - x) * stride))
    pixels = codec.render(
        codes[:, y:low, x:far], header.quality + 1, shape, header.mode, share_of(progress, CODING_SHARE, 1)
    )
    rows = slice(region.top - y * stride, bottom - y * stride)
    columns = slice(region.left - x * stride, right - x * stride)
    payload = alpha_payload(data, header)
    alpha = None
    if payload is not None:
        alpha = decode_alpha(payload, header.height, header.width)[region.top : bottom, region.left : right]
    return Picture(np.ascontiguousarray(pixels[rows, columns]), header.mode, alpha)


def salvage(codec: Codec, data: bytes, progress: Progress | None = None) -> Salvaged:
    """All that can be had of a damaged .vq file whose header is sound.

    What was lost is filled smoothly with the colours around it; lost transparency becomes none. Raises `BadFile` where
    the header is damaged, or every unit.
    """
    header = read_header(data, partial=True)
    bounds = unit_bounds(header, codec.model)
    payloads: dict[int, bytes] = {}
    damage: list[str] = []
    for index in range(len(bounds)):
        try:
            payloads[index] = unit_payload(data, header, index)
        except DamagedFile:
            damage.append(f"unit {index} (row {index // header.cols}, column {index % header.cols}) was lost")
    if not payloads:
        raise DamagedFile("every unit of the file is damaged; nothing can be saved")
    codes = read_part(header, codec.model, payloads, codec.prior, share_of(progress, 0, CODING_SHARE))
    lost = np.ones(codes.shape[1:], bool)
    for index in payloads:
        top, bottom, left, right = bounds[index]
        lost[top:bottom, left:right] = False
    if lost.any():
        codes = _spread(codes, lost)
    shape = (header.height, header.width)
    pixels = codec.render(codes, header.quality + 1, shape, header.mode, share_of(progress, CODING_SHARE, 1))
    if lost.any():
        stride = codec.model.config.vqvae.stride
        mask = np.kron(lost, np.ones((stride, stride), bool))[: shape[0], : shape[1]]
        pixels = _fill(pixels, mask)
    alpha = None
    try:
        payload = alpha_payload(data, header)
        alpha = None if payload is None else decode_alpha(payload, *shape)
    except BadFile:
        damage.append("its transparency was lost")
    return Salvaged(Picture(pixels, header.mode, alpha), tuple(damage))


def _spread(codes: Codes, lost: Mask) -> Codes:
    """Codes [G, h, w] with those of the nearest sound cell where they were lost, so that edges decode undisturbed."""
    height, width = lost.shape
    source = np.where(lost, -1, np.arange(height * width).reshape(height, width))
    while (source < 0).any():
        padded = np.pad(source, 1, constant_values=-1)
        for shifted in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
            source = np.where(source < 0, shifted, source)
    return codes.reshape(len(codes), -1)[:, source]


def _fill(pixels: Samples, mask: Mask) -> Samples:
    """Pixels [H, W, 3] with those under the mask made up from the others, smoothly.

    By a pyramid (the pull-push of Gortler et al. 1996, "The Lumigraph", section 3.4): means of what is known, at half
    the size again and again until nothing is missing; then back up, into what is missing only.
    """
    weight = (~mask).astype(np.float32)[:, :, None]
    colour = pixels * weight
    levels = []
    while weight.min() == 0 and max(weight.shape) > 1:
        levels.append((colour, weight))
        colour, weight = _halved(colour * weight), _halved(weight)
        colour, weight = colour / np.maximum(weight, 1e-9), np.minimum(weight, 1)
    for finer, share in reversed(levels):
        colour = share * finer + (1 - share) * _doubled(colour)[: finer.shape[0], : finer.shape[1]]
    return np.where(mask[:, :, None], colour.round().clip(0, 255).astype(np.uint8), pixels)


def _halved(values: Floats) -> Floats:
    """Sums of 2 x 2 blocks: [H, W, C] -> [ceil(H / 2), ceil(W / 2), C]."""
    height, width, channels = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    result: Floats = even.reshape(-(-height // 2), 2, -(-width // 2), 2, channels).sum((1, 3))
    return result


def _doubled(values: Floats) -> Floats:
    """Twice the size, by linear interpolation: [H, W, C] -> [2 H, 2 W, C]."""
    for axis in (0, 1):
        values = values.repeat(2, axis)
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        before, after = np.delete(padded, (-1, -2), axis), np.delete(padded, (0, 1), axis)
        values = (before + 2 * values + after) * np.float32(0.25)
    return values
