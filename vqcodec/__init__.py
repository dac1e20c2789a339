"""vqcodec: neural image compression that can be trusted with pictures.

    data = vqcodec.encode(image, quality=3)    # a PIL image or an array -> the bytes of a .vq file
    image = vqcodec.decode(data)               # and back
    vqcodec.info(data)                         # what the header says
    PIL.Image.open("a.vq")                     # .vq is a format of Pillow's, for saving, too

All errors that are raised on purpose are a `vqcodec.VqError`. Importing this module is cheap: torch is loaded when the
first picture is coded, and Pillow learns the format when it is imported itself.
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
from vqcodec.errors import BadFile, BadPicture, ModelError, VqError
from vqcodec.limits import Limits

__version__ = "0.1.0"
__all__ = [
    "BadFile", "BadPicture", "Limits", "ModelError", "OpenModel", "VqError", "__version__", "decode", "decode_array",
    "decode_batch", "encode", "encode_batch", "info", "open_model", "torch_model",
]  # fmt: skip

register_with_pillow()
