"""The exceptions of vqcodec. The command line prints the message of an exception and exits with its `exit_code`.

VqError                    base of all exceptions below
├── BadFile                the bytes are not a .vq file that can be decoded
│   ├── NotAVqFile         another format, or empty
│   ├── DamagedFile        truncated, corrupted or inconsistent
│   ├── UnsupportedFile    written by a newer version of vqcodec
│   └── LimitExceeded      declares more than the limits allow
├── BadPicture             the input picture cannot be read
├── ModelError             a model is missing, damaged or violates a bound
│   └── UnknownModel       no model with that name or digest is installed
├── OutputError            the result cannot be written
└── UsageError             usage error: invalid or contradictory options (exit code 2)
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

NO_MEMORY = "there is not enough memory"  # the message for a MemoryError, which Python raises

_MAX_LENGTH = 1000  # characters of a message: paths may be long


class VqError(Exception):
    """Base of all exceptions of vqcodec. The message is one line that says what is wrong and what to do.

    Parts of it may come from untrusted files: control characters are escaped, and long messages are shortened in the
    middle.
    """

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        super().__init__(
            line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH // 2]} ... {line[-_MAX_LENGTH // 2 :]}"
        )


class BadFile(VqError):
    """The bytes are not a .vq file that can be decoded."""


class NotAVqFile(BadFile):
    """The bytes are of another format, or empty."""


class DamagedFile(BadFile):
    """The file is truncated, corrupted or inconsistent."""


class UnsupportedFile(BadFile):
    """The file was written by a newer version of vqcodec."""


class LimitExceeded(BadFile):
    """The file or picture declares more than the limits allow."""


class BadPicture(VqError):
    """The input picture cannot be read."""


class ModelError(VqError):
    """A model is missing, damaged or violates a bound."""


class UnknownModel(ModelError):
    """No model with that name or digest is installed."""


class OutputError(VqError):
    """The result cannot be written."""


class UsageError(VqError):
    """A usage error: options or arguments are invalid or contradictory."""

    exit_code = 2
