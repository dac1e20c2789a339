"""The public functions of the package: PIL images, arrays or picture files <-> the bytes of .vq files.

The models are loaded when the first picture is coded. All functions are thread-safe; threads share the loaded models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from vqcodec.api.arguments import as_float, as_int, bytes_of, to_picture
from vqcodec.errors import UsageError
from vqcodec.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from PIL.Image import Image

    from vqcodec.api.arguments import File, Samples, Source
    from vqcodec.api.torch_module import CompressionModule
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.describe import Info

__all__ = [
    "OpenModel", "decode", "decode_array", "decode_batch", "encode", "encode_batch", "forget", "info", "open_model",
    "torch_model",
]  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")


class OpenModel:
    """A model that stays loaded for several pictures; `open_model` returns one. Threads may share it.

    The parts of the model are loaded when they are first needed.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def __repr__(self) -> str:
        return f"<vqcodec model {self.name} {self.digest}, qualities 1 to {self.qualities}>"

    @property
    def name(self) -> str:
        """The name in the model's configuration."""
        return self._codec.model.name

    @property
    def digest(self) -> str:
        """16 hexadecimal digits. Each file contains the digest of the model that wrote it."""
        return self._codec.model.digest.hex()

    @property
    def qualities(self) -> int:
        """The number of qualities. They count from 1, which gives the smallest files."""
        return self._codec.model.config.vqvae.qualities

    @property
    def default_quality(self) -> int:
        """The quality that is used if none is given."""
        return self._codec.model.config.default_quality

    def encode(
        self,
        image: Source,
        quality: int | None = None,
        *,
        target_ssimulacra2: float | None = None,
        lossless: bool = False,
        effort: int | None = None,
        keep_metadata: bool = False,
        keep_location: bool = False,
        keep_hidden_colours: bool = False,
    ) -> bytes:
        """Encode an image, or a picture file, to the bytes of a .vq file; see `vqcodec.encode`. Raises `VqError`."""
        from vqcodec.codec.encode_options import EncodeOptions, compress
        from vqcodec.picture.metadata import Keep

        keep = Keep(keep_metadata, keep_location, keep_hidden_colours)
        if (quality is not None) + (target_ssimulacra2 is not None) + bool(lossless) > 1:
            raise UsageError("give one of quality, target_ssimulacra2 and lossless")
        score = as_float(target_ssimulacra2)
        options = EncodeOptions(as_int(quality), as_int(effort), ssimulacra2=score, keep=keep, lossless=bool(lossless))
        return compress(self._codec, to_picture(image, options.keep, self._codec.limits), options).data

    def decode(self, data: File) -> Image:
        """Decode a .vq file; see `vqcodec.decode`. Raises `VqError`: `UnknownModel` if another model wrote it."""
        from vqcodec.picture.write import to_image

        return to_image(self._codec.decompress(bytes_of(data)))

    def decode_array(self, data: File) -> Samples:
        """Decode a .vq file to RGB samples, uint8 [H, W, 3]; see `vqcodec.decode_array`. Raises `VqError`."""
        return self._codec.decompress(bytes_of(data)).pixels

    def encode_batch(
        self,
        images: Iterable[Source],
        quality: int | None = None,
        *,
        target_ssimulacra2: float | None = None,
        lossless: bool = False,
        effort: int | None = None,
        keep_metadata: bool = False,
        keep_location: bool = False,
        keep_hidden_colours: bool = False,
        workers: int | None = None,
    ) -> Iterator[bytes]:
        """Encode each image to the bytes of a .vq file; see `vqcodec.encode_batch`. Raises `VqError`."""

        def work(image: Source) -> bytes:
            return self.encode(
                image,
                quality,
                target_ssimulacra2=target_ssimulacra2,
                lossless=lossless,
                effort=effort,
                keep_metadata=keep_metadata,
                keep_location=keep_location,
                keep_hidden_colours=keep_hidden_colours,
            )

        return _map_in_order(work, images, workers)

    def decode_batch(self, files: Iterable[File], *, workers: int | None = None) -> Iterator[Image]:
        """Decode each .vq file; see `vqcodec.decode_batch`. Raises `VqError`."""
        return _map_in_order(self.decode, files, workers)


def open_model(
    model: str | Path = "photo", *, limits: Limits = DEFAULT_LIMITS, threads: int | None = None
) -> OpenModel:
    """Open a model, given by its name or its folder, to use it for several pictures.

    Pictures and files that exceed `limits` are rejected before they take memory or time. `threads` share the work on
    each picture; None: one per CPU, or OMP_NUM_THREADS. Raises `ModelError`, or `UsageError` for less than one thread.
    """
    from vqcodec.codec.codec import Codec
    from vqcodec.model import store

    if threads is not None and as_int(threads) < 1:
        raise UsageError(f"a model needs at least 1 thread, not {threads}")
    return OpenModel(Codec(store.open_model(model), limits, as_int(threads)))


def encode(
    image: Source,
    quality: int | None = None,
    model: str | Path = "photo",
    *,
    target_ssimulacra2: float | None = None,
    lossless: bool = False,
    effort: int | None = None,
    keep_metadata: bool = False,
    keep_location: bool = False,
    keep_hidden_colours: bool = False,
) -> bytes:
    """Encode a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W] (grey), or a picture file to the bytes of a .vq file.

    A picture file is given by its path, as `str` or `os.PathLike`; its first frame is taken.
    `quality` counts from 1 (smallest file); None is the model's default. `model` is a model's name or its folder.
    `target_ssimulacra2` instead of `quality` gives the smallest file with at least this SSIMULACRA2, by several
    encodings: 30 is low quality, 50 medium, 70 high, 90 visually lossless. It is an error if a side of the picture is
    shorter than 8 pixels. `lossless` stores all pixels without loss instead.
    `effort`, 0 to 3, is how long the encoder searches for codes with better rate-distortion cost; None is the default,
    the same as on the command line. `keep_metadata` keeps EXIF, XMP and the colour profile, but the GPS location only
    with `keep_location`. Colours under full transparency are replaced by the visible ones nearby, unless
    `keep_hidden_colours` is set. Raises `VqError`.
    """
    return _shared_model(model).encode(
        image,
        quality,
        target_ssimulacra2=target_ssimulacra2,
        lossless=lossless,
        effort=effort,
        keep_metadata=keep_metadata,
        keep_location=keep_location,
        keep_hidden_colours=keep_hidden_colours,
    )


def decode(data: File, model: str | Path | None = None) -> Image:
    """Decode a .vq file, its bytes or its path, to a PIL image of mode L, LA, RGB or RGBA.

    The metadata of the file is in `Image.info`.
    The model is found by the digest in the file. A model that is not installed must be given, as its folder. Raises
    `VqError`.
    """
    data = bytes_of(data)
    return _model_for_file(data, model).decode(data)


def decode_array(data: File, model: str | Path | None = None) -> Samples:
    """Decode a .vq file to RGB samples, uint8 [H, W, 3]. A grey picture has three equal channels. Raises `VqError`.

    The array has no alpha channel. `numpy.array(vqcodec.decode(data))` has exactly the channels of the file.
    """
    data = bytes_of(data)
    return _model_for_file(data, model).decode_array(data)


def encode_batch(
    images: Iterable[Source],
    quality: int | None = None,
    model: str | Path = "photo",
    *,
    target_ssimulacra2: float | None = None,
    lossless: bool = False,
    effort: int | None = None,
    keep_metadata: bool = False,
    keep_location: bool = False,
    keep_hidden_colours: bool = False,
    workers: int | None = None,
) -> Iterator[bytes]:
    """Encode each image to the bytes of a .vq file, in order, with `workers` threads (None: one per CPU).

    At most two images per thread are taken ahead of the result that is read, so that memory stays bounded. An error is
    raised in place of its file and ends the batch. Arguments and errors are otherwise those of `encode`.
    """
    return _shared_model(model).encode_batch(
        images,
        quality,
        target_ssimulacra2=target_ssimulacra2,
        lossless=lossless,
        effort=effort,
        keep_metadata=keep_metadata,
        keep_location=keep_location,
        keep_hidden_colours=keep_hidden_colours,
        workers=workers,
    )


def decode_batch(
    files: Iterable[File], model: str | Path | None = None, *, workers: int | None = None
) -> Iterator[Image]:
    """Decode each .vq file, in order, with `workers` threads, as `encode_batch` does.

    The files may be from different models. Arguments and errors are otherwise those of `decode`.
    """
    return _map_in_order(partial(decode, model=model), files, workers)


def info(data: File) -> Info:
    """Read the header of a .vq file: size, quality, model, bytes of each unit of coding. Raises `VqError`."""
    from vqcodec.codec.describe import describe

    return describe(bytes_of(data))


def torch_model(model: str | Path = "photo", quality: int | None = None) -> CompressionModule:
    """A model at one quality as a `torch.nn.Module` with the interface of CompressAI. Raises `VqError`.

    It needs torch, which is in the extra `train`: `UsageError` if torch is missing.
    """
    from vqcodec.train.requirement import require_torch

    require_torch("vqcodec.torch_model")
    from vqcodec.api.torch_module import CompressionModule
    from vqcodec.codec.codec import Codec
    from vqcodec.model import store

    return CompressionModule(Codec(store.open_model(model)), as_int(quality))


def _shared_model(model: str | Path) -> OpenModel:
    """The loaded model that all functions of this module share. Raises `ModelError`."""
    from vqcodec.model.store import model_folder

    with _OPENING:
        return _cached_model(model_folder(model))


_OPENING = Lock()  # else several threads would load the same model


@lru_cache(maxsize=2)  # a loaded model is tens of megabytes; few programs use more than two
def _cached_model(folder: Path) -> OpenModel:
    return open_model(folder)


def forget() -> None:
    """Unload the shared models."""
    _cached_model.cache_clear()


def _model_for_file(data: bytes, model: str | Path | None) -> OpenModel:
    """The given model, or the model that a file names. Raises `VqError`."""
    from vqcodec.codec.codec import model_for

    return _shared_model(model or model_for(data).path)


def _map_in_order(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> Iterator[R]:
    """work(item) of each item, in order. At most two items per thread are in progress. Raises `UsageError`."""
    from vqcodec.threads import Workers, cores

    if workers is not None and as_int(workers) < 1:
        raise UsageError(f"a batch needs at least 1 worker, not {workers}")
    return Workers(cores() if workers is None else workers).results(work, items)
