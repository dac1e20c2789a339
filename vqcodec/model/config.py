"""Model configuration <-> JSON.

In: a model's `config.json`. Out: frozen dataclasses. The same in the other direction. An unknown or missing key raises
`ModelError`. The digest of a model covers the JSON text, so `to_json` is canonical: sorted keys and a fixed layout.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from vqcodec.errors import ModelError

__all__ = ["MAX_KERNELS", "ModelConfig", "PriorConfig", "VQVAEConfig", "from_json", "to_json", "with_expected_quality"]

T = TypeVar("T")
MAX_KERNELS = 64  # largest number of kernels of a post-filter
# Settings that were added later, with the values that have no effect. `to_json` omits them at these values.
_LATER_SETTINGS: dict[str, Any] = {"rate_shares": (), "postfilter": 0, "structure": ()}


@dataclass(frozen=True)
class VQVAEConfig:
    """The autoencoder and its quantiser (van den Oord et al. 2017, sections 3 and 4.1).

    `stem`: "conv" is the architecture of the paper: strided convolutions in the encoder, transposed convolutions in the
    decoder. "patch" is a linear transform of stride x stride blocks (initialised with their PCA) with convolutional
    branches around it. "scaled" is "patch" with branches multiplied by one factor per quality, about the square root of
    its lambda. The correction that a branch makes is as large as the quantisation error, so the factors allow distant
    qualities to share the networks.

    `lambdas`: one Lagrange multiplier per quality, worst picture first: latent squared error per bit of a code (ECVQ,
    Chou, Lookabaugh & Gray 1989). 0 selects the nearest code.

    `rate_shares`: for each quality and codebook, the share of the zero-order bits that remains after coding with the
    prior. Lambda then applies to these remaining bits.

    `structure`: for each quality, the share of structural dissimilarity (MS-SSIM) in the distortion that is minimised
    (nn/distortion.py); the rest is squared error. It needs a linear block transform.

    `postfilter`: the number of kernels of the post-filter, each of which a file can weight (nn/postfilter.py).

    Raises `ModelError` for values out of range.
    """

    stem: Literal["conv", "patch", "scaled"]
    stride: int  # pixels per latent position, each way: 4, 8 or 16
    width: int  # channels of the encoder and decoder networks
    residual_width: int  # channels inside a residual block
    encoder_blocks: int
    decoder_blocks: int
    codebooks: tuple[tuple[int, int], ...]  # (K, dim) of each codebook of the product quantiser
    lambdas: tuple[float, ...] = (0.0,)
    commitment: float = 0.25  # beta, the weight of the commitment loss
    codebook_learning: Literal["ema", "gradient"] = "ema"
    restart_dead_codes: bool = False
    rate_shares: tuple[tuple[float, ...], ...] = ()  # [qualities][codebooks]; empty: all 1
    postfilter: int = 0  # number of kernels; 0: no post-filter
    structure: tuple[float, ...] = ()  # [qualities]; empty: all 0

    def __post_init__(self) -> None:
        _require(self.stem in ("conv", "patch", "scaled"), f"stem {self.stem!r} is not 'conv', 'patch' or 'scaled'")
        _require(self.stride in (4, 8, 16), f"stride {self.stride} is not 4, 8 or 16")
        _require(self.codebook_learning in ("ema", "gradient"), "codebook_learning is neither 'ema' nor 'gradient'")
        _require(1 <= self.width <= 4096 and 1 <= self.residual_width <= 4096, "widths must be 1 to 4096")
        _require(0 <= self.encoder_blocks <= 64 and 0 <= self.decoder_blocks <= 64, "blocks must be 0 to 64")
        _require(1 <= len(self.codebooks) <= 64, "there must be 1 to 64 codebooks")
        for size, dim in self.codebooks:
            _require(2 <= size <= 4096 and 1 <= dim <= 1024, f"codebook {size} x {dim} is out of range")
        _require(1 <= len(self.lambdas) <= 64, "there must be 1 to 64 qualities")
        _require(all(math.isfinite(v) and v >= 0 for v in self.lambdas), "lambdas must be finite and >= 0")
        _require(math.isfinite(self.commitment), "commitment must be finite")
        shares = self.rate_shares
        _require(len(shares) in (0, len(self.lambdas)), "rate_shares needs a row for each quality")
        _require(all(len(row) == len(self.codebooks) for row in shares), "rate_shares needs a share for each codebook")
        _require(all(0 < share <= 1 for row in shares for share in row), "rate_shares must be above 0 and at most 1")
        _require(len(self.structure) in (0, len(self.lambdas)), "structure needs a share for each quality")
        _require(all(0 <= share <= 1 for share in self.structure), "a share of structure must be 0 to 1")
        _require(self.transform or not any(self.structure), "structure needs the stem 'patch' or 'scaled'")
        _require(0 <= self.postfilter <= MAX_KERNELS, f"a post-filter has 0 to {MAX_KERNELS} kernels")
        _require(self.transform or not self.postfilter, "a post-filter needs the stem 'patch' or 'scaled'")

    @property
    def transform(self) -> bool:
        """Whether the stem is a linear block transform with branches, whose latents are on the scale of the pixels."""
        return self.stem != "conv"

    @property
    def latent_dim(self) -> int:
        """Channels of the latents: the sum of the codebooks' dimensions."""
        return sum(dim for _, dim in self.codebooks)

    @property
    def encoder_reach(self) -> int:
        """How many positions beside its own a latent depends on, in each direction."""
        return self.encoder_blocks + 1  # one for each block, and one for the stem or the strided convolutions

    @property
    def decoder_reach(self) -> int:
        """How many latent positions beside its own a pixel depends on, in each direction."""
        # One for each block, and one for the stem or the transposed convolutions. The latter reach only to the side of
        # the position on which the pixel lies. The post-filter reaches less than one position further.
        return self.decoder_blocks + 1 + (self.postfilter > 0)

    @property
    def qualities(self) -> int:
        """Number of qualities. They are numbered from 1 (smallest file) to this number."""
        return len(self.lambdas)

    @property
    def naive_bits(self) -> float:
        """Bits per latent position with fixed-length coding of every index: the sum of log2 K."""
        return sum(math.log2(size) for size, _ in self.codebooks)


@dataclass(frozen=True)
class PriorConfig:
    """The PixelCNN prior over the codes (van den Oord et al. 2016, section 2).

    Raises `ModelError` for values out of range.
    """

    channels: int = 96  # channels of the trunk
    blocks: int = 5  # number of gated blocks
    head_channels: int = 48  # hidden channels of each codebook's head
    labels: int = 0  # number of class labels; 0: unconditional

    def __post_init__(self) -> None:
        _require(1 <= self.channels <= 1024 and 1 <= self.head_channels <= 1024, "channels must be 1 to 1024")
        _require(1 <= self.blocks <= 64, "blocks must be 1 to 64")
        _require(0 <= self.labels <= 4096, "labels must be 0 to 4096")


@dataclass(frozen=True)
class ModelConfig:
    """The complete configuration of a model, without its weights. Raises `ModelError` for values out of range.

    `expected_quality`: for each quality, the `worst_score` (codec/judge.py, SSIMULACRA2) that 99 of 100 photographs
    exceed. The encoder says so if a picture comes out worse; files do not depend on it. So it is no part of the
    canonical JSON nor of the digest, and two models that differ in nothing else are equal.
    """

    name: str
    vqvae: VQVAEConfig
    prior: PriorConfig
    unit: int = 64  # side of a unit of coding, in latent positions
    default_quality: int = 1
    format: int = 1  # version of this description and of the integer arithmetic
    expected_quality: tuple[float, ...] = field(default=(), compare=False)  # [qualities]; empty: not known

    def __post_init__(self) -> None:
        _require(self.name.isprintable() and 1 <= len(self.name) <= 100, "name must be 1 to 100 printable characters")
        _require(self.format == 1, f"model format {self.format} is newer than this vqcodec; please upgrade")
        _require(1 <= self.unit <= 1024, "unit must be 1 to 1024")
        _require(1 <= self.default_quality <= self.vqvae.qualities, "default_quality is not one of the qualities")
        scores = self.expected_quality
        _require(len(scores) in (0, self.vqvae.qualities), "expected_quality needs a score for each quality")
        _require(all(math.isfinite(v) and v <= 100 for v in scores), "a score of expected_quality is at most 100")


def to_json(config: Any) -> str:
    """Canonical JSON of a config: sorted keys, two spaces of indentation, a final newline.

    Settings that were added after the first models are omitted if they have no effect, so that the digests of earlier
    models do not change. `expected_quality` is always omitted; `with_expected_quality` adds it.
    """
    return _text(_plain(config))


def with_expected_quality(config: ModelConfig) -> str:
    """The JSON of a config with its `expected_quality`, for the config.json of a model."""
    return _text(_plain(config) | {"expected_quality": list(config.expected_quality)})


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if f.name != "expected_quality"]
        kept = [name for name in names if name not in _LATER_SETTINGS or getattr(value, name) != _LATER_SETTINGS[name]]
        return {name: _plain(getattr(value, name)) for name in kept}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def from_json(cls: type[T], text: str) -> T:
    """Parse a config. Raises `ModelError` for invalid JSON, unknown or missing keys, and wrong types or values."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the configuration is not JSON: {error}") from None
    return typing.cast(T, _build(cls, value, "configuration"))


def _build(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        _require(isinstance(value, dict), f"{where} must be an object")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        _require(not unknown, f"{where} has unknown keys: {', '.join(unknown)}")
        needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
        missing = sorted(needed - set(value))
        _require(not missing, f"{where} lacks {', '.join(missing)}")
        return typing.cast(Any, kind)(**{key: _build(hints[key], item, key) for key, item in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        _require(value in arguments, f"{where} must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        _require(isinstance(value, (list, tuple)), f"{where} must be a list")
        if arguments[-1] is Ellipsis:
            return tuple(_build(arguments[0], item, where) for item in value)
        _require(len(value) == len(arguments), f"an entry of {where} must have {len(arguments)} values")
        return tuple(_build(a, item, where) for a, item in zip(arguments, value, strict=True))
    assert not isinstance(kind, types.UnionType), "no config field is a union"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        _require(abs(value) < 1 << 1000, f"{where} is out of range")
        value = float(value)
    _require(type(value) is kind, f"{where} must be of type {kind.__name__}")
    return value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)
