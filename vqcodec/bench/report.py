"""Records -> text tables for the terminal, for the commands `info`, `models`, `demo` and `bench`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from vqcodec.bench.results import Results, Row
from vqcodec.picture.metadata import NAMES

if TYPE_CHECKING:
    from vqcodec.codec.describe import Info

__all__ = ["print_demo", "print_info", "print_models", "print_results", "print_table"]


UNITS_SHOWN = 64  # larger grids of units are only summarised


def print_demo(rows: Sequence[Row], file: TextIO) -> None:
    """A line for each file of the demo: size, fidelity and time."""
    from vqcodec.bench.table import two_digits

    headings = ["file", "bytes", "bpp", "ratio", "PSNR dB", "MS-SSIM", "encode s", "decode s"]
    lines = []
    for row in rows:
        sizes = [row.image, f"{row.bytes:,.0f}", f"{row.bpp:.3f}", f"{row.ratio:.1f}x"]
        ms_ssim = "-" if math.isnan(row.ms_ssim) else f"{row.ms_ssim:.4f}"
        fidelity = [f"{row.psnr:.2f}", ms_ssim]
        lines.append([*sizes, *fidelity, two_digits(row.encode_seconds), two_digits(row.decode_seconds)])
    print_table(headings, lines, 1, file)


def print_models(entries: Sequence[dict[str, Any]], file: TextIO) -> None:
    """A line for each model, from the entries that `vqcodec models --json` prints."""
    lines = []
    for entry in entries:
        sizes = [size for size, _ in entry["codebooks"]]
        books = f"{len(sizes)} of {min(sizes)}" + (f" to {max(sizes)}" if min(sizes) < max(sizes) else "")
        qualities = f"1 to {entry['qualities']}" if entry["qualities"] > 1 else "1"
        name = entry["name"] + (" (default)" if entry["default"] else "")
        size = f"{entry['bytes'] / 1e6:.1f} MB"
        lines.append([name, entry["digest"], str(entry["stride"]), books, qualities, size])
    print_table(["model", "digest", "stride", "codebooks", "qualities", "size"], lines, 2, file)


def print_info(found: Info, file: TextIO) -> None:
    """The output of `vqcodec info`: the fields of the header, the bits of each unit, the rates."""
    bits = [8 * count for count in found.unit_bytes]
    alpha = f" + alpha in {found.alpha_bytes:,} bytes" if found.alpha else ""
    lines = {
        "picture": f"{found.width} x {found.height} pixels, {'grey' if found.mode == 'L' else 'RGB'}{alpha}",
        "model": f"{found.model or 'not installed'} (digest {found.model_digest})",
        "quality": str(found.quality),
        "size": f"{found.total_bytes:,} bytes, header {found.header_bytes}",
        "rate": f"{found.bpp:.4f} bits/pixel, {found.bits_per_dim:.4f} bits/dim, ratio {found.ratio:.2f}x",
        "stored": f"{found.stored:.1%} of the picture without loss, {found.stored_bytes:,} bytes",
        "units": f"{found.rows} x {found.cols} of {found.unit} x {found.unit} latent positions",
        "bits/unit": f"{min(bits):,} to {max(bits):,}, mean {sum(bits) / len(bits):,.0f}",
    }
    if found.postfilter_bytes:
        lines["postfilter"] = f"weights in {found.postfilter_bytes} bytes"
    if found.metadata_bytes:
        sizes = ", ".join(f"{NAMES[kind]} {size:,}" for kind, size in found.metadata_bytes.items())
        lines["metadata"] = f"{sizes} bytes"
    for name, text in lines.items():
        print(f"{name:10} {text}", file=file)
    if 1 < found.rows * found.cols <= UNITS_SHOWN:
        for row in range(found.rows):
            cells = bits[row * found.cols : (row + 1) * found.cols]
            print(" " * 10, "".join(f"{cell:>10,}" for cell in cells), file=file)


def print_table(headings: Sequence[str], lines: Iterable[Sequence[str]], texts: int, file: TextIO) -> None:
    """Print a table without truncating cells. The first `texts` columns are left-aligned, the others right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < texts else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))  # Text, because a name may contain markup
    console = Console(file=file)
    needed = Measurement.get(console, console.options.update(width=10_000), table).maximum
    # With a height as well: otherwise rich takes 80 columns for a terminal of type "dumb", whatever its width is.
    Console(file=file, width=max(console.width, needed), height=console.height).print(table)


def print_results(results: Results, file: TextIO) -> None:
    """Print the tables of a benchmark, each below its title."""
    from vqcodec.bench.tables import tables

    for index, table in enumerate(tables(results)):
        if index:
            print(file=file)
        print(table.title, file=file)
        print_table(table.headings, table.lines, table.texts, file)
