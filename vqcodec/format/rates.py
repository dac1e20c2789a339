"""File size -> rate: bits per pixel (bpp), bits/dim and compression ratios.

In: the file size in bytes and the shape of the picture. Out: numbers. Lower is better, except for the ratios.
"""

from __future__ import annotations

__all__ = ["bits_per_dim", "bits_per_pixel", "compression_ratio", "naive_ratio"]


def bits_per_pixel(size: int, height: int, width: int) -> float:
    """Bits per pixel of a file of `size` bytes: 8 size / (H W)."""
    return 8 * size / (height * width)


def bits_per_dim(size: int, height: int, width: int, channels: int) -> float:
    """Bits per sample (bits/dim) of a file of `size` bytes: 8 size / (H W C).

    The usual unit of likelihood models of images (PixelRNN, van den Oord et al. 2016, section 5.1).
    """
    return 8 * size / (height * width * channels)


def compression_ratio(size: int, height: int, width: int, channels: int) -> float:
    """Size of the raw 8-bit samples divided by the file size in bytes: H W C / size."""
    return height * width * channels / size


def naive_ratio(height: int, width: int, channels: int, stride: int, bits_per_position: float) -> float:
    """Compression ratio if every code were stored with a fixed length, without a prior and without a header.

    8 H W C / (ceil(H/stride) ceil(W/stride) bits); 128 x 128 RGB at stride 4 and 9 bits gives 42.67
    (VQ-VAE, van den Oord et al. 2017, section 4.2, where one of 512 codes describes 4 x 4 pixels).
    """
    positions = -(-height // stride) * -(-width // stride)
    return 8 * height * width * channels / (positions * bits_per_position)
