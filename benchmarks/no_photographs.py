"""Pictures that are no photographs: what vqcodec's files take beside other formats at the same SSIMULACRA2, or exact.

    python -m benchmarks.no_photographs FOLDER [--model NAME] [--json FILE]

For every picture and each of the qualities 2, 4, 6 and 8 of vqcodec: its bytes, its score, and the fewest bytes in
which each other format is at least as good. A lossy format is searched for the lowest quality with that score; its
lossless variant always reaches it, so a format counts with the smaller of both. Alpha is left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqcodec.bench.bisection import lowest
from vqcodec.bench.listed_peer import ListedPeer
from vqcodec.bench.lossless_peers import lossless_peer
from vqcodec.bench.peers import peer
from vqcodec.codec.codec import Codec
from vqcodec.codec.describe import describe
from vqcodec.files.folders import pictures_in
from vqcodec.model.store import open_model
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture
from vqcodec.picture.ssimulacra2 import ssimulacra2

QUALITIES = (2, 4, 6, 8)
FORMATS = {"webp": ("webp", "webp-lossless"), "avif": ("avif", None), "jxl": ("jxl", "jxl-lossless")}
TRIALS = 8
EXACT = 100.0


def score(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """SSIMULACRA2; 100 exactly if nothing changed."""
    return EXACT if np.array_equal(before, after) else ssimulacra2(before, after)


class Rival:
    """A format: its lossy files by quality, each made once, and the size of its lossless file."""

    def __init__(self, lossy: ListedPeer, lossless: ListedPeer | None, picture: Picture) -> None:
        self.lossy, self.picture = lossy, picture
        self.files: dict[float, tuple[int, float]] = {}  # quality -> bytes, score
        self.exact = math.inf if lossless is None else len(lossless.compress(picture, 0))

    def at(self, quality: float) -> tuple[int, float]:
        """Bytes and score of the lossy file at a quality."""
        if quality not in self.files:
            data = self.lossy.compress(self.picture, quality)
            self.files[quality] = len(data), score(self.picture.pixels, self.lossy.decompress(data).pixels)
        return self.files[quality]

    def bytes_for(self, wanted: float) -> float:
        """The fewest bytes with at least that score; `inf` if there is no such file."""
        found = lowest(self.lossy.scale, lambda quality: self.at(quality)[1] >= wanted, TRIALS)
        return min(self.exact, math.inf if found is None else self.at(found)[0])


def compare(codec: Codec, path: Path, names: Sequence[str]) -> dict[str, Any]:
    """All figures of one picture."""
    picture = read_picture(path)
    picture = Picture(picture.pixels, picture.mode)
    rivals = {}
    for name in names:
        lossy, lossless = FORMATS[name]
        found = peer(lossy)
        assert found is not None
        rivals[name] = Rival(found, None if lossless is None else lossless_peer(lossless), picture)
    rows = []
    for quality in QUALITIES:
        data = codec.compress(picture, quality)
        reached = score(picture.pixels, codec.decompress(data).pixels)
        others = {name: rival.bytes_for(reached) for name, rival in rivals.items()}
        rows.append(
            {
                "quality": quality,
                "bytes": len(data),
                "ssimulacra2": round(reached, 2),
                "stored": round(describe(data).stored, 3),
                "others": {name: None if math.isinf(size) else int(size) for name, size in others.items()},
            }
        )
    return {"picture": path.stem, "pixels": picture.height * picture.width, "rows": rows}


def summary(found: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """By quality: mean and least score, and of our bytes over those of each format the median and the most."""
    lines = []
    for index, quality in enumerate(QUALITIES):
        rows = [each["rows"][index] for each in found]
        line: dict[str, Any] = {
            "quality": quality,
            "ssimulacra2": round(float(np.mean([row["ssimulacra2"] for row in rows])), 1),
            "least": min(row["ssimulacra2"] for row in rows),
        }
        for name in names:
            ratios = np.array([row["bytes"] / row["others"][name] for row in rows if row["others"][name]])
            line[name] = {
                "median": round(float(np.median(ratios)), 3),
                "larger": int((ratios > 1).sum()),
                "most": round(float(ratios.max()), 2),
                "pictures": len(ratios),
            }
        lines.append(line)
    return lines


def main(arguments: Sequence[str] | None = None, report: Callable[[str], None] = print) -> None:
    """Print a line for each picture and quality, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--formats", default="webp,avif", help="of webp, avif, jxl")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    names = options.formats.split(",")
    codec, found = Codec(open_model(options.model)), []
    for path in pictures_in(options.folder):
        found.append(compare(codec, path, names))
        for row in found[-1]["rows"]:
            others = "  ".join(f"{name} {size or '-'}" for name, size in row["others"].items())
            report(
                f"{path.stem:24} q{row['quality']}  {row['bytes']:8} bytes  SSIMULACRA2 {row['ssimulacra2']:6.2f}  "
                f"{row['stored']:4.0%} stored  {others}"
            )
    lines = summary(found, names)
    for line in lines:
        report(json.dumps(line))
    if options.json:
        result = {"model": codec.model.name, "digest": codec.model.digest.hex(), "summary": lines, "pictures": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
