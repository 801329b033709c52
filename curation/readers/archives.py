"""Members of archives as files of a folder: `study.zip/DICOM/IM_0001`.

The archive is read in place. An archive may contain others, which become folders, too.
"""

import io
from collections import OrderedDict
from collections.abc import Iterator
from os import fsdecode
from pathlib import Path

from sono.curation.readers.archive_formats import ENCODINGS, UNPACK, Archive, open_archive
from sono.curation.readers.source import Limits, UnreadableError

__all__ = ["ENCODINGS", "SUFFIXES", "archive_fault", "file_of", "list_members", "member_texts",
           "raw_name", "read_member", "without_suffix"]  # fmt: skip

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_DEPTH = 3  # of archives in archives
MAX_INNER_BYTES = 256 << 20  # of an archive in an archive, which is held in memory

_RAW_SUFFIXES = tuple(suffix.encode() for suffix in SUFFIXES)
_MOST_OPEN = MAX_DEPTH + 1
# Open archives, used last at the end, by path and by size and time of change of the file.
_kept: OrderedDict[tuple[bytes, int, int], Archive] = OrderedDict()


def without_suffix(folder: str) -> str:
    """The name of a folder without the suffix that it has as an archive."""
    suffix = next((one for one in SUFFIXES if folder.lower().endswith(one)), "")
    return folder[: len(folder) - len(suffix)] or folder


def file_of(path: bytes) -> bytes:
    """The file on the disk that holds `path`: an archive, or the path itself."""
    return next((outer for outer in _outer(path) if Path(fsdecode(outer)).is_file()), path)


def list_members(path: bytes) -> list[bytes]:
    """The paths of the members of the archive at `path`, with those of archives in it.

    The path itself is listed if it is no archive, or if members of it are missing.
    """
    try:
        archive = _opened(path)
    except (OSError, UnreadableError):
        return [path]
    if archive is None:
        return [path]
    found: list[bytes] = []
    for name, member in list(archive.members.items()):
        place = path + b"/" + name
        found += [place] if member.fault else list_members(place)
    return found if found and archive.fault is None else [*found, path]


def archive_fault(path: bytes) -> UnreadableError | None:
    """Why the archive at `path` is no picture, or why members are missing; None for other files.

    Raises OSError if the file cannot be read.
    """
    try:
        archive = _opened(path)
    except UnreadableError as error:
        return error
    if archive is None:
        return None
    fact = "give a file in it" if archive.members else "it contains no files"
    return archive.fault or UnreadableError("archive", f"an archive; {fact}")


def read_member(path: bytes, limits: Limits) -> bytes:
    """The content of a member of an archive.

    Raises UnreadableError if it is refused or cannot be read, and OSError for the archive.
    """
    archive, name = _holder(path)
    return archive.read(name, limits.max_file_bytes)


def member_texts(path: bytes) -> tuple[str, ...]:
    """Private texts on a member: comments, and names of accounts."""
    archive, name = _holder(path)
    return (*archive.texts, *archive.members[name].texts)


def raw_name(path: bytes) -> bytes | None:
    """The bytes of the name of a file or member whose encoding is not known; None for any other.

    It is a name that is no UTF-8, or that a ZIP archive does not call UTF-8.
    """
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return path.rpartition(b"/")[2]
    if file_of(path) == path:
        return None
    try:
        archive, name = _holder(path)
    except (OSError, UnreadableError):
        return None
    return archive.members[name].raw_name


def _outer(path: bytes) -> Iterator[bytes]:
    """The folders above `path` that are named like archives, the highest first."""
    end = path.find(b"/")
    while end >= 0:
        if path[:end].lower().endswith(_RAW_SUFFIXES):
            yield path[:end]
        end = path.find(b"/", end + 1)


def _holder(path: bytes) -> tuple[Archive, bytes]:
    """The innermost archive that holds `path`, and the name in it."""
    place = file_of(path)
    name = path[len(place) + 1 :]
    while (archive := _opened(place)) is not None and name not in archive.members:
        inner = next((one for one in _outer(name) if one in archive.members), None)
        if inner is None:
            break
        place, name = place + b"/" + inner, name[len(inner) + 1 :]
    if archive is None or name not in archive.members:
        raise UnreadableError("unreadable", "the archive has no file of this name any more")
    return archive, name


def _opened(path: bytes) -> Archive | None:
    """The archive at `path`, which may be a member of another; None if it is none.

    Raises UnreadableError if it is damaged or beyond a limit, and OSError if it cannot be read.
    """
    if not path.lower().endswith(_RAW_SUFFIXES):
        return None
    file = Path(fsdecode(file_of(path)))
    if not file.is_file():  # a pipe would wait
        return None
    status = file.stat()
    key = path, status.st_size, status.st_mtime_ns
    if key not in _kept:
        archive = _open_file(file) if file == Path(fsdecode(path)) else _open_inner(path)
        if archive is None:
            return None
        _kept[key] = archive
        while len(_kept) > _MOST_OPEN:
            _kept.popitem(last=False)[1].close()
    _kept.move_to_end(key)
    return _kept[key]


def _open_file(file: Path) -> Archive | None:
    stream = file.open("rb")
    try:
        archive = open_archive(stream)
    except BaseException:
        stream.close()
        raise
    if archive is None:
        stream.close()
    return archive


def _open_inner(path: bytes) -> Archive | None:
    outer, name = _holder(path)
    member = outer.members[name]
    if outer.depth == MAX_DEPTH:
        raise UnreadableError(
            "archive_limit", f"archives nested deeper than {MAX_DEPTH} levels; {UNPACK}"
        )
    if member.fault is None and member.size > MAX_INNER_BYTES:
        raise UnreadableError(
            "archive_limit", f"an archive of {member.size} bytes in an archive; {UNPACK}"
        )
    archive = open_archive(io.BytesIO(outer.read(name, MAX_INNER_BYTES)))
    if archive is not None:
        archive.depth = outer.depth + 1
    return archive
