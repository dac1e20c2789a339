"""Atomic output: bytes -> a file that is either complete or absent.

The data goes to a hidden temporary file in the same folder, is synced to disk, and is then renamed. A full disk, a
crash or Ctrl-C never leaves an incomplete file or destroys an existing one. Pipes and character devices (/dev/stdout,
/dev/null) have no content to protect: they are written directly.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vqcodec.errors import OutputError

__all__ = ["Attributes", "check_destination", "make_folder", "write_atomic"]


@dataclass(frozen=True)
class Attributes:
    """Permissions and time of an output file. The default is what the system gives to a new file."""

    mode: int = 0o666  # most permissions of a file that did not exist before; the system applies the umask
    group: int | None = None  # the group that the group permissions in `mode` are meant for; None: any
    mtime_ns: int | None = None  # modification time; None: now


NEW_FILE = Attributes()


def write_atomic(path: Path, data: bytes, *, force: bool, attributes: Attributes = NEW_FILE) -> None:
    """Write `data` to `path` atomically. Raises `OutputError` on failure and leaves no partial file.

    Without `force`, an existing file is never replaced, not even one that is created meanwhile. With `force`, the new
    file gets the mode of the old one; if `path` is a symbolic link, the file that it points to is replaced.
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
                _write_synced(temporary, data, None if old_mode is None else stat.S_IMODE(old_mode), attributes)
                if force:
                    os.replace(temporary, target)
                else:
                    _publish_new(temporary, target)
            finally:
                _remove(temporary)
        except BaseException:  # Ctrl-C may have interrupted the removal above
            _remove(temporary)
            raise
        _sync_folder(target.parent)


def check_destination(path: Path, *, force: bool) -> None:
    """Check before slow work whether `write_atomic` can write `path`. Raises `OutputError` (file exists, no folder)."""
    with _as_output_error(path):
        _destination(path, force)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents if needed. Raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {folder}: {error.strerror}") from None


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    """Raise errors of the operating system as `OutputError` about `path`."""
    name = str(path) if str(path).isprintable() else repr(str(path))
    try:
        yield
    except FileExistsError as error:
        raise OutputError(f"{name} exists; give --force to replace it") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {name}: {reason[:1].lower()}{reason[1:]}") from error
    except ValueError as error:  # an invalid name, such as one with a null character
        raise OutputError(f"cannot write {name}: not a file name") from error


def _destination(path: Path, force: bool) -> tuple[Path, int | None]:
    """The path to write to, and the mode (st_mode) of the existing file, or None. Raises OSError."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and _is_stream(mode):
        return path, mode
    if mode is not None and stat.S_ISDIR(mode):
        raise OSError("it is a folder")
    if not force and os.path.lexists(path):  # a dangling link counts: its name is taken
        raise FileExistsError
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError("it is not a regular file")
    target = Path(os.path.realpath(path)) if force else path
    if not target.parent.is_dir():
        raise OSError(f"there is no folder {target.parent}")
    return target, mode


def _is_stream(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _write_synced(path: Path, data: bytes, mode: int | None, attributes: Attributes) -> None:
    """Create `path` with `mode`, or else with `attributes`, and sync it. The data is never readable beyond that."""
    first_mode = attributes.mode if mode is None else 0o600  # the system applies the umask
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, first_mode)) as file:
        if mode is not None:
            os.chmod(path, mode)
        elif attributes.group is not None:
            _close_to_other_groups(path, os.fstat(file.fileno()), attributes.group)
        file.write(data)
        file.flush()
        if attributes.mtime_ns is not None:
            os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))
        os.fsync(file.fileno())


def _close_to_other_groups(path: Path, made: os.stat_result, group: int) -> None:
    """If the file at `path` is of another group than `group`, its group may do no more than all others may."""
    mode = stat.S_IMODE(made.st_mode)
    if made.st_gid != group:
        os.chmod(path, mode & (~0o070 | (mode & 0o007) << 3))


def _publish_new(temporary: Path, target: Path) -> None:
    """Rename the temporary file to a new name. Raises FileExistsError if the name is taken, without a race."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system (FAT, network drives)
        try:
            _rename_new(temporary, target)
        except FileExistsError:
            raise
        except OSError:
            # No such rename either: reserve the name with an empty file, then replace it. If the process is killed in
            # between, the empty file remains.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            try:
                os.replace(temporary, target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename atomically without replacing. Raises FileExistsError, or OSError if the system does not support it."""
    if os.name == "nt":
        os.rename(temporary, target)  # on Windows, this never replaces a file
        return
    libc = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(temporary.absolute()), os.fsencode(target.absolute())
    if hasattr(libc, "renameat2"):  # Linux; 1 is RENAME_NOREPLACE; folder descriptors are unused for absolute paths
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
    """Sync the folder, so that the new name survives a crash, if the system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
