"""Draws the project's test set of pictures that are no photographs, as PNGs.

    python -m benchmarks.drawn FOLDER [--report REPORT.html]

Text, interfaces, charts, gradients, drawings, pixel art and dithering, 640 x 400 to 1024 x 768. Nothing is read but
Pillow's own font, and all randomness is seeded, so that with one version of Pillow and numpy the set is the same
everywhere. `--report` adds a screenshot of a page that `vqcodec bench --html` or `compare --html` wrote, if Chromium is
installed; it depends on the version of Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.drawn.pictures import PICTURES, picture

SCREEN = (1024, 768)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def screenshot(page: Path, target: Path) -> str | None:
    """Write a screenshot of a page as PNG. Returns why that is not possible, or None."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return "Chromium is not installed"
    if not page.is_file():
        return f"{page} is no file"
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ]
    command += [f"--window-size={SCREEN[0]},{SCREEN[1]}", f"--screenshot={target}", page.resolve().as_uri()]
    try:
        subprocess.run(command, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "Chromium did not end within two minutes"
    return None if target.is_file() else "Chromium wrote no picture"


def main(arguments: list[str] | None = None) -> int:
    """Draw the set. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.drawn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--report", type=Path, help="an HTML page of vqcodec to take a screenshot of")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        picture(name).save(given.folder / f"{name}.png", optimize=True)
    if given.report is not None:
        reason = screenshot(given.report, given.folder / "report.png")
        if reason is not None:
            print(f"no screenshot of the report: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
