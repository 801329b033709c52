"""Folders that are either complete or absent: written next to their place, then renamed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sono.curation.core.atomic import TEMPORARY_PREFIX, is_at, real_path, sync, try_lock
from sono.curation.core.errors import SonoError


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder that replaces the folder `target` when the block succeeds.

    A killed process leaves the old folder or the new one, complete, once `finish_replace` has been
    called. Another process that writes a folder next to it waits for its turn.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = _temporary_folders(target)
    with _wait_for_turn(target.parent):
        finish_replace(target)
        new.mkdir()
        try:
            yield new
            if target.exists():
                target.rename(old)
            new.rename(target)
            sync(target.parent)
        finally:
            finish_replace(target)


@contextmanager
def _wait_for_turn(folder: Path) -> Iterator[None]:
    """Wait until no other process has locked the open `folder`, then lock it.

    Continue without a lock if the file system does not support locks.
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
    """Yield a temporary folder next to `target` that becomes `target` when the block succeeds.

    `target` must not exist, or be an empty folder. A failure leaves nothing; the next call with the
    same `target` deletes what a killed process left. Raises SonoError if `target` is in use, or if
    another process is writing it.
    """
    refuse_used_folder(target)
    place = real_path(target)
    if place.is_mount() or place == Path.cwd():
        raise SonoError(f"{target}: cannot be replaced; name a new folder inside it")
    new, _ = _temporary_folders(place)
    new.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _lock_folder(descriptor, new, target)
        for leftover in new.iterdir():
            _remove(leftover)
        try:
            yield new
            new.rename(place)
            sync(place.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def unfinished(target: Path) -> Path:
    """The temporary folder in which `new_folder` prepares the folder `target`.

    After a kill it remains there, complete or not.
    """
    return _temporary_folders(real_path(target))[0]


def _lock_folder(descriptor: int, folder: Path, target: Path) -> None:
    """Lock the open `folder`.

    Raises SonoError if another process has locked it, or has just given it its final name.
    """
    if try_lock(descriptor, fcntl.LOCK_EX) is False:
        raise SonoError(f"{target}: another sono is writing it; wait for it to end")
    if not is_at(descriptor, folder):
        raise SonoError(f"{target}: another sono has just written it; choose a new name")


def finish_replace(target: Path) -> None:
    """Finish what a process that was killed in `atomic_folder` began.

    The new folder counts once the old one has been moved away.
    """
    new, old = _temporary_folders(target)
    if old.exists() and not target.exists():
        (new if new.exists() else old).rename(target)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)


def copy_others(source: Path, target: Path) -> None:
    """Copy to the folder `target` what only the folder `source` has, if `source` exists."""

    def known(folder: str, names: list[str]) -> set[str]:
        at = target / Path(folder).relative_to(source)
        return {
            name for name in names if name.startswith(TEMPORARY_PREFIX) or (at / name).is_file()
        }

    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=known, dirs_exist_ok=True)


def _temporary_folders(target: Path) -> tuple[Path, Path]:
    """Where the new folder is written, and where the old one waits to be deleted."""
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-new"), target.with_name(
        f"{TEMPORARY_PREFIX}{target.name}-old"
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_used_folder(folder: Path) -> None:
    """Raise SonoError if `folder` exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SonoError(f"{folder}: exists and is not an empty folder; choose a new name")
