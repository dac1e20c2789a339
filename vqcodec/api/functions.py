"""The functions of the package. In: PIL images or arrays, or the bytes of .vq files. Out: the other one.

Nothing heavy is loaded before the first picture is coded. Everything here may be called from several threads at once:
they share the loaded models.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from vqcodec.errors import BadPicture, UsageError
from vqcodec.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from vqcodec.api.torch_module import CompressionModule
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.describe import Info
    from vqcodec.picture.metadata import Keep
    from vqcodec.picture.picture import Picture

    Samples = npt.NDArray[np.uint8]

__all__ = [
    "OpenModel", "decode", "decode_array", "decode_batch", "encode", "encode_batch", "forget", "info", "open_model",
    "torch_model",
]  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")


class OpenModel:
    """A model that stays loaded, for several pictures; `open_model` gives one. Threads may share it.

    Its parts are loaded when they are first needed.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def __repr__(self) -> str:
        return f"<vqcodec model {self.name} {self.digest}, qualities 1 to {self.qualities}>"

    @property
    def name(self) -> str:
        """What the model calls itself."""
        return self._codec.model.name

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, by which a file names the model that wrote it."""
        return self._codec.model.digest.hex()

    @property
    def qualities(self) -> int:
        """The number of qualities; they count from 1, the smallest file."""
        return self._codec.model.config.vqvae.qualities

    @property
    def default_quality(self) -> int:
        """The quality that is taken where none is asked for."""
        return self._codec.model.config.default_quality

    def encode(
        self,
        image: Image | Samples,
        quality: int | None = None,
        *,
        effort: int | None = None,
        keep_metadata: bool = False,
        keep_location: bool = False,
    ) -> bytes:
        """The bytes of a .vq file; see `vqcodec.encode`."""
        from vqcodec.codec.encode_options import EncodeOptions, compress
        from vqcodec.picture.metadata import Keep

        options = EncodeOptions(_whole(quality), _whole(effort), keep=Keep(keep_metadata, keep_location))
        return compress(self._codec, _picture(image, options.keep), options)

    def decode(self, data: bytes) -> Image:
        """The picture of a .vq file; see `vqcodec.decode`. Raises `UnknownModel` where another model wrote it."""
        from vqcodec.picture.write import to_image

        return to_image(self._codec.decompress(data))

    def decode_array(self, data: bytes) -> Samples:
        """The colours of a .vq file, [H, W, 3]; see `vqcodec.decode_array`."""
        return self._codec.decompress(data).pixels

    def encode_batch(
        self,
        images: Iterable[Image | Samples],
        quality: int | None = None,
        *,
        effort: int | None = None,
        keep_metadata: bool = False,
        keep_location: bool = False,
        workers: int | None = None,
    ) -> Iterator[bytes]:
        """The bytes of a .vq file of each image; see `vqcodec.encode_batch`."""

        def work(image: Image | Samples) -> bytes:
            return self.encode(image, quality, effort=effort, keep_metadata=keep_metadata, keep_location=keep_location)

        return _in_order(work, images, workers)

    def decode_batch(self, files: Iterable[bytes], *, workers: int | None = None) -> Iterator[Image]:
        """The picture of each .vq file; see `vqcodec.decode_batch`."""
        return _in_order(self.decode, files, workers)


def open_model(model: str | Path = "photo", *, limits: Limits = DEFAULT_LIMITS) -> OpenModel:
    """A model by its name, or the model in a folder, to be kept for several pictures.

    Pictures and files beyond the `limits` are refused before they cost memory or time. Raises `ModelError`.
    """
    from vqcodec.codec.codec import Codec
    from vqcodec.model import store

    return OpenModel(Codec(store.open_model(model), limits))


def encode(
    image: Image | Samples,
    quality: int | None = None,
    model: str | Path = "photo",
    *,
    effort: int | None = None,
    keep_metadata: bool = False,
    keep_location: bool = False,
) -> bytes:
    """The bytes of a .vq file of a PIL image, or of a uint8 array [H, W, 3] (RGB) or [H, W] (grey).

    `quality` counts from 1 (smallest file); None is the model's default. `model` is a model's name or its folder.
    `effort`, 0 to 3, is how long to search for codes that give a better picture for their bits; None is the default of
    the command line. `keep_metadata` keeps EXIF, XMP and the colour profile, without the location unless there is also
    `keep_location`. Raises `VqError`.
    """
    return _shared(model).encode(
        image, quality, effort=effort, keep_metadata=keep_metadata, keep_location=keep_location
    )


def decode(data: bytes, model: str | Path | None = None) -> Image:
    """The picture of a .vq file, as a PIL image of mode L, LA, RGB or RGBA, with its metadata in `info`.

    The model is found by the digest in the file; one that is not in the package must be named. Raises `VqError`.
    """
    return _reader(data, model).decode(data)


def decode_array(data: bytes, model: str | Path | None = None) -> Samples:
    """The colours of a .vq file, uint8 [H, W, 3]: RGB, three equal channels for a grey picture. Raises `VqError`.

    Transparency is no part of it; `numpy.array(vqcodec.decode(data))` has all channels of the file, and only those.
    """
    return _reader(data, model).decode_array(data)


def encode_batch(
    images: Iterable[Image | Samples],
    quality: int | None = None,
    model: str | Path = "photo",
    *,
    effort: int | None = None,
    keep_metadata: bool = False,
    keep_location: bool = False,
    workers: int | None = None,
) -> Iterator[bytes]:
    """The bytes of a .vq file of each image, in order, made by `workers` threads; None is one for each processor.

    Images are taken, and files made, only some ahead of what is asked for, so that any number of them needs little
    memory. An error is raised in the place of its file and ends the batch. Otherwise as `encode`.
    """
    return _shared(model).encode_batch(
        images, quality, effort=effort, keep_metadata=keep_metadata, keep_location=keep_location, workers=workers
    )


def decode_batch(
    files: Iterable[bytes], model: str | Path | None = None, *, workers: int | None = None
) -> Iterator[Image]:
    """The picture of each .vq file, in order, made by `workers` threads, only some ahead, as for `encode_batch`.

    Files of several models may be mixed. Otherwise as `decode`.
    """
    return _in_order(partial(decode, model=model), files, workers)


def info(data: bytes) -> Info:
    """What the header of a .vq file says: size, quality, model, bytes of each unit. Raises `VqError`."""
    from vqcodec.codec.describe import describe

    return describe(data)


def torch_model(model: str | Path = "photo", quality: int | None = None) -> CompressionModule:
    """A model at one quality as a `torch.nn.Module`, in the manner of CompressAI. Raises `VqError`."""
    from vqcodec.api.torch_module import CompressionModule
    from vqcodec.codec.codec import Codec
    from vqcodec.model import store

    return CompressionModule(Codec(store.open_model(model)), _whole(quality))


def _shared(model: str | Path) -> OpenModel:
    """The model as all functions of this module share it."""
    from vqcodec.model.store import model_folder

    with _OPENING:
        return _opened(model_folder(model))


_OPENING = Lock()  # or several threads would open the same model


@lru_cache(maxsize=2)  # a loaded model is tens of megabytes; few programs use more than two
def _opened(folder: Path) -> OpenModel:
    return open_model(folder)


def forget() -> None:
    """Let go of the models that are shared."""
    _opened.cache_clear()


def _reader(data: bytes, model: str | Path | None) -> OpenModel:
    from vqcodec.codec.codec import model_for

    return _shared(model or model_for(data).path)


def _picture(image: Image | Samples, keep: Keep) -> Picture:
    import numpy as np
    from PIL import Image

    from vqcodec.picture.picture import Picture
    from vqcodec.picture.read import from_image

    if isinstance(image, Image.Image):
        return from_image(image, keep)
    if not isinstance(image, np.ndarray):
        raise BadPicture(f"a PIL image or a numpy array is needed, not {type(image).__name__}")
    grey = image.ndim == 2
    if image.dtype != np.uint8 or not (grey or image.shape[2:] == (3,)) or 0 in image.shape:
        found = f"{image.dtype} [{', '.join(map(str, image.shape))}]"
        raise BadPicture(f"an array must be uint8 [height, width, 3] or [height, width], not {found}")
    # A copy, which torch can take whatever the strides, and which nobody changes meanwhile.
    pixels = np.repeat(image[:, :, None], 3, axis=2) if grey else np.array(image, order="C")
    return Picture(pixels, "L" if grey else "RGB")


def _whole(number: Any) -> Any:
    """A quality or an effort, None as it is. Raises `UsageError` for what is no whole number, such as 2.5."""
    try:
        return number if number is None else operator.index(number)
    except TypeError:
        raise UsageError(f"quality and effort are whole numbers, not {number!r}") from None


def _in_order(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> Iterator[R]:
    """work(item) of each item, in order. At most two items for each thread are in hand."""
    from vqcodec.files.pool import cores

    if workers is not None and _whole(workers) < 1:
        raise UsageError(f"a batch needs 1 worker or more, not {workers}")
    return _in_threads(work, items, cores() if workers is None else workers)


def _in_threads(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) == 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:  # after an error, or where nobody asks for the rest
                future.cancel()
