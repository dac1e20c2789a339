"""Results of a benchmark as plain records: everything that the terminal, JSON, CSV and the HTML page show.

Created by `runner`, `curves`, `anatomy` and `published`; read by `report`, `tables` and `html`. Nothing is computed
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from vqcodec.bench.match import Match

__all__ = ["Anatomy", "Codebook", "Comparison", "Published", "Results", "Row", "Shown", "SizeComparison", "View"]


@dataclass(frozen=True)
class Row:
    """The figures of one picture with one codec at one quality, or their mean over pictures (`means.mean`).

    codec: a label that is unique in a run, such as "photo" or "webp". digest: of the model (hexadecimal), "" for other
    codecs. quality: on the codec's own scale; higher is always better; 0 for a codec without loss.
    channels: 3, or 1 for a grey picture. Alpha does not count as a channel, but its bytes are included in `bytes`.
    bpp: 8 * bytes / (H * W). bits_per_dim: 8 * bytes / (H * W * channels). ratio: H * W * channels / bytes.
    naive_ratio: the ratio if every index took log2 K bits, without prior and header. gain: ratio / naive_ratio. Both
    are nan for codecs without indices.
    ssimulacra2 to psnr: the measures of `vqcodec.picture.measures`, by their names there. A measure is nan if it is not
    defined for the size of the picture, or if the program that it needs is not installed; psnr is infinite if the
    pictures are equal. Alpha does not count: it must be reproduced exactly.
    *_seconds: wall time of coding, without file access. *_cpu_seconds: CPU time of all threads. *_mpixel_s: 10^6 pixels
    per second of wall time. If the size was matched, the encoding time includes the whole search.
    peak_mib: peak resident memory (MiB) of the process while coding, including Python and libraries; nan where it is
    not available.
    error: why there are no figures. note: a remark about the figures.
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
    ssimulacra2: float = math.nan
    butteraugli_3norm: float = math.nan
    butteraugli_max: float = math.nan
    ms_ssim: float = math.nan
    psnr_y: float = math.nan
    psnr: float = math.nan
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
    """A codec's rate-distortion curve compared with the anchor's, by one measure.

    measure: a name of `vqcodec.picture.measures.MEASURES`. Figures are in the unit of the axis of its curves
    (`Measure.on_axis`), on which higher is better.
    bd_rate: difference of the bits at equal quality, in percent; negative if `codec` needs fewer. low, high: the range
    of the measure that both curves cover. share: that range as a share of the range of `codec`.
    bd_quality: mean difference at equal bpp; positive if `codec` is better. low_bpp, high_bpp and rate_share are
    the range of rates and its share, likewise.
    If the curves do not overlap, the figures are nan and `reason` says why. published: `codec` was not measured here.
    picture_rate: mean of the BD-rates of single pictures, which gives pictures that need many bits no extra weight.
    compared: the number of pictures in that mean, those whose curves overlap. fewer: on how many of them `codec` needs
    fewer bits.
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
    pictures: int  # number of pictures in the means; 0 if unknown
    published: bool = False
    reason: str | None = None
    picture_rate: float = math.nan
    compared: int = 0
    fewer: int = 0


@dataclass(frozen=True)
class SizeComparison:
    """The sizes of a codec's files without loss, relative to those of the codec `reference`; below 1 is smaller."""

    codec: str
    reference: str
    pictures: int  # those where neither codec has an error
    share: float  # the sum of the bytes over the sum of the reference's; nan without pictures
    picture_share: float  # geometric mean of the ratios of single pictures
    fewer: int  # on how many pictures `codec` needs fewer bytes


@dataclass(frozen=True)
class Published:
    """A point of a published curve, not measured here. Figures that the source does not give are nan."""

    codec: str
    bpp: float
    psnr: float
    ms_ssim: float
    encode_seconds: float
    decode_seconds: float
    source: str


@dataclass(frozen=True)
class Codebook:
    """The codes of one codebook in a file. Bits are sums over all positions."""

    size: int  # K
    bits: float  # ideal, with the prior
    zero_order_bits: float  # positions times the entropy of the code frequencies in this file
    perplexity: float  # 2 to that entropy: the effective number of codes in use


@dataclass(frozen=True)
class Anatomy:
    """The sizes of the parts of a .vq file: total = header + checksums of the parts + alpha + post-filter + payload."""

    image: str
    codec: str
    quality: float
    positions: int  # of the latent grid that carry codes
    units: int
    total_bytes: float
    header_bytes: float  # including the unit lengths and the checksum of the header
    checksum_bytes: float  # 4 bytes for each unit and chunk
    alpha_bytes: float
    postfilter_bytes: float  # the filter weights fitted to the picture
    payload_bytes: float
    stored_bytes: float  # of the payload: pixels that are stored without loss
    ideal_bits: float  # sum of -log2 p over all codes, p from the prior's integer counts
    overhead_bits: float  # of the range coder and of maps: 8 * (payload_bytes - stored_bytes) - ideal_bits
    zero_order_bits: float  # without the prior: the sum over the codebooks
    naive_bits: float  # with log2 K bits for every index
    prior_gain: float  # zero_order_bits / ideal_bits
    codebooks: tuple[Codebook, ...]


@dataclass(frozen=True)
class Shown:
    """A decoded picture for the viewer, and the figures of the file that it was decoded from."""

    row: Row
    picture: bytes  # an image file, lossless
    media: str  # its media type, such as "image/webp"


@dataclass(frozen=True)
class View:
    """One picture in the viewer: the original, and each codec's decoded picture at about the same file size."""

    image: str  # as in Row.image
    width: int
    height: int
    bpp: float  # the target rate of the codecs
    original: bytes  # an image file, lossless
    media: str
    shown: Mapping[str, Shown]  # by Row.codec, in the order of the run


@dataclass(frozen=True)
class Results:
    """All results of a run. Rows, means and comparisons are in the order of the run."""

    rows: tuple[Row, ...]
    means: tuple[Row, ...]  # one for each codec and quality; `image` states the number of pictures
    bd: tuple[Comparison, ...] = ()
    sizes: tuple[SizeComparison, ...] = ()  # one for each codec if all files are without loss
    published: tuple[Published, ...] = ()  # in the order of the file; the points of a curve are adjacent
    anatomy: tuple[Anatomy, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # name -> version or setting
    codecs: Mapping[str, str] = field(default_factory=dict)  # label -> settings for display
    pictures: Mapping[str, View] = field(default_factory=dict)  # by Row.image; empty unless an HTML page was requested
    anchor: str | None = None
    match: Match | None = None  # the target, if all rows were encoded for one
