"""The public functions: arrays and images, models that stay loaded, and batches."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import synthetic
from PIL import Image

import vqcodec
from vqcodec.codec import code_search
from vqcodec.codec.codec import DEFAULT_EFFORT
from vqcodec.errors import BadFile, BadPicture, LimitExceeded, UnknownModel, UsageError
from vqcodec.model import store
from vqcodec.model.store import DEFAULT_MODEL, Model
from vqcodec.nn import weights
from vqcodec.picture.ssimulacra2 import ssimulacra2


class Named:
    """An object that stands for a path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path


@pytest.fixture(autouse=True)
def package(patch_model: Model, conv_model: Model, bundle: Callable[..., Path]) -> None:
    """The patch model is the default one; the conv model is called "paper"."""
    bundle(photo=patch_model, paper=conv_model)


def test_all_names_are_documented_and_annotated() -> None:
    for name in set(vqcodec.__all__) - {"__version__"}:
        found = getattr(vqcodec, name)
        assert found.__doc__, name
        functions = [found]
        if inspect.isclass(found):
            functions = [f.fget if isinstance(f, property) else f for n, f in vars(found).items() if n[0] != "_"]
            functions = [function for function in functions if inspect.isfunction(function)]
        for function in functions:
            signature = inspect.signature(function)
            assert function.__doc__, function
            assert signature.return_annotation is not inspect.Signature.empty, function
            kinds = {p.annotation for p in signature.parameters.values() if p.name != "self"}
            assert inspect.Parameter.empty not in kinds, function
    assert Path(vqcodec.__file__).with_name("py.typed").is_file()


def test_the_defaults_are_those_of_the_codec() -> None:
    for function in (vqcodec.encode, vqcodec.encode_batch, vqcodec.open_model, vqcodec.torch_model):
        assert inspect.signature(function).parameters["model"].default == DEFAULT_MODEL
    files = {effort: vqcodec.encode(synthetic(40, 60), effort=effort) for effort in (None, 0, 3)}
    assert files[0] != files[3]
    assert files[None] == vqcodec.encode(synthetic(40, 60), effort=DEFAULT_EFFORT)


# Arrays


@pytest.mark.parametrize("shape", [(40, 60, 3), (40, 60), (1, 1, 3), (1, 9)])
def test_an_array_is_encoded_as_the_image_of_it(shape: tuple[int, ...]) -> None:
    samples = np.ascontiguousarray(synthetic(40, 60)[:, :, 0] if len(shape) == 2 else synthetic(40, 60))
    samples = samples[tuple(slice(side) for side in shape)]
    data = vqcodec.encode(samples)
    assert data == vqcodec.encode(Image.fromarray(samples))
    image, colours = vqcodec.decode(data), vqcodec.decode_array(data)
    assert image.mode == ("L" if len(shape) == 2 else "RGB")
    assert (colours.dtype, colours.shape) == (np.uint8, (*shape[:2], 3))
    assert np.array_equal(colours, np.array(image.convert("RGB")))
    mirrored = samples[::-1, ::-1]  # torch takes no negative strides
    mirrored.flags.writeable = False  # and warns about read-only arrays
    assert vqcodec.encode(mirrored) == vqcodec.encode(mirrored.copy())


def test_transparency_is_only_in_the_image() -> None:
    data = vqcodec.encode(Image.fromarray(synthetic(9, 9)).convert("RGBA"))
    assert np.array(vqcodec.decode(data)).shape == (9, 9, 4)
    assert vqcodec.decode_array(data).shape == (9, 9, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(16, np.uint8),
        np.zeros((), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        bytearray(48),
        b"a.png",
        None,
    ],
    ids=lambda wrong: f"{type(wrong).__name__} {getattr(wrong, 'dtype', '')} {list(getattr(wrong, 'shape', ()))}",
)
def test_invalid_images(wrong: object) -> None:
    with pytest.raises(BadPicture, match=r"uint8 \[height, width, 3\]|must be a PIL image, a numpy array or the path"):
        vqcodec.encode(wrong)


# Paths


@pytest.mark.parametrize("kind", [str, Path, Named])
def test_paths_stand_for_their_files(tmp_path: Path, kind: Callable[[str], object]) -> None:
    image = Image.fromarray(synthetic(20, 30))
    image.save(tmp_path / "a.png")
    path = kind(str(tmp_path / "a.png"))
    data = vqcodec.encode(path)
    assert data == vqcodec.encode(image)
    assert list(vqcodec.encode_batch([path, image])) == [data, data]
    assert vqcodec.open_model("photo").encode(path) == data
    (tmp_path / "a.vq").write_bytes(data)
    file = kind(str(tmp_path / "a.vq"))
    back = np.array(vqcodec.decode(data))
    assert np.array_equal(np.array(vqcodec.decode(file)), back)
    assert np.array_equal(vqcodec.decode_array(file), back)
    assert [np.array_equal(np.array(each), back) for each in vqcodec.decode_batch([file, data])] == [True, True]
    model = vqcodec.open_model("photo")
    assert np.array_equal(np.array(model.decode(file)), np.array(model.decode_array(file)))
    assert vqcodec.info(file) == vqcodec.info(data)


def test_paths_without_a_sound_file(tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match=r"a\.png"):
        vqcodec.encode(tmp_path / "a.png")
    for function in (vqcodec.decode, vqcodec.decode_array, vqcodec.info):
        with pytest.raises(BadFile, match=r"a\.vq cannot be read"):
            function(tmp_path / "a.vq")
    Image.fromarray(synthetic(20, 30)).save(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r"not a \.vq file"):
        vqcodec.decode(tmp_path / "a.png")
    with pytest.raises(BadPicture, match="100"):
        vqcodec.open_model("photo", limits=vqcodec.Limits(pixels=100)).encode(tmp_path / "a.png")


@pytest.mark.parametrize(
    "options", [
        {"quality": 0}, {"quality": 1.5}, {"quality": "1"}, {"effort": 1.0}, {"effort": 9},
        {"target_ssimulacra2": 100.5}, {"target_ssimulacra2": float("nan")}, {"target_ssimulacra2": "70"},
        {"target_ssimulacra2": 70, "quality": 1},
    ],
)  # fmt: skip
def test_invalid_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        vqcodec.encode(synthetic(9, 9), **options)
    assert vqcodec.encode(synthetic(9, 9), quality=np.int64(1)) == vqcodec.encode(synthetic(9, 9), quality=1)


def test_no_loss() -> None:
    grey, clear = synthetic(40, 33)[:, :, 0], Image.fromarray(synthetic(20, 30)).convert("RGBA")
    clear.putalpha(Image.new("L", (30, 20), 0))  # the colours under full transparency belong to the picture
    assert np.array_equal(np.asarray(vqcodec.decode(vqcodec.encode(grey, lossless=True))), grey)
    assert vqcodec.decode(vqcodec.encode(clear, lossless=True)).tobytes() == clear.tobytes()
    data = vqcodec.encode(synthetic(9, 9), lossless=True)
    assert np.array_equal(vqcodec.decode_array(data), synthetic(9, 9))
    assert vqcodec.info(data).stored == 1
    assert list(vqcodec.encode_batch([synthetic(9, 9)], lossless=True)) == [data]
    for options in ({"quality": 1}, {"target_ssimulacra2": 50.0}):
        with pytest.raises(UsageError, match="lossless"):
            vqcodec.encode(synthetic(9, 9), lossless=True, **options)


# A target


def test_a_target_score(fine_model: Model) -> None:
    picture = synthetic(64, 88)
    model = vqcodec.open_model(fine_model.path)
    low, high = (ssimulacra2(picture, model.decode_array(model.encode(picture, quality))) for quality in (1, 3))
    wanted = np.float32((low + high) / 2)
    data = model.encode(picture, target_ssimulacra2=wanted)
    assert wanted <= ssimulacra2(picture, model.decode_array(data)) <= wanted + 0.5
    assert data == vqcodec.encode(picture, None, fine_model.path, target_ssimulacra2=wanted)
    (batched,) = vqcodec.encode_batch([picture], None, fine_model.path, target_ssimulacra2=wanted)
    assert data == batched
    with pytest.raises(UsageError, match="give one of quality, target_ssimulacra2 and lossless"):
        model.encode(picture, 2, target_ssimulacra2=wanted)
    with pytest.raises(UsageError, match="defined from 8x8 on"):
        model.encode(picture[:7], target_ssimulacra2=wanted)


# Models


def test_an_open_model(patch_model: Model, conv_model: Model) -> None:
    model = vqcodec.open_model()
    assert (model.name, model.digest) == ("tiny-patch", patch_model.digest.hex())
    assert (model.qualities, model.default_quality) == (2, 2)
    assert repr(model) == f"<vqcodec model tiny-patch {model.digest}, qualities 1 to 2>"
    picture = synthetic(20, 30)
    data = model.encode(picture, 1, effort=2)
    assert data == vqcodec.encode(picture, quality=1, effort=2)
    assert model.decode(data).tobytes() == vqcodec.decode(data).tobytes() == model.decode_array(data).tobytes()
    with pytest.raises(UnknownModel):
        vqcodec.open_model(conv_model.path).decode(data)
    with pytest.raises(UnknownModel):
        vqcodec.open_model("nobody")


def test_limits_of_an_open_model() -> None:
    small = vqcodec.open_model(limits=vqcodec.Limits(pixels=99))
    assert small.decode(small.encode(synthetic(9, 11))).size == (11, 9)
    with pytest.raises(LimitExceeded):
        small.encode(synthetic(10, 10))
    with pytest.raises(LimitExceeded):
        small.decode(vqcodec.encode(synthetic(10, 10)))


def test_a_model_is_loaded_once_for_all_names_and_threads(monkeypatch: pytest.MonkeyPatch, conv_model: Model) -> None:
    loaded: list[str] = []

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(self: Model, *arguments: object) -> object:
            loaded.append(function.__name__)
            threading.Event().wait(0.05)  # time for other threads to interfere
            return function(self, *arguments)

        return call

    picture = synthetic(20, 30)
    expected = vqcodec.encode(picture)
    vqcodec.api.functions.forget()
    monkeypatch.setattr(weights, "open_network", counted(weights.open_network))
    monkeypatch.setattr(Model, "prior", counted(Model.prior))
    names = ["photo", store.model_folder("photo")] * 3
    with ThreadPoolExecutor(6) as pool:
        files = list(pool.map(lambda name: vqcodec.encode(picture, model=name), names))
        sizes = list(pool.map(lambda data: vqcodec.decode(data).size, files))
    assert files == [expected] * 6
    assert sizes == [(30, 20)] * 6
    assert sorted(loaded) == ["open_network", "prior"]


# Batches


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_a_batch_equals_single_calls(workers: int | None) -> None:
    pictures = [synthetic(8 + 5 * n, 40 - 4 * n, n) for n in range(7)]
    files = list(vqcodec.encode_batch(pictures, 1, effort=0, workers=workers))
    assert files == [vqcodec.encode(picture, 1, effort=0) for picture in pictures]
    files[3] = vqcodec.encode(pictures[3], model="paper")
    images = list(vqcodec.decode_batch(files, workers=workers))
    assert [image.tobytes() for image in images] == [vqcodec.decode_array(data).tobytes() for data in files]
    model = vqcodec.open_model("paper")
    assert list(model.encode_batch(pictures[3:4], workers=workers)) == files[3:4]
    assert [image.size for image in model.decode_batch(files[3:4], workers=workers)] == [(28, 23)]
    assert list(vqcodec.encode_batch([], workers=workers)) == []


def test_a_batch_is_lazy_and_may_be_stopped() -> None:
    taken: list[int] = []

    def many() -> Iterator[np.ndarray]:
        for number in range(100):
            taken.append(number)
            yield synthetic(8, 8)

    batch = vqcodec.encode_batch(many(), workers=2)
    assert taken == []
    assert [next(batch) for _ in range(3)] == [vqcodec.encode(synthetic(8, 8))] * 3
    assert len(taken) <= 3 + 4
    batch.close()


def test_an_error_in_a_batch_is_raised_in_its_place() -> None:
    batch = vqcodec.encode_batch([synthetic(8, 8), synthetic(8, 8) / 2, synthetic(8, 8)], workers=2)
    assert vqcodec.decode(next(batch)).size == (8, 8)
    with pytest.raises(BadPicture):
        next(batch)
    with pytest.raises(UnknownModel):
        vqcodec.encode_batch([], model="nobody")
    for workers in (0, -1, 1.5):
        with pytest.raises(UsageError):
            vqcodec.decode_batch([], workers=workers)


def test_colours_under_full_transparency(model: Model) -> None:
    samples = np.dstack([synthetic(64, 64), np.full((64, 64), 255, dtype=np.uint8)])
    samples[:, 32:] = (10, 250, 10, 0)
    samples[:, :32, :3] = (250, 10, 10)
    image, opened = Image.fromarray(samples.copy()), vqcodec.open_model(model.path)  # Pillow would share the array
    replaced, kept = (opened.encode(image, effort=0, keep_hidden_colours=keep) for keep in (False, True))
    samples[:, 32:] = (250, 10, 10, 0)
    assert replaced == opened.encode(Image.fromarray(samples), effort=0, keep_hidden_colours=True)
    assert replaced != kept
    assert replaced == vqcodec.encode(image, model=model.path, effort=0)
    assert [replaced, kept] == [
        next(vqcodec.encode_batch([image], model=model.path, effort=0, keep_hidden_colours=keep))
        for keep in (False, True)
    ]
    assert (np.array(opened.decode(replaced))[:, :, 3] == samples[:, :, 3]).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_does_not_change_results(threads: int, fine_model: Model) -> None:
    image = synthetic(70, 90)
    model = vqcodec.open_model(fine_model.path, threads=threads)
    data = model.encode(image)
    assert data == vqcodec.open_model(fine_model.path, threads=1).encode(image)
    assert np.array_equal(model.decode_array(data), vqcodec.open_model(fine_model.path, threads=1).decode_array(data))


@pytest.mark.parametrize("wrong", [0, -1, 2.5])
def test_an_invalid_number_of_threads(wrong: float) -> None:
    with pytest.raises(UsageError, match=r"thread|whole numbers"):
        vqcodec.open_model(threads=wrong)  # type: ignore[arg-type]


def test_the_threads_of_a_batch_are_not_multiplied(fine_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture of a batch is coded in one thread of the batch, whatever the number of threads of the model."""
    names: set[str] = set()
    prices = code_search.prices

    def counted(*arguments: Any) -> Any:
        names.add(threading.current_thread().name)
        return prices(*arguments)

    monkeypatch.setattr(code_search, "prices", counted)
    images = [synthetic(70, 90, seed) for seed in range(5)]
    model = vqcodec.open_model(fine_model.path, threads=4)
    files = list(model.encode_batch(images, workers=2))
    assert 1 <= len(names) <= 2
    assert files == [model.encode(image) for image in images]
