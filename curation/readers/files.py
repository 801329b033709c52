"""Walk a folder and read its files, whatever they are; no file can stop a run."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from sono.curation.core.atomic import check_regular, real_path, sha256
from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import REASONS
from sono.curation.core.study_folder import CONFIG_NAME, VAULT_SUFFIX
from sono.curation.readers.archives import (
    archive_fault,
    file_of,
    list_members,
    member_texts,
    read_member,
)
from sono.curation.readers.containers import format_of
from sono.curation.readers.detached import (
    HEADER_BYTES,
    HEADERS,
    check_rest,
    headers_of,
    plain_name,
    refused,
    written_name,
)
from sono.curation.readers.dicom import (
    from_mark,
    is_dicom,
    looks_like_dataset,
    read_dicom,
    read_ids,
)
from sono.curation.readers.images import EXTENSIONS, image_kind, read_image
from sono.curation.readers.object_store import is_url, list_objects, read_object, stamp
from sono.curation.readers.source import (
    DEFAULT_LIMITS,
    Frame,
    Header,
    Limits,
    ReadResult,
    UnreadableError,
    check_bytes,
    clean_texts,
    failed,
)
from sono.curation.readers.video import read_video
from sono.curation.readers.volume_texts import header_texts
from sono.curation.readers.volumes import READERS as VOLUMES
from sono.curation.readers.volumes import read_volume

__all__ = [
    "Frame",
    "Header",
    "Limits",
    "ReadResult",
    "list_sources",
    "name_of",
    "peek_source",
    "read_source",
    "stamp_of",
    "without_studies",
]

_HEADERS = tuple(ending.encode() for ending in HEADERS)
_MISSING = "the file with its pixels is missing or cannot be read; copy both files again"
_CONFIG, _FRAMES, _TABLE = f"/{CONFIG_NAME}".encode(), b"/frames/", b"/images.parquet"
_VAULT, _SOURCES = VAULT_SUFFIX.encode(), b"/sources.parquet"
SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")


def name_of(root: Path | str) -> bytes:
    """The one name of a folder, independent of how it was given.

    It is the absolute path, or the address in an object store.
    """
    return os.fsencode(root.rstrip("/") if isinstance(root, str) else real_path(root))


def list_sources(root: Path | str) -> list[bytes]:
    """Absolute paths of all entries below `root` that are not folders, sorted bytewise.

    The members of archives are listed as if their archive were a folder. A link to a folder is
    listed, not followed, and so is a folder that cannot be opened. For an object store the result
    has the addresses of objects. Raises SonoError if there are none.
    """
    if isinstance(root, str):
        return list_objects(root)
    if root.is_dir():
        found = _with_members(_walk(name_of(root)))
        if not found:
            raise SonoError(f"{root}: contains no files; give the folder with your export")
        return found
    if not root.exists():
        raise SonoError(f"{root}: does not exist; give a folder or a file")
    check_regular(root)
    # a link itself is not followed
    return _with_members([os.fsencode(real_path(root.parent) / root.name)])


def without_studies(paths: Iterable[bytes]) -> tuple[list[bytes], dict[bytes, int]]:
    """The paths outside of workspaces and vaults, and the number of files in each of these.

    A workspace is a folder, perhaps in an archive, with `sono.toml` and stored frames. Its frames
    are cropped and named by their content, so they are no raw input.
    """
    listed = list(paths)
    known = set(listed)
    configs = [one[: -len(_CONFIG)] for one in listed if one.endswith(_CONFIG)]
    framed = {one.partition(_FRAMES)[0] for one in listed if _FRAMES in one}
    studies = [one for one in configs if one in framed or one + _TABLE in known]
    studies += [one + _VAULT for one in studies]
    sources = (one[: -len(_SOURCES)] for one in listed if one.endswith(_SOURCES))
    studies += [one for one in sources if one.endswith(_VAULT) and one + b"/key" in known]
    starts = tuple(one + b"/" for one in studies)
    counts = {one: sum(path.startswith(one + b"/") for path in listed) for one in studies}
    left = [path for path in listed if not path.startswith(starts)] if starts else listed
    return left, {one: count for one, count in sorted(counts.items()) if count}


def _with_members(paths: Iterable[bytes]) -> list[bytes]:
    return sorted({one for path in paths for one in list_members(path)})


def _walk(top: bytes) -> Iterator[bytes]:
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry.path
        except OSError:
            yield folder


def stamp_of(path: bytes) -> tuple[int, int] | None:
    """Size in bytes and modification time in ns (for an object, a number derived from its tag).

    For a member of an archive they are those of the archive, for a header whose pixels are in
    another file the sums of both. The result is None if these are unknown.
    """
    try:
        if is_url(path):
            return stamp(path)
        status = Path(os.fsdecode(file_of(path))).stat()
    except OSError:
        return None
    other = _pixels_status(path)
    if other is None:
        return status.st_size, status.st_mtime_ns
    return status.st_size + other.st_size, status.st_mtime_ns + other.st_mtime_ns


def read_source(path: bytes, limits: Limits = DEFAULT_LIMITS, force: bool = False) -> ReadResult:
    """Read one path; problems are reported as codes of the result, never as exceptions.

    With `force`, a file that is neither DICOM nor an image by its first bytes is tried as DICOM
    with a broken beginning.
    """
    name = Path(os.fsdecode(path)).name
    try:
        content = _content(path, name, limits)
    except UnreadableError as error:
        return failed(error, Header(private=_member_texts(path)))
    except MemoryError:
        return failed(UnreadableError("too_large", "this file does not fit into memory"))
    try:
        pixels = _pixels(path, content, limits)
    except UnreadableError as error:
        texts = clean_texts((*_member_texts(path), *header_texts(content)))
        return replace(failed(error, Header(private=texts)), file_sha256=sha256(content))
    kind = _kind(content)
    forced = force and format_of(content) is None
    bare_dataset = kind is None and (forced or looks_like_dataset(content))
    whole = from_mark(content) if bare_dataset and force else content
    if kind == "dicom" or bare_dataset:
        source = read_dicom(whole, limits)
    elif kind is None and _has_header(path, limits):
        source = failed(UnreadableError("pixel_data"))
    else:
        source = _read_other(content, limits, pixels)
    if texts := _member_texts(path):
        texts = clean_texts((*source.header.private, *texts))
        source = replace(source, header=replace(source.header, private=texts))
    return _with_extension(replace(source, file_sha256=sha256(content + pixels)), name, kind)


def _read_other(content: bytes, limits: Limits, pixels: bytes) -> ReadResult:
    """Read content that is not DICOM; `pixels` are those of another file, if there is one."""
    known = format_of(content)
    if known is not None and known.code == "video":
        return read_video(content, known, limits)
    if known is not None and known.name in VOLUMES:
        return read_volume(content, known, limits, pixels or None)
    return read_image(content, limits)


def peek_source(path: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadResult | None:
    """The identity that a file with frames declares, without decoding pixels.

    The result is None for any other file.
    """
    try:
        content = _content(path, Path(os.fsdecode(path)).name, limits)
        pixels = _pixels(path, content, limits)
    except (UnreadableError, MemoryError):
        return None
    kind = _kind(content)
    is_dataset = kind == "dicom" or (kind is None and looks_like_dataset(content))
    header = read_ids(content, limits) if is_dataset else None if kind is None else Header()
    return None if header is None else ReadResult(sha256(content + pixels), (), (), "", header)


def _content(path: bytes, name: str, limits: Limits) -> bytes:
    if name.startswith(".") or name.lower() in SYSTEM_NAMES:
        raise UnreadableError("system_file")
    try:
        if is_url(path):
            return read_object(path, limits)
        if (fault := archive_fault(path)) is not None:
            raise fault
        if file_of(path) != path:
            return _read_member(path, limits)
        _check_regular(path)
        return _read_stable(path, limits)
    except OSError as error:
        raise UnreadableError(
            "unreadable", f"the file could not be read ({error.strerror})"
        ) from error


def _pixels(path: bytes, content: bytes, limits: Limits) -> bytes:
    """The content of the file with the pixels of a header; b"" for files that hold their own.

    Raises UnreadableError if it is not a regular file in the folder of the header.
    """
    if not path.lower().endswith(_HEADERS) or (written := written_name(content)) is None:
        return b""
    place = _next_to(path, plain_name(written))
    check_rest(content)
    if is_url(path):
        raise refused("files of an object store are read one by one")
    before = stamp_of(path)
    try:
        if file_of(path) != path:
            pixels = read_member(place, limits)
        elif not stat.S_ISREG(os.lstat(place).st_mode):
            raise refused("their file is a link or no regular file")
        else:
            pixels = _read_stable(place, limits, os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise UnreadableError("unreadable", _MISSING) from error
    except OSError as error:
        raise refused("their file cannot be opened") from error
    except UnreadableError as error:
        missing = error.code == "unreadable"
        raise UnreadableError(error.code, _MISSING if missing else error.fact) from error
    if stamp_of(path) != before:
        raise UnreadableError("changed_while_read")
    return pixels


def _pixels_status(path: bytes) -> os.stat_result | None:
    """The status of the file with the pixels of a header on the disk; None for other files."""
    if not path.lower().endswith(_HEADERS) or file_of(path) != path:
        return None
    try:
        written = written_name(_head(path))
        return None if written is None else os.lstat(_next_to(path, plain_name(written)))
    except (OSError, UnreadableError):
        return None


def _has_header(path: bytes, limits: Limits) -> bool:
    """Whether a file has the pixels of a header of the same name in its folder."""
    name = os.fsdecode(path.rpartition(b"/")[2])
    for other in [] if is_url(path) else headers_of(name):
        place = _next_to(path, other)
        try:
            head = _head(place) if file_of(path) == path else read_member(place, limits)
        except (OSError, UnreadableError):
            continue
        if written_name(head) == name:
            return True
    return False


def _head(path: bytes) -> bytes:
    """The beginning of a regular file, which may be a header."""
    _check_regular(path)
    with Path(os.fsdecode(path)).open("rb") as stream:
        return stream.read(HEADER_BYTES)


def _next_to(path: bytes, name: str) -> bytes:
    return path.rpartition(b"/")[0] + b"/" + os.fsencode(name)


def _read_member(path: bytes, limits: Limits) -> bytes:
    """The content of a member; refuses one whose archive changed while it was read."""
    before = stamp_of(path)
    content = read_member(path, limits)
    if stamp_of(path) != before:
        raise UnreadableError("changed_while_read")
    return content


def _member_texts(path: bytes) -> tuple[str, ...]:
    """Private texts of the archive that holds `path`; none for other files."""
    if is_url(path) or file_of(path) == path:
        return ()
    try:
        return clean_texts(member_texts(path))
    except (OSError, UnreadableError):  # a damaged archive has no texts
        return ()


def _check_regular(path: bytes) -> None:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        try:
            status = Path(os.fsdecode(path)).stat()
        except OSError as error:
            raise UnreadableError("broken_link") from error
    elif stat.S_ISDIR(status.st_mode):  # only a folder that cannot be opened is listed
        raise UnreadableError("unreadable", "the folder could not be opened")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("not_a_file")


def _read_stable(path: bytes, limits: Limits, flags: int = 0) -> bytes:
    """The complete content; refuses a file that changed while it was read."""
    # non-blocking, because a pipe may take the place of the file after the check
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    with os.fdopen(descriptor, "rb") as stream:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise UnreadableError("not_a_file")
        check_bytes(before.st_size, limits)
        content = stream.read(before.st_size + 1)
        after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or len(
        content
    ) != before.st_size:
        raise UnreadableError("changed_while_read")
    return content


def _kind(content: bytes) -> str | None:
    # DICOM first: its preamble may be a TIFF header
    if is_dicom(content):
        return "dicom"
    known = format_of(content)
    if known is not None and (known.code == "video" or known.name in VOLUMES):
        return known.code
    return image_kind(content)


def _with_extension(source: ReadResult, name: str, kind: str | None) -> ReadResult:
    """Add the remark that the name implies another format than the content has."""
    extension = Path(name).suffix.lower()
    promised = [known for known, endings in EXTENSIONS.items() if extension in endings]
    if kind is None or not source.frames or promised in ([], [kind]):
        return source
    fact = f"{REASONS['wrong_extension'].meaning} ({kind})"
    message = "; ".join(filter(None, (source.message, fact)))
    return replace(source, codes=(*source.codes, "wrong_extension"), message=message)
