"""CSV file of published rate-distortion curves -> `Published` points, for codecs that cannot be run here.

In: CSV with a header line. Required columns: codec and bpp. Optional columns: psnr (dB), ms_ssim or msssim, enc_s and
dec_s (seconds), source. An empty cell means that the source does not give the figure. Out: a list of points.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from vqcodec.bench.results import Published
from vqcodec.errors import UsageError

__all__ = ["read_published"]


def read_published(path: Path) -> list[Published]:
    """Read the points of a file. Raises `UsageError`, with the number of the line that is not valid."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a CSV file in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text))
    missing = {"codec", "bpp"} - set(reader.fieldnames or ())
    if missing:
        raise UsageError(f"{path}: no column {sorted(missing)[0]!r} in the header line")
    points = []
    for line in reader:
        try:
            points.append(_point(line))
        except ValueError as error:
            raise UsageError(f"{path}, line {reader.line_num}: {error}") from None
    return points


def _point(line: dict[str, str]) -> Published:
    """The point of a line. Raises `ValueError`."""

    def number(*names: str) -> float:
        text = next((line[name] for name in names if line.get(name)), "")
        try:
            return float(text) if text.strip() else math.nan
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None

    codec, bpp = (line["codec"] or "").strip(), number("bpp")
    if not codec:
        raise ValueError("the name of the codec is missing")
    if not (math.isfinite(bpp) and bpp > 0):
        raise ValueError("bpp must be greater than 0")
    ms_ssim = number("ms_ssim", "msssim")
    if ms_ssim > 1:
        raise ValueError(f"the MS-SSIM must be at most 1, not {ms_ssim:g}")
    source = (line.get("source") or "").strip()
    return Published(codec, bpp, number("psnr"), ms_ssim, number("enc_s"), number("dec_s"), source)
