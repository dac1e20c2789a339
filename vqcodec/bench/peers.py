"""Codecs to compare, behind one interface: the table of other codecs, and every vqcodec model.

In: the name of a codec. Out: its entry of `PEERS`, which compresses and decompresses (`listed_peer`). To add another
codec, add an entry: one that Pillow can write is a `PillowPeer`, a program on the PATH a `ProgramPeer`.
"""

from __future__ import annotations

from typing import Any

from vqcodec.bench.listed_peer import Encoded, ListedPeer, Peer
from vqcodec.bench.model_peer import ModelPeer
from vqcodec.bench.package_peer import PackagePeer, jpegli, mozjpeg, without_mozjpeg
from vqcodec.bench.pillow_peer import PillowPeer
from vqcodec.bench.program_peer import ProgramPeer

__all__ = ["PEERS", "Encoded", "ListedPeer", "ModelPeer", "PackagePeer", "Peer", "PillowPeer", "ProgramPeer", "peer"]

# The quantisation tables of the standard (ITU-T T.81, annex K.1), which libjpeg scales; 8 x 8, row by row.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, *[99] * 38,
)  # fmt: skip


def _jpeg(quality: float) -> dict[str, Any]:
    """Options of Image.save for JPEG.

    A whole quality is passed to libjpeg. In between, libjpeg's tables are scaled more finely, so that a target size can
    be matched closely.
    """
    options: dict[str, Any] = {"optimize": True, "progressive": True}
    if quality == int(quality):
        return options | {"quality": int(quality)}
    scale = round(5000 / quality if quality < 50 else 200 - 2 * quality, 6)
    tables = [[min(255, max(1, int((q * scale + 50) / 100))) for q in table] for table in (_LUMA, _CHROMA)]
    return options | {"qtables": tables}


def _avif_encoder() -> dict[str, str]:
    """What libavif encodes and decodes with, such as "dav1d [dec]:1.5.3, aom [enc]:3.14.1"."""
    from PIL import _avif

    return {"codecs of libavif": str(_avif.codec_versions())}


def _heif_encoder() -> dict[str, str]:
    """The versions of libheif and of the encoder that it uses, such as x265."""
    import pillow_heif

    found = pillow_heif.libheif_info()
    return {"libheif": str(found["libheif"]), "HEVC encoder": str(found["HEIF"])}


def _avif(name: str, speed: int, tune: str | None = None, subsampling: str = "4:2:0") -> PillowPeer:
    """AVIF at one speed of the encoder; tune None: what the library uses where nothing is asked for."""
    return PillowPeer(
        name=name,
        family="avif",
        format="AVIF",
        qualities=(10, 20, 35, 50, 65, 80, 90),
        span=(0, 99),
        settings=f"speed {speed}, {subsampling}" + ("" if tune is None else f", tune={tune}"),
        options=lambda quality: {"quality": int(quality), "speed": speed, "subsampling": subsampling},
        whole=True,
        library="avif",
        encoder_versions=_avif_encoder,
        threads_option="max_threads",
        tune=tune,
        untuned=f"avif-{speed}" if tune is not None and subsampling == "4:2:0" else None,
    )


PEERS: tuple[ListedPeer, ...] = (
    PillowPeer(
        name="jpeg",
        family="jpeg",
        format="JPEG",
        qualities=(5, 10, 20, 40, 60, 80, 90),
        span=(1, 95),
        settings="optimised, progressive, 4:2:0",
        options=_jpeg,
        library="libjpeg_turbo",
    ),
    PackagePeer(
        name="mozjpeg",
        family="jpeg",
        format="JPEG",
        qualities=(5, 10, 20, 40, 60, 80, 90),
        span=(1, 95),
        settings="trellis quantisation, optimised scans, progressive, 4:2:0",
        whole=True,
        packages=("pyvips", "pyvips-binary"),
        encoder=mozjpeg,
        unfit=without_mozjpeg,
    ),
    PackagePeer(
        name="jpegli",
        family="jpeg",
        format="JPEG",
        qualities=(5, 10, 20, 40, 60, 80, 90),
        span=(1, 95),
        settings="adaptive quantisation, sequential, 4:2:0",
        whole=True,
        packages=("pyjpegli",),
        encoder=jpegli,
    ),
    ProgramPeer(
        name="cjpegli",
        family="jpeg",
        format="JPEG",
        qualities=(5, 10, 20, 40, 60, 80, 90),
        span=(1, 95),
        settings="adaptive quantisation, progressive, the program's subsampling",
        whole=True,
        program="cjpegli",
        arguments=lambda quality: ("-q", str(int(quality)), "--quiet"),
        source="it comes with https://github.com/google/jpegli",
    ),
    PillowPeer(
        name="jpeg2000",
        family="jpeg2000",
        format="JPEG2000",
        qualities=(26, 28, 30, 32, 34, 37, 40),
        span=(15, 50),
        settings="9/7 wavelet; quality is the PSNR that the encoder aims at",
        options=lambda quality: {"irreversible": True, "quality_mode": "dB", "quality_layers": [quality]},
        library="jpg_2000",
    ),
    PillowPeer(
        name="webp",
        family="webp",
        format="WEBP",
        qualities=(1, 5, 20, 40, 60, 80, 90),
        span=(0, 100),
        settings="method 6",
        options=lambda quality: {"quality": quality, "method": 6},
        library="webp",
    ),
    _avif("avif", 6),
    _avif("avif-4", 4),
    _avif("avif-iq", 4, "iq"),
    _avif("avif-ssim", 4, "ssim", "4:4:4"),  # clearly stronger than with 4:2:0; the other tunes hardly gain
    _avif("avif-ssimulacra2", 4, "ssimulacra2"),
    PillowPeer(
        name="jxl",
        family="jxl",
        format="JXL",
        qualities=(5, 20, 35, 50, 65, 80, 90),
        span=(0, 99),
        settings="effort 7",
        options=lambda quality: {"quality": quality, "effort": 7},
        plugin="jxl",
        threads_option="num_threads",
    ),
    PillowPeer(
        name="heic",
        family="heic",
        format="HEIF",
        qualities=(15, 25, 35, 45, 55, 65),
        span=(0, 99),
        settings="x265, 4:2:0",
        options=lambda quality: {"quality": int(quality), "chroma": 420},
        whole=True,
        plugin="heif",
        encoder_versions=_heif_encoder,
    ),
)


def peer(name: str) -> ListedPeer | None:
    """The entry of `PEERS` with this name, or None."""
    return next((entry for entry in PEERS if entry.name == name), None)
