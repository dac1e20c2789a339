"""The commands `tokenize` and `detokenize`: pictures -> codes in a safetensors file, and codes -> pictures.

Pictures are processed one by one; a picture that fails does not stop the others.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcodec.cli.options import Effort, Force, Json, MaxPixels, ModelName, Quality, Threads
from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.errors import BadPicture, UsageError, VqError
from vqcodec.files.folders import pictures_in
from vqcodec.files.plan import STREAM, sources
from vqcodec.files.read_write import read
from vqcodec.files.work import Decompressor, limits_for, open_codec
from vqcodec.output import check_destination, make_folder, write_atomic

if TYPE_CHECKING:
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.tokens import PictureTokens

__all__ = ["detokenize", "tokenize"]

SUFFIX = ".vq"


@dataclass(frozen=True)
class TokenRecord:
    """The result for one picture, as --json prints it."""

    input: str
    output: str
    tensor: str  # name of the tensor in the file of tokens
    width: int
    height: int
    mode: str
    quality: int
    codes: tuple[int, ...]  # shape of the tensor, [G, h, w]
    notices: tuple[str, ...] = ()


def tokenize(
    inputs: Annotated[list[str], typer.Argument(metavar="IN", help="Pictures, .vq files, or folders of them.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="Output file, such as tokens.safetensors.")],
    quality: Quality = None,
    effort: Effort = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the codes of pictures to a safetensors file.

    For a folder, the pictures in it are taken; if there are none, its .vq files. The codes of .vq files are copied
    unchanged. Transparency and metadata are left out.
    """
    from vqcodec.codec.tokens import Tokens, file_name, pack_tokens

    target, paths = Path(out), _token_sources(inputs, out)
    first_with_name: dict[str, Path] = {}
    for path in paths:
        other = first_with_name.setdefault(file_name(path.name), path)
        if other is not path:
            raise UsageError(f"{other} and {path} would both be restored as {file_name(path.name)}; rename one")
    check_destination(target, force=force)
    worker = _Tokenizer(paths, quality, effort, max_pixels, model)
    pictures: list[PictureTokens] = []

    def work(path: Path, progress: Callable[[float], None]) -> TokenRecord:
        picture, notices = worker.work(path, progress)
        pictures.append(picture)
        return _record(str(path), out, str(len(pictures) - 1), picture, notices)

    records = _process_all([(str(path), path) for path in paths], work, as_json)
    if pictures:
        data = pack_tokens(Tokens.of(worker.codec.model, pictures))
        write_atomic(target, data, force=force)
        if not as_json:
            count = "1 picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
            print(printable(f"{out}: {count}, {len(data):,} bytes"))
    _finish(records, as_json)


def detokenize(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A safetensors file from `tokenize` or your own program.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Output folder for the PNG files, created if needed.")
    ],
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode the codes in a safetensors file to pictures.

    The pictures get their original names with the suffix .png. The model is found from the file; --model is needed
    only for a model that is not installed.
    """
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.tokens import file_name, read_tokens, render
    from vqcodec.model.store import find, open_model
    from vqcodec.picture.write import image_file

    tokens = read_tokens(file)
    folder = Path(out)
    if folder.is_dir():
        for picture in tokens.pictures:
            check_destination(folder / file_name(picture.name), force=force)
    chosen = find(bytes.fromhex(tokens.digest)) if model is None else open_model(model)
    codec = Codec(chosen, limits_for(max_pixels))
    make_folder(folder)

    def work(item: tuple[int, PictureTokens], progress: Callable[[float], None]) -> TokenRecord:
        index, picture = item
        target = folder / file_name(picture.name)
        write_atomic(target, image_file(render(codec, tokens, picture, progress), "PNG"), force=force)
        return _record(file, str(target), str(index), picture, ())

    items = [(f"{file}[{index}]", (index, picture)) for index, picture in enumerate(tokens.pictures)]
    _finish(_process_all(items, work, as_json), as_json)


class _Tokenizer:
    """Files -> codes, all with one model.

    This is the given or default model. If all files are .vq files and no model is given, it is the model of the first.
    """

    def __init__(
        self, paths: Sequence[Path], quality: int | None, effort: int | None, max_pixels: int | None, model: str | None
    ) -> None:
        from vqcodec.codec.codec import DEFAULT_EFFORT

        self.effort = DEFAULT_EFFORT if effort is None else effort
        if all(_is_vq(path) for path in paths):
            if quality is not None or effort is not None:
                raise UsageError("-q and --effort are for pictures; the codes of .vq files are copied unchanged")
            reader = Decompressor(model, force=False, max_pixels=max_pixels)
            reader.open()
            self.codec: Codec = reader.codec_for(read(paths[0]))
            self.quality = 0
        else:
            self.codec = open_codec(model, max_pixels)
            self.quality = self.codec.quality(quality)

    def work(self, path: Path, progress: Callable[[float], None]) -> tuple[PictureTokens, tuple[str, ...]]:
        """The codes of a file, and notices about what was left out. Raises `VqError`."""
        from vqcodec.codec.content import read_codes
        from vqcodec.codec.tokens import PictureTokens, is_wide
        from vqcodec.format.container import unpack
        from vqcodec.picture.alone import read_alone
        from vqcodec.picture.metadata import KEEP_NOTHING, KINDS, NAMES

        # The smallest type that fits: the codes of all pictures stay in memory.
        dtype = "uint16" if is_wide(self.codec.model) else "uint8"
        if _is_vq(path):
            found = unpack(read(path), self.codec.limits)
            codes = read_codes(found, self.codec.model, self.codec.prior, progress, self.codec.workers).astype(dtype)
            lost = ["transparency"] if found.alpha is not None else []
            lost += [NAMES[kind] for kind in KINDS if getattr(found.metadata, kind)]
            tokens = PictureTokens(path.name, found.width, found.height, found.mode, found.quality + 1, codes)
            return tokens, tuple(f"the {what} is left out" for what in lost)
        if not path.exists():
            raise BadPicture(f"{path}: there is no such file")
        picture = read_alone(path, KEEP_NOTHING, self.codec.limits.pixels)
        codes = self.codec.to_codes(picture.pixels, self.quality, progress, self.effort).astype(dtype)
        notices = picture.notices if picture.alpha is None else (*picture.notices, "the transparency is left out")
        tokens = PictureTokens(path.name, picture.width, picture.height, picture.mode, self.quality, codes)
        return tokens, notices


def _token_sources(inputs: Sequence[str], out: str) -> list[Path]:
    """The pictures and .vq files that `tokenize` reads. Raises `UsageError`."""
    if STREAM in (*inputs, out):
        raise UsageError("tokenize reads and writes files, not standard input or output")
    found: list[Path] = []
    for name in inputs:
        if not os.path.isdir(name):
            found.append(Path(name))
            continue
        try:
            found += pictures_in(Path(name))
        except UsageError as error:
            try:
                found += [path for path in sources([name]) if path is not None]
            except UsageError:
                raise UsageError(f"{error}, and no {SUFFIX} files") from None
    if os.path.realpath(out) in {os.path.realpath(path) for path in found}:
        raise UsageError(f"{out} is an input and would be overwritten; name another -o")
    return found


def _is_vq(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def _record(source: str, target: str, tensor: str, picture: PictureTokens, notices: tuple[str, ...]) -> TokenRecord:
    shape = tuple(picture.codes.shape)
    size = picture.width, picture.height
    return TokenRecord(source, target, tensor, *size, picture.mode, picture.quality, shape, notices)


def _process_all(
    items: Sequence[tuple[str, Any]], work: Callable[[Any, Callable[[float], None]], TokenRecord], as_json: bool
) -> list[dict[str, Any]]:
    """Do the work for each (label, item) and print the results. Returns the records, including those of failures."""
    records: list[dict[str, Any]] = []
    with Bar() as bar:
        for index, (label, item) in enumerate(items):
            try:
                record = work(item, bar.part(index, len(items)))
            except (VqError, MemoryError) as error:
                text = named(label, str(error) if isinstance(error, VqError) else "there is not enough memory")
                code = error.exit_code if isinstance(error, VqError) else 1
                records.append({"input": label, "error": text, "exit_code": code})
                with bar.paused():
                    print(f"vqcodec: error: {printable(text)}", file=sys.stderr)
                continue
            records.append(asdict(record))
            with bar.paused():
                for notice in record.notices:
                    print(f"vqcodec: note: {printable(named(label, notice))}", file=sys.stderr)
                if not as_json:
                    shape = " x ".join(map(str, record.codes))
                    print(printable(f"{label} -> {record.output}  {shape} codes  q{record.quality}"), flush=True)
    return records


def _finish(records: list[dict[str, Any]], as_json: bool) -> None:
    """Print the records if JSON was requested. Raises `typer.Exit` if an item failed, as the other commands do."""
    codes = [record.pop("exit_code") for record in records if "exit_code" in record]
    if as_json:
        print(json.dumps(records, indent=2))
    if codes:
        raise typer.Exit(1 if len(records) > 1 else codes[0])
