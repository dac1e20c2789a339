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

_LONGEST = 1000  # characters of a text: paths may be long


class VqError(Exception):
    """Base of all errors of vqcodec. Its text is one line that says what to do.

    Parts of it may come out of files: control characters are escaped, and the middle of a long text is left out.
    """

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}")


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
