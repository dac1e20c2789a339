"""What C libraries write to standard error by themselves becomes notices."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from vqcodec.errors import BadPicture
from vqcodec.picture import alone as module
from vqcodec.picture.alone import read_alone

WORDS = b"TIFFReadDirectory: Warning, Unknown field with tag 42110 (0xa47e) encountered.\n"


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Words that a library writes to file descriptor 2 at each reading."""
    words = [WORDS]
    read = module.read_picture

    def noisy(*arguments: object) -> object:
        os.write(2, b"".join(words))
        print("from Python", file=sys.stderr)
        return read(*arguments)

    monkeypatch.setattr(module, "read_picture", noisy)
    return words


def test_words_of_a_library_are_a_notice(says: list[bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    says.append(WORDS)
    says.append(b"second\n")
    picture = read_alone(tmp_path / "a.png")
    assert picture.notices == (f"a library warns: {WORDS.decode().strip().rstrip('.')}; second",)
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err.splitlines() == ["from Python", "afterwards"]


def test_words_of_a_library_are_a_part_of_the_error(says: list[bytes], tmp_path: Path) -> None:
    says[:] = [b"one\n", b"\n", b"two\x1b[31m\n", b"three\n", b"four\n", b"five"]
    with pytest.raises(BadPicture, match=r"a\.png: No such file .*\(one; two\\x1b\[31m; three; and 2 more lines\)$"):
        read_alone(tmp_path / "a.png")


def test_a_closed_standard_error_does_not_matter(tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    saved = os.dup(2)
    os.close(2)
    try:
        assert read_alone(tmp_path / "a.png").notices == ()
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_messages_that_pillow_logs_are_a_notice(
    says: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    says.clear()
    read = module.read_picture

    def logging_reader(*arguments: object) -> object:
        logging.getLogger("PIL.TiffImagePlugin").error("More samples per pixel than can be decoded: %s", 65535)
        return read(*arguments)

    monkeypatch.setattr(module, "read_picture", logging_reader)
    assert read_alone(tmp_path / "a.png").notices == (
        "a library warns: More samples per pixel than can be decoded: 65535",
    )
    assert capfd.readouterr().err == "from Python\n"
    assert logging.getLogger("PIL").propagate
