"""The size of a file -> its rate: bits per pixel, bits/dim and compression ratios.

In: bytes on disk and the shape of the picture. Out: plain numbers; lower is better, but for the ratios.
"""

from __future__ import annotations

__all__ = ["bits_per_dim", "bits_per_pixel", "compression_ratio", "naive_ratio"]


def bits_per_pixel(size: int, height: int, width: int) -> float:
    """Bits per pixel of a file of `size` bytes: 8 size / (H W)."""
    return 8 * size / (height * width)


def bits_per_dim(size: int, height: int, width: int, channels: int) -> float:
    """Bits per sample of the picture: 8 size / (H W C).

    The unit of likelihood models of pictures (PixelRNN, van den Oord et al. 2016, section 5.1).
    """
    return 8 * size / (height * width * channels)


def compression_ratio(size: int, height: int, width: int, channels: int) -> float:
    """How many times smaller than the raw 8-bit samples a file of `size` bytes is: H W C / size."""
    return height * width * channels / size


def naive_ratio(height: int, width: int, channels: int, stride: int, bits_per_position: float) -> float:
    """Compression ratio if every code were stored as it is, without a prior or a header.

    8 H W C / (ceil(H/stride) ceil(W/stride) bits); 128 x 128 RGB at stride 4 and 9 bits gives 42.67
    (VQ-VAE, van den Oord et al. 2017, section 4.2, where one of 512 codes describes 4 x 4 pixels).
    """
    positions = -(-height // stride) * -(-width // stride)
    return 8 * height * width * channels / (positions * bits_per_position)
