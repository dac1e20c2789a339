"""Golden files: .vq files that every later version must decode to the same codes and pictures.

`python tests/golden.py` adds files for models and qualities that have none yet, and removes those of models that are no
longer in the package. It never changes an existing file.
For each X.vq there is X.png, the decoded picture, and an entry in codes.json, the SHA-256 of the codes. Pixels may
differ by 1 between machines, because floating-point networks round differently. Codes must not differ.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content, paste, read_part
from vqcodec.format.container import unpack
from vqcodec.format.units import block_side
from vqcodec.model.store import Model, bundled, open_model
from vqcodec.picture.picture import Picture
from vqcodec.picture.write import image_file

FOLDER = Path(__file__).parent / "data" / "golden"
CODES = FOLDER / "codes.json"
DEMO = FOLDER / "demo.json"  # the codes of the picture that ships with the package


def drawing(height: int, width: int) -> np.ndarray:
    """A picture [height, width, 3] with slopes, edges, circles and texture, computed in integers."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    red = 40 + (x * 3 + y) % 160
    green = np.where((x - width // 2) ** 2 + (y - height // 3) ** 2 < (height // 3) ** 2, 220, 60 + y % 90)
    blue = np.where((x // 5 + y // 7) % 2 == 0, 200, 30) + (x * y) % 17
    return np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8)


def pictures() -> dict[str, Picture]:
    """The pictures of the golden files."""
    colour, alpha = drawing(61, 150), drawing(33, 65)
    grey = np.repeat(drawing(40, 24)[:, :, :1], 3, 2)
    return {
        "dot": Picture(drawing(1, 1), "RGB"),
        "colour": Picture(colour, "RGB"),
        "grey": Picture(grey, "L"),
        "alpha": Picture(alpha, "RGB", alpha[:, :, 2].copy()),
        "mixed": Picture(drawing(130, 150), "RGB"),
        "stored": Picture(grey[:35, :19], "L"),
    }


def codes_digest(data: bytes, model: Model) -> str:
    """SHA-256 of a file's codes, as little-endian 32-bit integers, and of its stored pixels on black."""
    file = unpack(data)
    return content_digest(read_part(file, model, dict(enumerate(file.units))), model, (file.height, file.width))


def content_digest(content: Content, model: Model, shape: tuple[int, int]) -> str:
    """The same of the content of a file. `shape`: height and width of the picture."""
    digest = hashlib.sha256(content.codes.astype("<i4").tobytes())
    if content.streams:
        pixels = np.zeros((*shape, 3), np.uint8)
        paste(pixels, content, model.config.unit, model.config.vqvae.stride)
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def compressed(codec: Codec, kind: str, picture: Picture, quality: int) -> bytes:
    """The file of a picture: of codes alone, but for the kinds with stored pixels."""
    codes = codec.to_codes(picture.pixels, quality)
    stored = np.zeros(codes.shape[1:], bool)
    if kind == "stored":
        stored[:] = True
    elif kind == "mixed":
        side = block_side(codec.model.config.unit)
        stored[:side] = stored[:, :side] = True
    return codec.pack(picture, codec.with_stored(codes, picture.pixels, stored, 0), quality)


def main() -> None:
    """Add missing files, remove those of models that no longer ship."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    digests = json.loads(CODES.read_text()) if CODES.exists() else {}
    models = [open_model(name) for name in bundled()]
    known = tuple(f"{model.name}-{model.digest.hex()}-" for model in models)
    for path in [path for path in FOLDER.glob("*-q*") if not path.name.startswith(known)]:
        path.unlink()
    digests = {stem: digest for stem, digest in digests.items() if stem.startswith(known)}
    for model in models:
        codec = Codec(model)
        for quality in range(1, model.config.vqvae.qualities + 1):
            for kind, picture in pictures().items():
                stem = f"{model.name}-{model.digest.hex()}-q{quality}-{kind}"
                path = FOLDER / f"{stem}.vq"
                if not path.exists():
                    data = compressed(codec, kind, picture, quality)
                    path.write_bytes(data)
                    path.with_suffix(".png").write_bytes(image_file(codec.decompress(data), "PNG"))
                    digests[stem] = codes_digest(data, model)
    CODES.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
