"""Bytes of a .vq file -> `Anatomy`: the sizes of its parts, the ideal code length, and the entropy coder's overhead.

In: the bytes of a file and its model. Out: an `Anatomy`. Does not need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vqcodec.bench.results import Anatomy, Codebook
from vqcodec.codec.content import read_part
from vqcodec.format import container
from vqcodec.windows import split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vqcodec.model.store import Model

__all__ = ["dissect", "entropy_bits", "mean_anatomy"]

CHECKSUM = 4  # bytes, stored in front of each part


def dissect(data: bytes, model: Model) -> Anatomy:
    """The anatomy of a .vq file; `image` and `codec` are left empty. Raises `BadFile` or `UnknownModel`.

    The ideal size of a code is -log2(count / sum of counts), with the prior's integer counts: Shannon's bound for the
    prior stored in the model. Zero-order entropies use the code frequencies of this file and ignore the cost of
    sending those frequencies to the decoder.
    """
    header, file = container.read_header(data), container.unpack(data)
    prior = model.prior(file.quality)
    content = read_part(file, model, dict(enumerate(file.units)))
    sizes = [size for size, _ in model.config.vqvae.codebooks]
    bits = np.zeros(len(sizes))
    unit = model.config.unit
    masks = [mask[0] for row in split(content.coded[None], unit) for mask in row]
    for grid, mask in zip((grid for row in split(content.codes, unit) for grid in row), masks, strict=True):
        flat = grid.reshape(len(sizes), -1)
        for g, counts in enumerate(prior.evaluate_cells(prior.states(grid, mask), flat)):
            if not prior.constant(g):
                chosen = np.take_along_axis(counts, flat[g][:, None], 1)[:, 0].astype(np.float64)
                cost = np.log2(counts.sum(axis=1, dtype=np.float64) / chosen)
                bits[g] += cost[mask.reshape(-1)].sum()
    codes = content.codes[:, content.coded]
    positions = codes.shape[1]
    stored = sum(map(len, content.streams.values()))
    books = []
    for size, ideal, used in zip(sizes, bits.tolist(), codes, strict=True):
        zero_order = entropy_bits(used)
        books.append(Codebook(size, ideal, zero_order, float(2 ** (zero_order / max(1, positions)))))
    parts = len(header.unit_lengths) + (header.alpha_bytes > 0) + (header.postfilter_bytes > 0)
    payload = sum(header.unit_lengths)
    zero_order = sum(book.zero_order_bits for book in books)
    ideal = float(bits.sum())
    return Anatomy(
        image="",
        codec="",
        quality=file.quality + 1,
        positions=positions,
        units=len(header.unit_lengths),
        total_bytes=len(data),
        header_bytes=header.header_bytes,
        checksum_bytes=CHECKSUM * parts,
        alpha_bytes=header.alpha_bytes,
        postfilter_bytes=header.postfilter_bytes,
        payload_bytes=payload,
        stored_bytes=stored,
        ideal_bits=ideal,
        overhead_bits=8 * (payload - stored) - ideal,
        zero_order_bits=zero_order,
        naive_bits=positions * model.config.vqvae.naive_bits,
        prior_gain=zero_order / ideal if ideal else 1.0,
        codebooks=tuple(books),
    )


def entropy_bits(codes: NDArray[np.int32]) -> float:
    """Total bits at zero order: the number of codes times the entropy of their frequencies."""
    _, counts = np.unique(codes, return_counts=True)
    return float((counts * np.log2(codes.size / counts)).sum())


def mean_anatomy(anatomies: list[Anatomy]) -> Anatomy:
    """Means of all figures over the files of one codec and quality.

    `prior_gain` is the ratio of the mean bit counts, not the mean of the files' gains.
    """

    def average(figure: str) -> float:
        return float(sum(getattr(anatomy, figure) for anatomy in anatomies)) / len(anatomies)

    books = []
    for same in zip(*(anatomy.codebooks for anatomy in anatomies), strict=True):
        count = len(same)
        bits, zero_order = sum(b.bits for b in same) / count, sum(b.zero_order_bits for b in same) / count
        books.append(Codebook(same[0].size, bits, zero_order, sum(b.perplexity for b in same) / count))
    ideal = average("ideal_bits")
    return Anatomy(
        image=f"mean of {len(anatomies)}",
        codec=anatomies[0].codec,
        quality=anatomies[0].quality,
        positions=round(average("positions")),
        units=round(average("units")),
        total_bytes=average("total_bytes"),
        header_bytes=average("header_bytes"),
        checksum_bytes=average("checksum_bytes"),
        alpha_bytes=average("alpha_bytes"),
        postfilter_bytes=average("postfilter_bytes"),
        payload_bytes=average("payload_bytes"),
        stored_bytes=average("stored_bytes"),
        ideal_bits=ideal,
        overhead_bits=average("overhead_bits"),
        zero_order_bits=average("zero_order_bits"),
        naive_bits=average("naive_bits"),
        prior_gain=average("zero_order_bits") / ideal if ideal else 1.0,
        codebooks=tuple(books),
    )
