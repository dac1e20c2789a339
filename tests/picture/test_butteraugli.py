from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vqcodec.picture import butteraugli as module
from vqcodec.picture.butteraugli import PROGRAM, butteraugli, missing

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
OTHER = (PICTURE // 2).astype(np.uint8)

needs_scripts = pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script with #!")
needs_program = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"no {PROGRAM}")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a Python script in the place of the program."""

    def write(code: str) -> None:
        path = tmp_path / PROGRAM
        path.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return write


@needs_scripts
def test_it_reads_what_the_program_prints(stand_in: Callable[[str], None]) -> None:
    stand_in("print('1.7927998304\\n3-norm: 0.626520')")
    assert butteraugli(PICTURE, OTHER) == (1.7927998304, 0.62652)
    assert missing() is None


@needs_scripts
def test_the_program_gets_both_pictures_as_png(stand_in: Callable[[str], None]) -> None:
    stand_in(
        "import sys\nfrom PIL import Image\na, b = [Image.open(p) for p in sys.argv[1:]]\n"
        "assert a.format == b.format == 'PNG' and a.mode == b.mode == 'RGB'\n"
        "print(sum(a.tobytes()))\nprint('3-norm:', sum(b.tobytes()))"
    )
    assert butteraugli(PICTURE, OTHER) == (PICTURE.sum(), OTHER.sum())
    grey = PICTURE[:, :, 0]
    assert butteraugli(grey, OTHER[:, :, 0]) == (3 * int(grey.sum()), 3 * int(OTHER[:, :, 0].sum()))


@needs_scripts
@pytest.mark.parametrize(
    "code",
    [
        "",
        "print('no numbers')",
        "print('1.5')",
        "print('3-norm: 1.5')",
        "print('nan\\n3-norm: 1.0')",
        "print('inf\\n3-norm: 1.0')",
        "print('-1\\n3-norm: 1.0')",
        "print('1.5\\n3-norm: many')",
        "print('1.5\\n3-norm: 1.0')\nraise SystemExit(1)",
        "import sys\nsys.stdout.buffer.write(bytes(range(256)))",
        "import os\nos.kill(os.getpid(), 9)",
    ],
)
def test_a_program_that_fails_gives_nan_and_no_error(stand_in: Callable[[str], None], code: str) -> None:
    stand_in(code)
    assert all(math.isnan(value) for value in butteraugli(PICTURE, OTHER))


@needs_scripts
def test_a_program_that_hangs_is_ended(stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in("import time\ntime.sleep(600)")
    monkeypatch.setattr(module, "_SECONDS_AT_LEAST", 0.2)
    monkeypatch.setattr(module, "_SECONDS_PER_MEGAPIXEL", 0)
    assert all(math.isnan(value) for value in butteraugli(PICTURE, OTHER))


def test_a_missing_program_gives_nan_and_a_line_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(math.isnan(value) for value in butteraugli(PICTURE, OTHER))
    line = missing()
    assert line is not None
    assert PROGRAM in line
    assert "libjxl-devtools" in line
    assert "\n" not in line


def test_other_arrays_are_an_error() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        butteraugli(PICTURE, PICTURE[:-1])
    for other in (PICTURE.astype(float), PICTURE[0, 0], PICTURE[:0], np.zeros((9, 9, 4), np.uint8)):
        with pytest.raises(ValueError, match="a picture is uint8"):
            butteraugli(other, other)


@needs_program
def test_the_real_program() -> None:
    assert butteraugli(PICTURE, PICTURE) == (0, 0)
    shifted = [np.minimum(PICTURE // 2 + shift, 255).astype(np.uint8) for shift in (0, 8, 40)]
    distances = [butteraugli(OTHER, other) for other in shifted]
    assert all(less.norm3 < more.norm3 and less.maximum < more.maximum for less, more in pairwise(distances))
    assert all(distance.norm3 <= distance.maximum for distance in distances)
    grey = OTHER[:, :, :1]
    assert butteraugli(grey, grey + np.uint8(20)) == butteraugli(grey[:, :, 0], grey[:, :, 0] + np.uint8(20))


@needs_program
def test_pictures_below_8_pixels_have_no_distance() -> None:
    """The program itself says 0 for them, however different they are."""
    assert math.isnan(butteraugli(PICTURE[:7], OTHER[:7]).norm3)
    assert butteraugli(PICTURE[:8], OTHER[:8]).norm3 > 0
