"""The lines about all pictures of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vqcodec.errors import BadPicture
from vqcodec.files.outcome import Outcome, failed
from vqcodec.files.plan import Job
from vqcodec.files.summary import Notices, Totals
from vqcodec.files.work import Record

RECORD = Record("a.png", "a.vq", 1000, 1000, 8, 8, 1.0, 1.0, 1.0, 6, "photo", "00", 0.1, ())


def outcome(before: int, after: int, psnr: float | None = None) -> Outcome:
    return Outcome(dataclasses.replace(RECORD, output_bytes=after, psnr=psnr), seen=(before, 1), size=after)


def test_totals() -> None:
    totals = Totals(skipped=1234)
    assert totals.line() == "0 done, 1,234 skipped, 0 failed"
    totals.add(outcome(12_000, 1000, 30.0))
    totals.add(outcome(3000, 500, 33.0))
    totals.add(failed(BadPicture("broken"), (99, 1)))
    assert totals.line() == (
        "2 done, 1,234 skipped, 1 failed; 15,000 -> 1,500 bytes (10.0x smaller), mean PSNR 31.50 dB"
    )
    totals.add(outcome(0, 700))  # a pipe has no size
    totals.add(outcome(500, 500, float("inf")))
    assert totals.line() == (
        "4 done, 1,234 skipped, 1 failed; 15,500 -> 2,000 bytes (7.8x smaller), mean PSNR 31.50 dB"
    )


def test_the_mean_score_is_that_of_the_pictures_with_that_target() -> None:
    totals = Totals()
    totals.add(outcome(3000, 1000, 30.0))
    for score in (70.0, 71.5):
        totals.add(Outcome(dataclasses.replace(RECORD, ssimulacra2=score), seen=(3000, 1), size=1000))
    assert totals.line().endswith("(3.0x smaller), mean SSIMULACRA2 70.75, mean PSNR 30.00 dB")


def test_results_that_are_larger() -> None:
    totals = Totals()
    totals.add(outcome(1000, 2500))
    assert totals.line() == "1 done, 0 skipped, 0 failed; 1,000 -> 2,500 bytes (2.5x larger)"


def test_results_that_were_left_out_are_counted_apart() -> None:
    totals = Totals()
    totals.add(outcome(12_000, 1000, 30.0))
    totals.add(Outcome(dataclasses.replace(RECORD, output_bytes=0, psnr=50.0, left_out=True), seen=(900, 1)))
    assert totals.line() == (
        "1 done, 0 skipped, 0 failed, 1 left out as larger; 12,000 -> 1,000 bytes (12.0x smaller), mean PSNR 30.00 dB"
    )


def test_notices_of_one_kind_differ_in_numbers_only() -> None:
    notices = Notices()
    for name, text in (
        ("a.png", "16 bits per channel were reduced to 8"),
        ("b.tif", "floats from 0 to 1.2 were reduced to 8 bits"),
        ("c.tif", "floats from -3e-05 to 7 were reduced to 8 bits"),
        ("d.jpg", "the location was removed"),
        ("e.jpg", "the location was removed"),
    ):
        notices.add(Job(Path(name), Path(name).with_suffix(".vq")), text)
    assert notices.lines() == [
        ("a.png", "16 bits per channel were reduced to 8"),
        ("2 pictures", "floats from 0 to 1.2 were reduced to 8 bits, or with other figures (the first: b.tif)"),
        ("2 pictures", "the location was removed (the first: d.jpg)"),
    ]
