"""Files that are either whole or absent: written beside their place, synced, then renamed."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from sono.curation.core.errors import SonoError

TEMPORARY_PREFIX = ".tmp-"
MAX_TEXT_BYTES = 1 << 20  # of a settings file, a planes file or a template
MAX_JSON_BYTES = 1 << 28  # of the record of a run, which lists every frame
# no room on the disk, for this user, or in one file
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_regular(path: Path) -> None:
    """SonoError where a pipe, socket or device is at `path`.

    To open one may wait forever, or never end.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # whoever opens it says why
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SonoError(
            f"{path}: a pipe, socket or device, not a regular file; put the file itself there"
        )


def check_target(target: Path) -> None:
    """SonoError or OSError where no file can be put at `target`: to be asked before long work."""
    _refuse_special(target)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    folder = next(place for place in (target.parent, *target.parents) if place.exists())
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _refuse_special(target: Path) -> None:
    """SonoError where a device, pipe or socket is at `target`, or a link to one, which a file
    would replace.
    """
    check_regular(target)
    if target.is_symlink() and target.readlink().is_relative_to("/proc"):  # as /dev/stdout is
        raise SonoError(f"{target}: leads to an open stream, not to a file; name a file")


def open_regular(path: Path, limit: int | None = None) -> BufferedReader:
    """Open a regular file of at most `limit` bytes to read.

    SonoError for any other, OSError where there is none.
    """
    check_regular(path)
    # non-blocking, because a pipe may take the place of the file after the check
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        stream.close()
        raise SonoError(f"{path}: not a regular file; put the file itself there")
    if limit is not None and status.st_size > limit:
        stream.close()
        raise SonoError(f"{path}: {status.st_size:,} bytes; at most {limit:,} are read here")
    return stream


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    SonoError for any other, OSError where there is none.
    """
    with open_regular(path, limit) as stream:
        return stream.read() if limit is None else stream.read(limit)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    ValueError where it is damaged or nested too deeply, otherwise as `read_regular`.
    """
    try:
        return json.loads(read_regular(path, MAX_JSON_BYTES))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def real_path(path: Path) -> Path:
    """`path` with every link followed.

    Links in a loop are left for whoever opens it (`Path.resolve` raises).
    """
    return Path(os.path.realpath(path))


def check_inside(path: Path, root: Path) -> None:
    """SonoError where `path`, with every link followed, is not below `root`."""
    if not real_path(path).is_relative_to(real_path(root)):
        raise SonoError(
            f"{path}: leads out of {root}; put the file itself there, not a link or a path to "
            f"another place"
        )


def check_utf8(path: Path) -> None:
    """SonoError where a name in `path` is not UTF-8.

    Tables, settings and reports could not hold it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise SonoError(
            f"{shown}: the name is not UTF-8; rename the folder, for example with `convmv`"
        ) from error


@contextmanager
def atomic_path(target: Path, mode: int = 0o644, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path in the folder of `target`; rename it to `target` when the block
    succeeds.

    `mode` is what the file gets as far as the umask allows. Where power may fail, only a `durable`
    file is sure to be
    whole: the disk has it before it gets its name.
    """
    _refuse_special(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, held, mode = _new_temporary(target, mode)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if (
            isinstance(error, OSError)
            and error.errno in FULL_DISK
            and error.filename in (None, str(temporary))
        ):
            error.filename = str(target)  # nobody knows the other name
        raise
    finally:
        held.close()
    if durable:
        _sync(target.parent)


def _new_temporary(target: Path, mode: int) -> tuple[Path, IO[Any], int]:
    """An empty file for its owner alone next to `target`, held, and the mode that the umask allows
    for a new file.

    Its name follows from that of `target`, so that the next writer replaces what a killed one left;
    where another process is writing `target` it is a random one.
    """
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{sha256(os.fsencode(target.name))[:16]}")
    _remove_abandoned(temporary)
    while (held := _held_new(temporary, mode)) is None:
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    allowed = stat.S_IMODE(os.fstat(held.fileno()).st_mode)
    os.fchmod(held.fileno(), 0o600)
    return temporary, held, allowed | mode & 0o700


def _held_new(path: Path, mode: int) -> IO[Any] | None:
    """A new file, open and locked as long as it is open.

    None where another process has it or has removed it.
    """
    try:
        held = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb"
        )
    except FileExistsError:
        return None
    if _lock(held.fileno(), fcntl.LOCK_SH) is not False and _is_at(held.fileno(), path):
        return held
    held.close()
    return None


def _remove_abandoned(temporary: Path, unsure: bool = False) -> None:
    """Delete a temporary file that no process is writing; `unsure`.

    Also where the file system cannot say so.
    """
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        locked = _lock(descriptor, fcntl.LOCK_EX)
        if (locked or (locked is None and unsure)) and _is_at(descriptor, temporary):
            # under the lock: until now nobody could give its name to another file
            temporary.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool | None:
    """Lock an open file without waiting.

    False where another process has it, None where the file system cannot.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at `path`."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give a new folder, which takes the place of the folder `target` when the block succeeds.

    A process that is killed leaves the old folder or the new one, whole, once `settle_folder` has
    been called. Another one that writes a folder next to it waits for its turn.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = _beside(target)
    with _turn_in(target.parent):
        finish_replace(target)
        new.mkdir()
        try:
            yield new
            if target.exists():
                target.rename(old)
            new.rename(target)
            _sync(target.parent)
        finally:
            finish_replace(target)


@contextmanager
def _turn_in(folder: Path) -> Iterator[None]:
    """Wait until no other process holds the open `folder`, then hold it.

    Where the file system cannot, go on.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder next to `target`, which becomes `target` when the block succeeds.

    `target` must not exist, or be an empty folder. A failure leaves nothing; what a killed process
    left is deleted by the next one with the same `target`. SonoError where `target` is in use, or
    another process is writing it.
    """
    refuse_used_folder(target)
    place = real_path(target)
    if place.is_mount() or place == Path.cwd():
        raise SonoError(f"{target}: cannot be replaced as a whole; name a new folder inside it")
    new, _ = _beside(place)
    new.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _hold_folder(descriptor, new, target)
        for leftover in new.iterdir():
            _remove(leftover)
        try:
            yield new
            new.rename(place)
            _sync(place.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def unfinished(target: Path) -> Path:
    """Where `new_folder` prepares the folder `target`.

    There it stands after a kill, whole or not.
    """
    return _beside(real_path(target))[0]


def _hold_folder(descriptor: int, folder: Path, target: Path) -> None:
    """Lock the open `folder`.

    SonoError where another process has it, or has just given it its final name.
    """
    if _lock(descriptor, fcntl.LOCK_EX) is False:
        raise SonoError(f"{target}: another sono is writing it; wait for it to end")
    if not _is_at(descriptor, folder):
        raise SonoError(f"{target}: another sono has just written it; choose a new name")


def finish_replace(target: Path) -> None:
    """End what a process killed in `atomic_folder` has begun.

    The new folder counts once the old one has moved away.
    """
    new, old = _beside(target)
    if old.exists() and not target.exists():
        (new if new.exists() else old).rename(target)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)


def copy_others(source: Path, target: Path) -> None:
    """Copy to the folder `target` what only the folder `source` has, if there is such a folder."""

    def known(folder: str, names: list[str]) -> set[str]:
        at = target / Path(folder).relative_to(source)
        return {
            name for name in names if name.startswith(TEMPORARY_PREFIX) or (at / name).is_file()
        }

    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=known, dirs_exist_ok=True)


def _beside(target: Path) -> tuple[Path, Path]:
    """Where the new folder is written, and where the old one waits to be deleted."""
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-new"), target.with_name(
        f"{TEMPORARY_PREFIX}{target.name}-old"
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes(target: Path, content: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Write `content` to `target` atomically."""
    with atomic_path(target, mode, durable) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str, mode: int = 0o644) -> None:
    """Write `content` to `target` as UTF-8, atomically."""
    write_bytes(target, content.encode(), mode)


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of the file's bytes."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_used_folder(folder: Path) -> None:
    """SonoError where something stands at `folder` that is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SonoError(f"{folder}: exists and is not an empty folder; choose a new name")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files directly in `folder` that nobody is writing.

    A killed run left them.
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_symlink():
            leftover.unlink(missing_ok=True)
        elif not leftover.is_dir():  # a folder is perhaps what another process is exporting to
            _remove_abandoned(leftover, unsure=True)


def open_lock(path: Path) -> IO[str]:
    """Open, or make, a file that is only locked; its content stays.

    SonoError where it is not a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise SonoError(f"{path}: not a regular file; delete it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SonoError(f"{path}: not a regular file; delete it")
    return os.fdopen(descriptor, "r+")


def lock_file(file: IO[Any], busy: str) -> None:
    """Lock an open file until it is closed or its process ends, however it does.

    SonoError `busy` where another has.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SonoError(busy) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
