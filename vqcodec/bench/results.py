"""What a benchmark has found, as plain records: everything that the terminal, JSON, CSV and the HTML page show.

Made by `runner`, `curves`, `anatomy` and `published`; read by `report` and `html`. Nothing is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Anatomy", "Codebook", "Comparison", "Published", "Results", "Row", "Shown", "View"]


@dataclass(frozen=True)
class Row:
    """The figures of one picture with one codec at one quality, or their mean over pictures (`means.mean`).

    codec: a label that is unique in a run, such as "photo" or "webp"; digest: of the model (hexadecimal), "" for other
    codecs. quality: on the codec's own scale; higher is always better.
    channels: 3, or 1 for a grey picture; alpha is not counted as a channel, yet its bytes are in `bytes`.
    bpp: 8 * bytes / (H * W); bits_per_dim: 8 * bytes / (H * W * channels); ratio: H * W * channels / bytes.
    naive_ratio: the ratio if every index were stored in log2 K bits, with no prior and no header; gain: ratio
    over naive_ratio; both nan for codecs without indices.
    psnr in dB (infinite where the pictures are equal) and ms_ssim (nan where a side is too short for it) are on the
    channels above, psnr_y on luma (BT.601). Alpha must come back exactly.
    Seconds: time of coding in its process, without files: wall time, and CPU time of all threads; mpixel_s: 10^6
    pixels per second of wall time. With a matched size, encoding is the whole search.
    peak_mib: the most memory (MiB, resident) that the process had while coding, Python and libraries included; nan
    where the system does not tell.
    error: why there are no figures. note: what is to be known about the figures.
    """

    image: str
    codec: str
    quality: float
    digest: str = ""
    width: int = 0
    height: int = 0
    channels: int = 0
    bytes: float = 0
    bpp: float = 0.0
    bits_per_dim: float = 0.0
    ratio: float = 0.0
    naive_ratio: float = 0.0
    gain: float = 0.0
    psnr: float = 0.0
    psnr_y: float = 0.0
    ms_ssim: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    encode_cpu_seconds: float = 0.0
    decode_cpu_seconds: float = 0.0
    encode_mpixel_s: float = 0.0
    decode_mpixel_s: float = 0.0
    peak_mib: float = 0.0
    error: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A curve against the anchor's, by one measure.

    measure: "psnr", "psnr_y" or "ms_ssim", the last in dB too: -10 log10(1 - MS-SSIM).
    bd_rate: percent of bits at equal quality, negative if `codec` needs fewer; low, high: the range of the measure that
    both curves reach, and share: how much that is of the range of `codec`. bd_quality: mean difference at equal bpp in
    dB, positive if `codec` is better; low_bpp, high_bpp and rate_share likewise.
    nan, with the reason, where the curves do not overlap. published: `codec` was not measured here.
    picture_rate: the mean of the bd_rates of single pictures, so that those that need many bits count as others do;
    compared: of how many, those whose curves overlap; fewer: on how many of them `codec` needs fewer bits.
    """

    codec: str
    anchor: str
    measure: str
    bd_rate: float
    bd_quality: float
    low: float
    high: float
    share: float
    low_bpp: float
    high_bpp: float
    rate_share: float
    pictures: int  # that the means are taken over; 0 if unknown
    published: bool = False
    reason: str | None = None
    picture_rate: float = math.nan
    compared: int = 0
    fewer: int = 0


@dataclass(frozen=True)
class Published:
    """A point that somebody else published: not measured here. nan where the source does not say."""

    codec: str
    bpp: float
    psnr: float
    ms_ssim: float
    encode_seconds: float
    decode_seconds: float
    source: str


@dataclass(frozen=True)
class Codebook:
    """The codes of one codebook in a file. Bits are of all positions together."""

    size: int  # K
    bits: float  # ideal, with the prior
    zero_order_bits: float  # positions times the entropy of the codes' frequencies in this file
    perplexity: float  # 2 to that entropy: how many codes are in effective use


@dataclass(frozen=True)
class Anatomy:
    """Where the bytes of a .vq file go: total = header + checksums of the parts + alpha + post-filter + payload."""

    image: str
    codec: str
    quality: float
    positions: int  # of the latent grid
    units: int
    total_bytes: float
    header_bytes: float  # lengths of the units and the checksum of the header included
    checksum_bytes: float  # 4 for each unit and chunk
    alpha_bytes: float
    postfilter_bytes: float  # the weights that suit the picture
    payload_bytes: float
    ideal_bits: float  # sum of -log2 p over all codes, p from the prior's integer counts
    overhead_bits: float  # of the range coder: 8 * payload_bytes - ideal_bits
    zero_order_bits: float  # without the prior: the codebooks' sums
    naive_bits: float  # every index in log2 K bits
    prior_gain: float  # zero_order_bits / ideal_bits
    codebooks: tuple[Codebook, ...]


@dataclass(frozen=True)
class Shown:
    """A decoded picture for the viewer, and the figures of the very file that it came out of."""

    row: Row
    picture: bytes  # an image file, lossless
    media: str  # its media type, such as "image/webp"


@dataclass(frozen=True)
class View:
    """One picture in the viewer: the original, and what each codec made of it at about the same size."""

    image: str  # as in Row.image
    width: int
    height: int
    bpp: float  # the size that the codecs were to match
    original: bytes  # an image file, lossless
    media: str
    shown: Mapping[str, Shown]  # by Row.codec, in the order of the run


@dataclass(frozen=True)
class Results:
    """All of a run. Rows, means and comparisons are in the order of the run."""

    rows: tuple[Row, ...]
    means: tuple[Row, ...]  # one for each codec and quality; image says of how many pictures
    bd: tuple[Comparison, ...] = ()
    published: tuple[Published, ...] = ()  # in the order of the file, a curve's points together
    anatomy: tuple[Anatomy, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # what -> its version, name or setting
    codecs: Mapping[str, str] = field(default_factory=dict)  # label -> settings in words
    pictures: Mapping[str, View] = field(default_factory=dict)  # by Row.image; empty unless a page was asked for
    anchor: str | None = None
    match: float | None = None  # bpp, where all rows were matched in size
