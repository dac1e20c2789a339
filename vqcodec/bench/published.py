"""Curves that others published -> `Published` points, for codecs that cannot be run here.

In: CSV with a line of headings. codec and bpp are needed, and psnr (dB) or msssim; enc_s, dec_s (seconds) and source
may be there. An empty cell says that the source does not tell.
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
    """The points in a file. Raises `UsageError` with the line where it is not such a file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this is not a CSV file in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text))
    missing = {"codec", "bpp"} - set(reader.fieldnames or ())
    if missing:
        raise UsageError(f"{path}: there is no column {sorted(missing)[0]!r} in the first line")
    points = []
    for line in reader:
        try:
            points.append(_point(line))
        except ValueError as error:
            raise UsageError(f"{path}, line {reader.line_num}: {error}") from None
    return points


def _point(line: dict[str, str]) -> Published:
    def number(*names: str) -> float:
        text = next((line[name] for name in names if line.get(name)), "")
        try:
            return float(text) if text.strip() else math.nan
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None

    codec, bpp = (line["codec"] or "").strip(), number("bpp")
    if not codec:
        raise ValueError("there is no name of a codec")
    if not (math.isfinite(bpp) and bpp > 0):
        raise ValueError("bpp must be more than 0")
    ms_ssim = number("ms_ssim", "msssim")
    if ms_ssim > 1:
        raise ValueError(f"an MS-SSIM of {ms_ssim:g} is not one; it goes up to 1")
    source = (line.get("source") or "").strip()
    return Published(codec, bpp, number("psnr"), ms_ssim, number("enc_s"), number("dec_s"), source)
