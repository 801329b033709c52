"""Files that are either whole or absent: written beside their place, synced, then renamed."""

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sono.curation.errors import SonoError

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def atomic_path(target: Path, mode: int = 0o644, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path in the folder of `target`; rename it to `target` when the block succeeds.

    `mode` is what the file gets as far as the umask allows. Where power may fail, only a `durable` file is sure to be
    whole: the disk has it before it gets its name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, mode = _new_temporary(target.parent, mode)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.chmod(mode)
        temporary.replace(target)
        if durable:
            _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _new_temporary(folder: Path, mode: int) -> tuple[Path, int]:
    """An empty file for its owner alone in `folder`, and what the umask, which only a new file shows, allows."""
    temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        allowed = stat.S_IMODE(os.fstat(handle).st_mode)
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    return temporary, allowed | mode & 0o700


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give a new folder, which takes the place of the folder `target` when the block succeeds.

    A process that is killed leaves the old folder or the new one, whole, once `settle_folder` has been called.
    """
    settle_folder(target)
    new, old = _beside(target)
    new.mkdir(parents=True)
    try:
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
        _sync(target.parent)
    finally:
        settle_folder(target)


def settle_folder(target: Path) -> None:
    """End what a process killed in `atomic_folder` has begun: the new folder counts once the old one has moved away."""
    new, old = _beside(target)
    if old.exists() and not target.exists():
        (new if new.exists() else old).rename(target)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _beside(target: Path) -> tuple[Path, Path]:
    """Where the new folder is written, and where the old one waits to be deleted."""
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-new"), target.with_name(
        f"{TEMPORARY_PREFIX}{target.name}-old"
    )


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
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_used_folder(folder: Path) -> None:
    """SonoError where something stands at `folder` that is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SonoError(f"{folder}: exists and is not an empty folder; choose a new name")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed run left directly in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def hold(file: IO[Any], busy: str) -> None:
    """Lock an open file until it is closed or its process ends, however it does; SonoError `busy` where another has."""
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
