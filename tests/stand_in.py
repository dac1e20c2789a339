"""A fake codec, for fast tests of everything around the networks, without a trained model.

`FakeCodec` packs pictures with zlib. For one test, `install` replaces vqcodec.codec.codec by it and vqcodec.model.store
by three models: "photo" (three qualities, the default), "paper", and "mine", which is not bundled.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vqcodec.codec import codec
from vqcodec.codec.encoded import Encoded
from vqcodec.codec.target import Target
from vqcodec.errors import DamagedFile, LimitExceeded, UnknownModel, UsageError
from vqcodec.limits import DEFAULT_LIMITS, Limits
from vqcodec.model.config import ModelConfig, PriorConfig, VQVAEConfig
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

DIGESTS = {"photo": b"photo-00", "paper": b"paper-00", "mine": b"mine--00"}


@dataclass(frozen=True)
class FakeInfo:
    """The result of `describe`, with the same fields as vqcodec.codec.describe.Info."""

    model_digest: str
    model: str | None
    width: int
    height: int
    mode: str
    alpha: bool
    quality: int
    unit: int
    rows: int
    cols: int
    unit_bytes: tuple[int, ...]
    header_bytes: int
    alpha_bytes: int
    postfilter_bytes: int
    total_bytes: int
    metadata_bytes: dict[str, int] = field(default_factory=dict)
    stored: float = 0.0
    stored_bytes: int = 0

    @property
    def bpp(self) -> float:
        return 8 * self.total_bytes / (self.width * self.height)

    @property
    def bits_per_dim(self) -> float:
        return self.bpp / 3

    @property
    def ratio(self) -> float:
        return 8 / self.bits_per_dim


def fake_model(name: str, qualities: int, folder: Path) -> SimpleNamespace:
    vqvae = VQVAEConfig("conv", 4, 8, 4, 1, 1, ((512, 8),), lambdas=(0.0,) * qualities)
    config = ModelConfig(name, vqvae, PriorConfig(), default_quality=qualities)
    return SimpleNamespace(name=name, digest=DIGESTS[name], path=folder, config=config, size=2_000_000)


def describe(data: bytes, *, partial: bool = False) -> FakeInfo:
    try:
        head, payload = data.split(b"\n", 1)
        fields = json.loads(head)
        zlib.decompress(payload)
    except (ValueError, zlib.error):
        raise DamagedFile("the file is damaged") from None
    digest = bytes.fromhex(fields["digest"])
    known = {value: key for key, value in DIGESTS.items() if key != "mine"}
    shape = fields["shape"]
    return FakeInfo(
        digest.hex(), known.get(digest), shape[1], shape[0], "RGB", False, fields["quality"],
        64, 1, 2, (len(payload) - 7, 7), len(head) + 1, 0, 0, len(data),
    )  # fmt: skip


class FakeCodec:
    """Loses the last bits of every sample and packs the rest with zlib."""

    def __init__(self, model: SimpleNamespace, limits: Limits = DEFAULT_LIMITS) -> None:
        self.model, self.limits = model, limits

    def quality(self, wanted: int | None) -> int:
        count = self.model.config.vqvae.qualities
        if wanted is not None and not 1 <= wanted <= count:
            raise UsageError(f"the qualities are 1 to {count}, not {wanted}")
        return self.model.config.default_quality if wanted is None else wanted

    def compress(
        self,
        picture: Picture,
        quality: int | None = None,
        progress: Callable[[float], None] | None = None,
        effort: int = 1,
    ) -> bytes:
        quality = self.quality(quality)
        head = {"digest": self.model.digest.hex(), "shape": picture.pixels.shape, "quality": quality, "effort": effort}
        if progress:
            progress(0.5)
        samples = picture.pixels & (0xFF ^ (0xFF >> (quality + 2)))
        return json.dumps(head).encode() + b"\n" + zlib.compress(samples.tobytes())

    def compress_keeping_content(
        self,
        picture: Picture,
        quality: int | None,
        progress: Callable[[float], None] | None,
        effort: int,
        *,
        lossless: bool = False,
    ) -> tuple[bytes, None]:
        return self.compress(picture, quality, progress, effort), None

    def decompress(self, data: bytes, progress: Callable[[float], None] | None = None) -> Picture:
        info = describe(data)
        if info.model_digest != self.model.digest.hex():
            raise UnknownModel("the file was written by another model")
        if info.width * info.height > self.limits.pixels:
            raise LimitExceeded("raise the limit")
        samples = np.frombuffer(zlib.decompress(data.split(b"\n", 1)[1]), np.uint8)
        return Picture(samples.reshape(info.height, info.width, 3).copy(), "RGB")


def compress_to(
    codec: FakeCodec,
    picture: Picture,
    target: Target,
    progress: Callable[[float], None],
    effort: int,
    *,
    measure: bool = False,
) -> Encoded:
    """The picture at the first quality, after a line with the request; no picture is possible above 90 dB."""
    if target.kind == "psnr" and target.value > 90:
        raise UsageError("the target cannot be met")
    head, payload = codec.compress(picture, 1, progress, effort).split(b"\n", 1)
    data = json.dumps(json.loads(head) | dataclasses.asdict(target)).encode() + b"\n" + payload
    reached = measured_file(codec, picture, None, data)[0] if measure else None
    return Encoded(data, reached, (), target.value + 0.25 if target.kind == "ssimulacra2" else None)


def measured_file(codec: FakeCodec, picture: Picture, content: None, data: bytes) -> tuple[float, tuple[str, ...]]:
    return psnr(picture.pixels, codec.decompress(data).pixels), ()


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the stand-in be the codec until the test ends; `folder` is that of all its models."""
    models = {name: fake_model(name, count, folder) for name, count in (("photo", 3), ("paper", 1), ("mine", 1))}

    def open_model(name: str | Path) -> SimpleNamespace:
        if Path(name).name not in models:
            raise UnknownModel(f"there is no model {name}")
        return models[Path(name).name]

    def find(digest: bytes) -> SimpleNamespace:
        for name in ("photo", "paper"):
            if models[name].digest == digest:
                return models[name]
        raise UnknownModel(f"the model {digest.hex()} is not installed")

    replace(
        monkeypatch, "model.store", added=dict,
        open_model=open_model, find=find, bundled=lambda: ("paper", "photo"), DEFAULT_MODEL="photo",
    )  # fmt: skip

    def model_for(data: bytes, *, partial: bool = False) -> SimpleNamespace:
        return find(bytes.fromhex(describe(data).model_digest))

    fakes = {"Codec": FakeCodec, "model_for": model_for}
    replace(monkeypatch, "codec.codec", **(vars(codec) | fakes))
    replace(monkeypatch, "codec.describe", describe=describe, Info=FakeInfo)
    replace(monkeypatch, "codec.encoded", Encoded=Encoded, measured_file=measured_file)
    replace(monkeypatch, "codec.rate_control", compress_to=compress_to)


def replace(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = ModuleType(f"vqcodec.{name}")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, f"vqcodec.{name}", module)


def png(path: Path | str, size: tuple[int, int] = (24, 16), seed: int = 0) -> Path:
    """A PNG of noise, `size` (width, height)."""
    samples = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(samples).save(path, "PNG")
    return Path(path)
