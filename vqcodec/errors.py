"""Everything that can go wrong, as a tree; the command line prints the message and exits with `exit_code`.

VqError                    whatever vqcodec raises on purpose
├── BadFile                the bytes are not a .vq file that can be decoded
│   ├── NotAVqFile         another format, or nothing at all
│   ├── DamagedFile        truncated, bits flipped, contradictory
│   ├── UnsupportedFile    written by a newer version of vqcodec
│   └── LimitExceeded      declares more than the limits allow
├── BadPicture             the input picture cannot be read
├── ModelError             a model is missing, damaged or breaks a bound
│   └── UnknownModel       no model of that name or digest is here
├── OutputError            the result cannot be written
└── UsageError             the request makes no sense (exit code 2)
"""

__all__ = [
    "BadFile",
    "BadPicture",
    "DamagedFile",
    "LimitExceeded",
    "ModelError",
    "NotAVqFile",
    "OutputError",
    "UnknownModel",
    "UnsupportedFile",
    "UsageError",
    "VqError",
]


class VqError(Exception):
    """Base of all errors of vqcodec. Its text is one line that says what to do."""

    exit_code = 1


class BadFile(VqError):
    """The bytes are not a .vq file that can be decoded."""


class NotAVqFile(BadFile):
    """The bytes are another format, or nothing at all."""


class DamagedFile(BadFile):
    """The file is truncated, has flipped bits or contradicts itself."""


class UnsupportedFile(BadFile):
    """The file was written by a newer version of vqcodec."""


class LimitExceeded(BadFile):
    """The file or picture declares more than the limits allow."""


class BadPicture(VqError):
    """The input picture cannot be read."""


class ModelError(VqError):
    """A model is missing, damaged or breaks a bound."""


class UnknownModel(ModelError):
    """No model of that name or digest is installed."""


class OutputError(VqError):
    """The result cannot be written."""


class UsageError(VqError):
    """The request makes no sense."""

    exit_code = 2
