"""Parts of a file: a region is what the whole picture has there; what a damaged file still holds is not touched."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.codec import partial
from vqcodec.codec.codec import Codec
from vqcodec.codec.partial import Region, decompress_region, salvage
from vqcodec.errors import BadFile, DamagedFile, LimitExceeded, UsageError
from vqcodec.format import container
from vqcodec.limits import Limits
from vqcodec.picture.picture import Picture

pytestmark = pytest.mark.usefixtures("codes_only")

HEIGHT, WIDTH = 150, 170  # units of 32 x 32 pixels: 5 rows and 6 columns


@pytest.fixture(scope="module", params=["patch", "filtered"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return Codec(request.getfixturevalue(f"{request.param}_model"))


@pytest.fixture(scope="module")
def data(codec: Codec) -> bytes:
    alpha = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    return codec.compress(Picture(synthetic(HEIGHT, WIDTH), "RGB", alpha))


REGIONS = [
    Region(0, 0, WIDTH, HEIGHT),
    Region(0, 0, 1, 1),
    Region(WIDTH - 1, HEIGHT - 1, 1, 1),
    Region(31, 33, 2, 70),
    Region(64, 0, 32, HEIGHT),
    Region(5, 90, 160, 7),
]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_what_the_whole_picture_has_there(codec: Codec, data: bytes, region: Region) -> None:
    whole, part = codec.decompress(data), decompress_region(codec, data, region)
    rows, columns = slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)
    assert part.pixels.shape == (region.height, region.width, 3)
    assert np.abs(part.pixels.astype(int) - whole.pixels[rows, columns]).max() <= 1
    assert whole.alpha is not None
    assert part.alpha is not None
    assert np.array_equal(part.alpha, whole.alpha[rows, columns])


def test_a_region_reads_no_more_units_than_it_needs(codec: Codec, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(
        partial, "unit_payload", lambda d, h, index: read.append(index) or container.unit_payload(d, h, index)
    )
    decompress_region(codec, data, Region(70, 70, 10, 10))
    reach = codec.network.config.decoder_reach  # in positions of 8 pixels; a unit has 4 of them
    rows = range((70 // 8 - reach) // 4, (79 // 8 + reach) // 4 + 1)
    assert set(read) == {6 * row + column for row in rows for column in rows if row < 5}


def test_a_region_decodes_if_only_other_units_are_damaged(codec: Codec, data: bytes) -> None:
    header = container.read_header(data)
    broken = bytearray(data)
    broken[header.offsets[29]] ^= 1
    corner = Region(0, 0, 20, 20)
    assert np.array_equal(
        decompress_region(codec, bytes(broken), corner).pixels, decompress_region(codec, data, corner).pixels
    )
    with pytest.raises(DamagedFile):
        decompress_region(codec, bytes(broken), Region(WIDTH - 9, HEIGHT - 9, 9, 9))


@pytest.mark.parametrize(
    "region", [Region(0, 0, 0, 5), Region(0, 0, WIDTH + 1, 5), Region(-1, 0, 5, 5), Region(0, HEIGHT, 5, 1)]
)
def test_a_region_beyond_the_picture_is_refused(codec: Codec, data: bytes, region: Region) -> None:
    with pytest.raises(UsageError, match="170x150"):
        decompress_region(codec, data, region)


def test_a_sound_file_is_salvaged_whole(codec: Codec, data: bytes) -> None:
    saved, whole = salvage(codec, data), codec.decompress(data)
    assert saved.damage == ()
    assert np.array_equal(saved.picture.pixels, whole.pixels)


def test_a_lost_unit_is_reported_and_filled_and_the_rest_is_unchanged(codec: Codec, data: bytes) -> None:
    header, whole = container.read_header(data), codec.decompress(data).pixels.astype(int)
    broken = bytearray(data)
    broken[header.offsets[8]] ^= 0x10  # row 1, column 2
    saved = salvage(codec, bytes(broken))
    assert saved.damage == ("unit 8 (row 1, column 2) was lost; the area is filled with interpolated colours",)
    pixels = saved.picture.pixels.astype(int)
    far = np.ones((HEIGHT, WIDTH), bool)
    margin = 8 * codec.network.config.decoder_reach
    far[32 - margin : 64 + margin, 64 - margin : 96 + margin] = False
    assert far.any()
    assert np.array_equal(pixels[far], whole[far])
    hole = pixels[32:64, 64:96]
    ring = whole[24:72, 56:104].reshape(-1, 3)
    assert (hole.min((0, 1)) >= ring.min(0) - 1).all()
    assert (hole.max((0, 1)) <= ring.max(0) + 1).all()
    assert np.abs(np.diff(hole, axis=0)).max() < 40, "it is smooth"


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_cut_file_gives_the_units_that_are_there(codec: Codec, data: bytes, share: float) -> None:
    cut = data[: int(len(data) * share)]
    saved = salvage(codec, cut)
    assert saved.picture.pixels.shape == (HEIGHT, WIDTH, 3)
    assert saved.damage
    assert "its transparency was lost" in saved.damage
    assert saved.picture.alpha is None


def test_losses_are_reported_in_runs() -> None:
    assert partial._losses([], 6) == []
    assert partial._losses([1, 4, 5, 6, 9], 6) == [
        "unit 1 (row 0, column 1) was lost; the area is filled with interpolated colours",
        "3 units from 4 (row 0, column 4) on were lost; the area is filled with interpolated colours",
        "unit 9 (row 1, column 3) was lost; the area is filled with interpolated colours",
    ]


def test_a_file_without_an_intact_unit_is_refused(codec: Codec, data: bytes) -> None:
    header = container.read_header(data)
    with pytest.raises(DamagedFile, match="nothing can be recovered"):
        salvage(codec, data[: header.header_bytes + 4])
    with pytest.raises(BadFile):
        salvage(codec, data[:20])


def test_limits_apply_to_the_region_and_to_all_of_the_alpha_channel(codec: Codec, data: bytes) -> None:
    """The limit applies to what is decoded; alpha is a single PNG of the whole picture."""
    small = Codec(codec.model, Limits(pixels=64 * 64))  # 2 x 2 units, in which a small region may lie
    opaque = codec.compress(Picture(synthetic(HEIGHT, WIDTH), "RGB"))
    assert decompress_region(small, opaque, Region(30, 30, 4, 4)).pixels.shape == (4, 4, 3)
    with pytest.raises(LimitExceeded, match="--max-pixels"):
        decompress_region(small, opaque, Region(0, 0, 150, 1))
    with pytest.raises(LimitExceeded, match=f"--max-pixels {HEIGHT * WIDTH}"):
        decompress_region(small, data, Region(3, 4, 20, 20))
    with pytest.raises(LimitExceeded, match="--max-pixels"):
        small.decompress(data)
    with pytest.raises(LimitExceeded, match="--max-pixels"):
        salvage(small, data)
