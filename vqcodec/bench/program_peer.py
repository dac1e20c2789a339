"""Encoders that are programs on the PATH. In: a picture and a quality. Out: the bytes of a file, which Pillow decodes.

The program runs in a temporary folder, with a limit of time. Starting it, and writing the picture for it as an
uncompressed PPM or PGM, is part of the time that encoding takes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.bench.listed_peer import ListedPeer, probe_picture
from vqcodec.errors import VqError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ProgramPeer"]

_SECONDS = 60.0
_SECONDS_PER_MEGAPIXEL = 30.0


@dataclass(frozen=True, kw_only=True)
class ProgramPeer(ListedPeer):
    """An encoder that is a program: PROGRAM INPUT OUTPUT ARGUMENTS."""

    program: str
    arguments: Callable[[float], Sequence[str]]  # quality -> arguments after the two files
    source: str  # where the program can be had, for people

    def missing(self) -> str | None:
        """Why this codec cannot be used on this machine, or None."""
        if shutil.which(self.program) is None:
            return f"there is no program {self.program} on the PATH ({self.source})"
        try:
            self.encode(probe_picture(), self.qualities[0])
        except VqError as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """The version of Pillow, which decodes, and a hash of the program: not every program tells its version."""
        found = {"Pillow": version("pillow")}
        path = shutil.which(self.program)
        if path is not None:
            found[self.program] = f"sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}"
        return found

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of the file that the program writes. Raises `VqError` if it fails or takes too long."""
        path = shutil.which(self.program)
        if path is None:
            raise VqError(f"there is no program {self.program} on the PATH")
        seconds = _SECONDS + _SECONDS_PER_MEGAPIXEL * image.width * image.height / 1e6
        with tempfile.TemporaryDirectory(prefix="vqcodec-") as folder:
            target = Path(folder) / "encoded.jpg"
            picture = Path(folder) / ("picture.ppm" if image.mode == "RGB" else "picture.pgm")
            image.save(picture, "PPM")
            command = [path, str(picture), str(target), *self.arguments(quality)]
            try:
                subprocess.check_output(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=seconds)
                return target.read_bytes()
            except subprocess.TimeoutExpired:
                raise VqError(f"the program {self.program} was stopped after {seconds:.0f} s") from None
            except subprocess.CalledProcessError as error:
                lines = error.output.decode(errors="replace").split("\n")
                said = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {error.returncode}")
                raise VqError(f"the program {self.program} fails: {said}") from None
            except OSError as error:
                raise VqError(f"the program {self.program} fails: {error.strerror}") from None
