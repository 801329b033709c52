"""Safe files: read only regular ones, write them completely or not at all, lock them.

A file is written next to its place, synced, then renamed.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from sono.curation.core.errors import SonoError

TEMPORARY_PREFIX = ".tmp-"
MAX_TEXT_BYTES = 1 << 20  # of a settings file, a planes file or a template
MAX_JSON_BYTES = 1 << 28  # of a run's run.json, which lists every frame
# no space on the disk, for this user, or in one file
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_regular(path: Path) -> None:
    """Raise SonoError if a pipe, socket or device is at `path`.

    Opening one may block forever, and reading it may never end.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # opening it will report why
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SonoError(
            f"{path}: a pipe, socket or device, not a regular file; put the file itself there"
        )


def check_target(target: Path) -> None:
    """Raise SonoError or OSError if no file can be written at `target`; call before long work."""
    _refuse_special(target)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    folder = next(place for place in (target.parent, *target.parents) if place.exists())
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _refuse_special(target: Path) -> None:
    """Raise SonoError if `target` is a device, pipe or socket, or a link to one.

    A file would replace it.
    """
    check_regular(target)
    if target.is_symlink() and target.readlink().is_relative_to("/proc"):  # as /dev/stdout is
        raise SonoError(f"{target}: leads to an open stream, not to a file; name a file")


def open_regular(path: Path, limit: int | None = None) -> BufferedReader:
    """Open a regular file of at most `limit` bytes for reading.

    Raises SonoError for any other kind of file, OSError if there is none.
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

    Raises SonoError for any other kind of file, OSError if there is none.
    """
    with open_regular(path, limit) as stream:
        return stream.read() if limit is None else stream.read(limit)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises ValueError if it is damaged or nested too deeply, otherwise as `read_regular`.
    """
    try:
        return json.loads(read_regular(path, MAX_JSON_BYTES))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json_object(path: Path, advice: str) -> dict[str, Any]:
    """The object in a JSON file; SonoError with `advice` if it is missing or damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:160]
        raise SonoError(f"{path}: damaged ({why}); {advice}") from error
    if not isinstance(content, dict):
        raise SonoError(f"{path}: damaged (not a JSON object); {advice}")
    return content


def real_path(path: Path) -> Path:
    """`path` with all links resolved.

    Links in a loop are left for the caller that opens the file (`Path.resolve` raises).
    """
    return Path(os.path.realpath(path))


def check_inside(path: Path, root: Path) -> None:
    """Raise SonoError if `path`, with all links resolved, is not below `root`."""
    if not real_path(path).is_relative_to(real_path(root)):
        raise SonoError(
            f"{path}: leads out of {root}; put the file itself there, not a link or a path to "
            f"another place"
        )


def check_utf8(path: Path) -> None:
    """Raise SonoError if a name in `path` is not UTF-8.

    Tables, settings and reports cannot contain such a name.
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
    """Yield a temporary path next to `target`; rename it to `target` when the block succeeds.

    The file gets `mode` as far as the umask allows. Only a `durable` file is sure to be complete
    after a power failure: it is synced to the disk before it is renamed.
    """
    _refuse_special(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, held, mode = _new_temporary(target, mode)
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if (
            isinstance(error, OSError)
            and error.errno in FULL_DISK
            and error.filename in (None, str(temporary))
        ):
            error.filename = str(target)  # the user does not know the temporary name
        raise
    finally:
        held.close()
    if durable:
        sync(target.parent)


def _new_temporary(target: Path, mode: int) -> tuple[Path, IO[Any], int]:
    """Create an empty, locked temporary file next to `target`; return path, file and final mode.

    Only the owner may read it. The mode is `mode` as far as the umask allows. The name is derived
    from `target`, so the next writer replaces what a killed one left; if another process is writing
    `target`, the name is random.
    """
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{sha256(os.fsencode(target.name))[:16]}")
    _remove_abandoned(temporary)
    while (held := _held_new(temporary, mode)) is None:
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    allowed = stat.S_IMODE(os.fstat(held.fileno()).st_mode)
    os.fchmod(held.fileno(), 0o600)
    return temporary, held, allowed | mode & 0o700


def _held_new(path: Path, mode: int) -> IO[Any] | None:
    """A new file, open and locked while it is open.

    The result is None if another process has it or has removed it.
    """
    try:
        held = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb"
        )
    except FileExistsError:
        return None
    if try_lock(held.fileno(), fcntl.LOCK_SH) is not False and is_at(held.fileno(), path):
        return held
    held.close()
    return None


def _remove_abandoned(temporary: Path, unsure: bool = False) -> None:
    """Delete a temporary file that no process is writing.

    With `unsure`, also delete it if the file system does not support locks.
    """
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        locked = try_lock(descriptor, fcntl.LOCK_EX)
        if (locked or (locked is None and unsure)) and is_at(descriptor, temporary):
            # under the lock: until now no other file could get its name
            temporary.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, how: int) -> bool | None:
    """Lock an open file without waiting.

    False if another process has the lock, None if the file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at `path`."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


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


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files directly in `folder` that no process is writing.

    A killed run left them.
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_symlink():
            leftover.unlink(missing_ok=True)
        elif not leftover.is_dir():  # another process may be exporting to a folder
            _remove_abandoned(leftover, unsure=True)


def open_lock(path: Path) -> IO[str]:
    """Open or create a file that is used only as a lock; its content is not changed.

    Raises SonoError if it is not a regular file.
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
    """Lock an open file until it is closed or its process ends, even by a kill.

    Raises SonoError with the message `busy` if another process has the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SonoError(busy) from error


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
