"""Output files are written atomically, and existing files are replaced only with `force`."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vqcodec import output
from vqcodec.errors import OutputError
from vqcodec.output import check_destination, write_atomic

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and devices of POSIX systems")

OLD, NEW = b"old content", b"new content" * 1000


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("data", [b"", NEW])
def test_new_file(tmp_path: Path, force: bool, data: bytes) -> None:
    write_atomic(tmp_path / "a.vq", data, force=force)
    assert (tmp_path / "a.vq").read_bytes() == data
    assert names(tmp_path) == ["a.vq"]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomic(Path("a.vq"), NEW, force=False)
    assert (tmp_path / "a.vq").read_bytes() == NEW


def test_longest_name(tmp_path: Path) -> None:
    name = "n" * 252 + ".vq"
    write_atomic(tmp_path / name, NEW, force=False)
    assert names(tmp_path) == [name]


def test_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.vq"
    path.write_bytes(OLD)
    with pytest.raises(OutputError, match=r"a\.vq exists; give --force to replace it$"):
        write_atomic(path, NEW, force=False)
    assert path.read_bytes() == OLD
    write_atomic(path, NEW, force=True)
    assert path.read_bytes() == NEW
    assert names(tmp_path) == ["a.vq"]


# --- failures ------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
    ],
)
@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_failure_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: bytes | None,
    error: BaseException,
    raised: type[BaseException],
    step: str,
) -> None:
    path = tmp_path / "a.vq"
    if old is not None:
        path.write_bytes(old)

    class HalfWritten(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            raise error

    def open_half(name: Path, mode: str, opener: Any) -> HalfWritten:
        return HalfWritten(name, "x", opener=opener)

    if step == "write":
        monkeypatch.setattr(output, "open", open_half, raising=False)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", failing(error))
    else:
        monkeypatch.setattr(os, "link", failing(error))
        monkeypatch.setattr(output, "_rename_new", failing(error))
        monkeypatch.setattr(os, "replace", failing(error))
    with pytest.raises(raised) as caught:
        write_atomic(path, NEW, force=old is not None)
    assert names(tmp_path) == ([] if old is None else ["a.vq"])
    if old is not None:
        assert path.read_bytes() == old
    if raised is OutputError:
        assert str(caught.value) == f"cannot write {path}: no space left on device"


def test_real_write_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*: file too large"):
            write_atomic(tmp_path / "a.vq", NEW, force=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a\.vq: there is no folder .*missing$"):
        write_atomic(tmp_path / "missing" / "a.vq", NEW, force=False)
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(OutputError, match=r"cannot write .*a\.vq: "):
        write_atomic(tmp_path / "file" / "a.vq", NEW, force=True)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("force", [False, True])
def test_folder(tmp_path: Path, force: bool) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        write_atomic(tmp_path, NEW, force=force)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a\0b", "n" * 300, "a\nb" + "n" * 300])
def test_impossible_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError) as caught:
        write_atomic(tmp_path / name, NEW, force=False)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            write_atomic(tmp_path / "a.vq", NEW, force=False)
    finally:
        tmp_path.chmod(0o700)


def test_check_destination(tmp_path: Path) -> None:
    path = tmp_path / "a.vq"
    check_destination(path, force=False)
    assert names(tmp_path) == []
    with pytest.raises(OutputError, match="there is no folder"):
        check_destination(path / "b.vq", force=False)
    path.write_bytes(OLD)
    with pytest.raises(OutputError, match="exists; give --force"):
        check_destination(path, force=False)
    check_destination(path, force=True)
    assert path.read_bytes() == OLD


@posix
@pytest.mark.parametrize(
    ("mode", "group", "made"),
    [(0o666, None, 0o644), (0o600, 0, 0o600), (0o660, 0, 0o640), (0o660, 1, 0o600), (0o664, 1, 0o644)],
)
def test_attributes_of_a_new_file(
    tmp_path: Path, umask: Callable[[int], int], mode: int, group: int | None, made: int
) -> None:
    """`group`: how far the group of the attributes is from that which the new file has."""
    (tmp_path / "b").touch()
    own = (tmp_path / "b").stat().st_gid
    attributes = output.Attributes(mode, None if group is None else own + group, 10**18)
    write_atomic(tmp_path / "a.vq", NEW, force=False, attributes=attributes)
    found = (tmp_path / "a.vq").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (made, 10**18)
    (tmp_path / "a.vq").chmod(0o604)
    write_atomic(tmp_path / "a.vq", OLD, force=True, attributes=attributes)
    assert stat.S_IMODE((tmp_path / "a.vq").stat().st_mode) == 0o604


# --- races ---------------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    """Simulate a file system without hard links (1), or also without renaming without replacing (2)."""
    refusal = failing(OSError(errno.EPERM, "Operation not permitted"))
    for owner, name in ((os, "link"), (output, "_rename_new"))[:missing]:
        monkeypatch.setattr(owner, name, refusal)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_file_that_appears_while_writing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    path, fsync = tmp_path / "a.vq", os.fsync

    def fsync_late(descriptor: int) -> None:
        fsync(descriptor)
        path.write_bytes(OLD)

    monkeypatch.setattr(os, "fsync", fsync_late)
    without(monkeypatch, missing)
    with pytest.raises(OutputError, match="exists; give --force"):
        write_atomic(path, NEW, force=False)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["a.vq"]


@pytest.mark.parametrize(("missing", "last"), [(1, (output, "_rename_new")), (2, (os, "replace"))])
def test_filesystem_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int, last: tuple[Any, str]
) -> None:
    without(monkeypatch, missing)
    write_atomic(tmp_path / "a.vq", NEW, force=False)
    assert (tmp_path / "a.vq").read_bytes() == NEW
    assert names(tmp_path) == ["a.vq"]
    monkeypatch.setattr(*last, failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "b.vq", NEW, force=False)
    assert names(tmp_path) == ["a.vq"]


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    path, results = tmp_path / "a.vq", []

    def write(content: bytes) -> None:
        try:
            write_atomic(path, content, force=False)
            results.append(content)
        except OutputError:
            pass

    threads = [threading.Thread(target=write, args=(bytes([n]) * 5000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [path.read_bytes()]
    assert names(tmp_path) == ["a.vq"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fsync_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_files_only)
    write_atomic(tmp_path / "a.vq", NEW, force=False)
    assert names(tmp_path) == ["a.vq"]


# --- modes, links, devices -----------------------------------------------------------------


@posix
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_file_has_the_usual_mode(tmp_path: Path, umask: Callable[[int], int], mask: int, mode: int) -> None:
    umask(mask)
    for force in (False, True):
        write_atomic(tmp_path / f"{force}.vq", NEW, force=force)
        assert stat.S_IMODE((tmp_path / f"{force}.vq").stat().st_mode) == mode


@posix
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o444, 0o640])
def test_replaced_file_keeps_its_mode(tmp_path: Path, umask: Callable[[int], int], mode: int) -> None:
    path = tmp_path / "a.vq"
    path.write_bytes(OLD)
    path.chmod(mode)
    write_atomic(path, NEW, force=True)
    assert path.read_bytes() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.vq", tmp_path / "link.vq"
    real.write_bytes(OLD)
    link.symlink_to(Path("real") / "a.vq")
    with pytest.raises(OutputError, match=r"link\.vq exists"):
        write_atomic(link, NEW, force=False)
    assert real.read_bytes() == OLD
    write_atomic(link, NEW, force=True)
    assert link.is_symlink()
    assert real.read_bytes() == NEW
    assert names(tmp_path) == ["link.vq", "real"]
    assert names(tmp_path / "real") == ["a.vq"]


@posix
def test_symbolic_link_to_nothing(tmp_path: Path) -> None:
    link = tmp_path / "link.vq"
    link.symlink_to("target.vq")
    for refuse in (check_destination, lambda path, force: write_atomic(path, NEW, force=force)):
        with pytest.raises(OutputError, match="exists; give --force"):
            refuse(link, force=False)
    assert names(tmp_path) == ["link.vq"]
    write_atomic(link, NEW, force=True)
    assert link.is_symlink()
    assert (tmp_path / "target.vq").read_bytes() == NEW


@posix
def test_symbolic_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "a", NEW, force=True)
    assert names(tmp_path) == ["a", "b"]


@posix
@pytest.mark.parametrize("force", [False, True])
def test_null_device_stays_a_device(force: bool) -> None:
    write_atomic(Path("/dev/null"), NEW, force=force)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_full_device() -> None:
    with pytest.raises(OutputError, match="cannot write /dev/full: no space left on device"):
        write_atomic(Path("/dev/full"), NEW, force=False)


@posix
def test_named_pipe(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomic(pipe, NEW, force=False)
    reader.join(10)
    assert received == [NEW]
    assert pipe.is_fifo()


@posix
def test_other_special_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)  # socket paths must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(OutputError, match="not a regular file"):
            write_atomic(tmp_path / "s", NEW, force=True)
    assert names(tmp_path) == ["s"]
