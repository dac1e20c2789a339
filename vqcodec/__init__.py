"""vqcodec: neural image compression with checksummed files and deterministic decoding of codes.

    data = vqcodec.encode(image, quality=3)    # a PIL image, an array or a path -> the bytes of a .vq file
    image = vqcodec.decode(data)               # the bytes or the path of a .vq file -> a PIL image
    vqcodec.info(data)                         # the fields of the header
    PIL.Image.open("a.vq")                     # Pillow opens and saves .vq files

All errors that vqcodec raises are subclasses of `vqcodec.VqError`. The import is fast: torch is loaded when the first
picture is coded, and the format is registered with Pillow once Pillow is imported.
"""

from vqcodec.api.functions import (
    OpenModel,
    decode,
    decode_array,
    decode_batch,
    encode,
    encode_batch,
    info,
    open_model,
    torch_model,
)
from vqcodec.api.registration import register_with_pillow
from vqcodec.errors import (
    BadFile,
    BadPicture,
    DamagedFile,
    LimitExceeded,
    ModelError,
    NotAVqFile,
    OutputError,
    UnknownModel,
    UnsupportedFile,
    UsageError,
    VqError,
)
from vqcodec.limits import Limits

__version__ = "0.1.0"
__all__ = [
    "BadFile", "BadPicture", "DamagedFile", "LimitExceeded", "Limits", "ModelError", "NotAVqFile", "OpenModel",
    "OutputError", "UnknownModel", "UnsupportedFile", "UsageError", "VqError", "__version__", "decode", "decode_array",
    "decode_batch", "encode", "encode_batch", "info", "open_model", "torch_model",
]  # fmt: skip

register_with_pillow()
