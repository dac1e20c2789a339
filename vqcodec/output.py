"""Bytes -> a file that is there whole or not at all.

A result is written to a hidden temporary file beside its destination, brought to the disk, and only then
given its name, so that no full disk, crash or Ctrl-C leaves half a file behind or costs the old one.
Pipes and character devices (/dev/stdout, /dev/null) have no content to protect: they are written to directly.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vqcodec.errors import OutputError

__all__ = ["check_destination", "make_folder", "write_atomic"]


def write_atomic(path: Path, data: bytes, *, force: bool) -> None:
    """Write `data` to `path`; OutputError, with nothing left behind, if that cannot be done.

    Without `force` an existing file is never replaced, not even one that appears in the meantime. With it the
    new file takes the mode of the old one; a symbolic link stays, and the file it points to is replaced.
    """
    with _as_output_error(path):
        target, old_mode = _destination(path, force)
        if old_mode is not None and _is_stream(old_mode):
            with open(target, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY)) as stream:
                stream.write(data)
            return
        temporary = target.parent / f".vqcodec-{secrets.token_hex(8)}.tmp"
        try:
            try:
                _write_synced(temporary, data, None if old_mode is None else stat.S_IMODE(old_mode))
                if force:
                    os.replace(temporary, target)
                else:
                    _publish_new(temporary, target)
            finally:
                _remove(temporary)
        except BaseException:  # Ctrl-C may have come in the way of the removal, too
            _remove(temporary)
            raise
        _sync_folder(target.parent)


def check_destination(path: Path, *, force: bool) -> None:
    """Raise now the OutputError that `write_atomic` would raise after the work (file exists, no folder)."""
    with _as_output_error(path):
        _destination(path, force)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it where they are absent. Raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from None


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    name = str(path) if str(path).isprintable() else repr(str(path))
    try:
        yield
    except FileExistsError as error:
        raise OutputError(f"{name} exists; give --force to replace it") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {name}: {reason[:1].lower()}{reason[1:]}") from error
    except ValueError as error:  # a name that no file system can hold, such as one with a null character
        raise OutputError(f"cannot write {name}: not a file name") from error


def _destination(path: Path, force: bool) -> tuple[Path, int | None]:
    """Where to write, and the mode (st_mode) of what is there now, None if nothing is."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and _is_stream(mode):
        return path, mode
    if mode is not None and stat.S_ISDIR(mode):
        raise OSError("it is a folder")
    if not force and os.path.lexists(path):  # a link to nothing counts: its name is taken
        raise FileExistsError
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError("it is not a regular file")
    target = Path(os.path.realpath(path)) if force else path
    if not target.parent.is_dir():
        raise OSError(f"there is no folder {target.parent}")
    return target, mode


def _is_stream(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _write_synced(path: Path, data: bytes, mode: int | None) -> None:
    """Create `path`, with the modes of a new file or with `mode`; what that hides is never open to others."""
    first_mode = 0o666 if mode is None else 0o600  # the system applies the umask
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, first_mode)) as file:
        if mode is not None:
            os.chmod(path, mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _publish_new(temporary: Path, target: Path) -> None:
    """Give the temporary file its name; FileExistsError if the name is taken, however recently."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, network drives)
        try:
            _rename_new(temporary, target)
        except FileExistsError:
            raise
        except OSError:
            # Nor that: reserve the name, then rename over our own empty file. Killed in between, that one stays.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            try:
                os.replace(temporary, target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename in one step, unless the name is taken; OSError where the system cannot."""
    if os.name == "nt":
        os.rename(temporary, target)  # there it never replaces
        return
    libc = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(temporary.absolute()), os.fsencode(target.absolute())
    if hasattr(libc, "renameat2"):  # Linux; 1 is RENAME_NOREPLACE, and the folder counts only for relative paths
        failed = libc.renameat2(0, old, 0, new, ctypes.c_uint(1))
    elif hasattr(libc, "renamex_np"):  # macOS; 4 is RENAME_EXCL
        failed = libc.renamex_np(old, new, ctypes.c_uint(4))
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system allows it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
