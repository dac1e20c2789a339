"""Several threads give the files and pictures of one, and stop as one does."""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import vqcodec_in_process
from conftest import synthetic
from PIL import Image

from vqcodec.codec.codec import Codec
from vqcodec.codec.partial import Region, decompress_region, salvage
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture

SIZES = [(8, 8), (33, 40), (100, 131)]  # one unit of coding, a few, and more than there are threads


@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("size", SIZES)
def test_files_and_pictures_do_not_depend_on_the_number_of_threads(
    filtered_model: Model, size: tuple[int, int], effort: int
) -> None:
    source = Picture(synthetic(*size), "RGB")
    files, pictures = set(), set()
    for threads in (1, 2, 5):
        codec = Codec(filtered_model, threads=threads)
        told: list[float] = []
        files.add(data := codec.compress(source, 2, told.append, effort=effort))
        assert all(a <= b for a, b in pairwise([0.0, *told])), told
        assert told[-1] == pytest.approx(1)
        pictures.add(codec.decompress(data).pixels.tobytes())
        part = decompress_region(codec, data, Region(3, 2, 5, 6)).pixels
        assert np.array_equal(part, codec.decompress(data).pixels[2:8, 3:8])
        assert salvage(codec, data).picture.pixels.tobytes() in pictures
    assert len(files) == len(pictures) == 1


def test_an_error_in_a_thread_is_raised_and_no_thread_is_left_at_work(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, started = Codec(fine_model, threads=3), []

    class Failure(Exception):
        pass

    def fail(*_: object) -> None:
        started.append(threading.current_thread().name)
        raise Failure

    monkeypatch.setattr("vqcodec.codec.code_search.prices", fail)
    with pytest.raises(Failure):
        codec.compress(Picture(synthetic(100, 131), "RGB"))
    assert 1 <= len(started) <= 6


def test_the_option_threads(fine_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the option sets it: it is restored after the test
    monkeypatch.chdir(tmp_path)
    Image.fromarray(synthetic(70, 90)).save("a.png")
    model = ("--model", fine_model.path)
    for count in ("1", "3"):
        for command, source, target in (
            ("compress", "a.png", f"{count}.vq"),
            ("decompress", f"{count}.vq", f"{count}.png"),
        ):
            done = vqcodec_in_process(monkeypatch, command, source, "-o", target, "--threads", count, *model)
            assert done.code == 0, done.err
            assert os.environ["OMP_NUM_THREADS"] == count
    for suffix in (".vq", ".png"):
        assert Path(f"1{suffix}").read_bytes() == Path(f"3{suffix}").read_bytes()
    refused = vqcodec_in_process(monkeypatch, "compress", "a.png", "-o", "b.vq", "--threads", "0", *model)
    assert refused.code == 2
    assert "--threads" in refused.err
