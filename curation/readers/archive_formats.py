"""The lists of members of ZIP and tar archives, and the bytes of one member, within bounds.

Nothing is unpacked to the disk, and no member is opened by its name.
"""

import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from sono.curation.readers.gzip_stream import GzipStream, Readable, Stream, gzip_texts
from sono.curation.readers.source import DECODER_ERRORS, UnreadableError, readable

MAX_MEMBERS = 100_000
MAX_UNPACKED_BYTES = 256 << 30  # of all members together
MAX_RATIO = 200  # of unpacked to packed bytes
MAX_NAME_BYTES = 4096

_FREE_BYTES = 16 << 20  # unpacked at any ratio
_MAX_READ_BYTES = 16 << 20  # of a header or a list of members
_STEP_BYTES = 1 << 20
_ENCRYPTED = 1
_UNIX = 3
_DRIVE = re.compile(r"[A-Za-z]:")
_SHARED_ACCOUNTS = frozenset(
    (
        "root",
        "user",
        "users",
        "admin",
        "administrator",
        "nobody",
        "guest",
        "staff",
        "wheel",
        "everyone",
        "nogroup",
        "none",
    )
)
# What a PAX header holds on the member itself, next to its path.
_PAX_PLAIN = re.compile(
    r"path|linkpath|size|[amc]time|[ug]id|[ug]name|hdrcharset|charset|GNU\.sparse\..*"
    r"|LIBARCHIVE\.creationtime|SCHILY\.(?:dev|ino|nlink|realsize|filetype|fflags)"
)
# Extra fields of Info-ZIP: version, check sum and a text.
_UNICODE_COMMENT, _UNICODE_NAME = 0x6375, 0x7075
# Of names in archives that do not state theirs.
ENCODINGS = ("gbk", "big5", "cp932", "cp949", "cp1250", "cp1251", "cp1252", "cp850", "cp866")

UNPACK = "unpack it and run `sono qc` on the folder"
# Why a member is not read.
LINK, ENCRYPTED, METHOD, SPARSE, OUTSIDE, TWICE, FOLDER = MESSAGES = tuple(
    f"{why}; unpack it by hand if it is wanted"
    for why in (
        "it is a link or a device",
        "it is encrypted",
        "it is packed by another method than deflate",
        "it is a sparse file",
        "its name leaves the folder of the archive",
        "its name occurs twice in the archive",
        "its folder is also a file",
    )
)
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, *DECODER_ERRORS)


@dataclass(frozen=True)
class Member:
    """A file of an archive: its size, where it is, and why it is not read (None if it is)."""

    size: int
    offset: int = 0  # in a tar archive
    info: zipfile.ZipInfo | None = None  # in a ZIP archive
    fault: UnreadableError | None = None
    texts: tuple[str, ...] = ()  # that may be private
    raw_name: bytes | None = None  # of a name whose encoding is not stated


@dataclass
class Archive:
    """An open archive: its members by their path, and why some are missing (None if none are).

    A path has no `..` and does not begin with `/`. `texts` may be private.
    """

    stream: Stream
    members: dict[bytes, Member] = field(default_factory=dict)
    fault: UnreadableError | None = None
    texts: tuple[str, ...] = ()
    depth: int = 1  # 2 for an archive in an archive
    unpacked: int = 0  # bytes of all members
    zip_file: zipfile.ZipFile | None = None

    def read(self, path: bytes, max_bytes: int) -> bytes:
        """The content of a member.

        Raises UnreadableError if it is not read, is damaged or has more than `max_bytes`.
        """
        member = self.members[path]
        if member.fault is not None:
            raise UnreadableError(member.fault.code, member.fault.fact)
        if member.size > max_bytes:
            raise UnreadableError(
                "too_large", f"{member.size} bytes; the limit is {max_bytes} bytes"
            )
        if member.size == 0:
            raise UnreadableError("empty_file")
        try:
            content = self._bytes(member)
        except DAMAGED as error:
            raise UnreadableError(
                "corrupt", "the member is damaged; copy the archive again"
            ) from error
        if len(content) != member.size:
            raise UnreadableError("truncated", "the archive ends before this member does")
        return content

    def close(self) -> None:
        self.stream.close()

    def _bytes(self, member: Member) -> bytes:
        if self.zip_file is not None and member.info is not None:
            with self.zip_file.open(member.info) as stream:
                return b"".join(_steps(stream, member.size + 1))  # one more checks the sum
        self.stream.seek(member.offset)
        return b"".join(_steps(self.stream, member.size))

    def add(self, name: str, member: Member) -> None:
        """Add a member; one whose name occurs twice or is not safe gets a fault.

        Raises UnreadableError if the archive has too many or too large members.
        """
        self.unpacked += member.size
        if len(self.members) >= MAX_MEMBERS:
            raise UnreadableError(
                "archive_limit", f"the archive has more than {MAX_MEMBERS} files; {UNPACK}"
            )
        if self.unpacked > MAX_UNPACKED_BYTES:
            raise UnreadableError(
                "archive_limit",
                f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes; {UNPACK}",
            )
        path, fault = _path_of(name)
        if path in self.members:
            fault = UnreadableError("archive_member", TWICE)
        self.members[path] = member if fault is None else replace(member, fault=fault)


def open_archive(stream: Stream) -> Archive | None:
    """Read the list of members of a ZIP or tar archive, perhaps in gzip; None for anything else.

    Raises UnreadableError if no member can be read.
    """
    head = stream.read(tarfile.BLOCKSIZE)
    texts: list[str] = []
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        found = _open_zip(stream)
    else:
        if head.startswith(b"\x1f\x8b\x08"):
            texts = gzip_texts(head)
            stream = GzipStream(stream, MAX_UNPACKED_BYTES, MAX_RATIO)
            head = stream.read(tarfile.BLOCKSIZE)
        if head[257:262] != b"ustar":
            return None
        found = _open_tar(stream)
        found.texts += tuple(texts)
    for path, member in found.members.items():
        if any(folder in found.members for folder in _folders(path)):
            fault = UnreadableError("archive_member", FOLDER)
            found.members[path] = replace(member, fault=fault)
    return found


def _folders(path: bytes) -> Iterator[bytes]:
    while path := path.rpartition(b"/")[0]:
        yield path


def _path_of(name: str) -> tuple[bytes, UnreadableError | None]:
    """The path of a member from its name, and why it is not read (None if it is).

    A name that leaves the archive becomes one part, in which signs are written as %2F.
    """
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    raw = "/".join(parts).encode("utf-8", "surrogateescape")
    if len(raw) > MAX_NAME_BYTES:
        raise UnreadableError("archive_limit", f"a name of more than {MAX_NAME_BYTES} bytes")
    if parts and ".." not in parts and not plain.startswith("/") and not _DRIVE.match(plain):
        return raw, None
    masked = quote(name.encode("utf-8", "surrogateescape"), safe="").replace("..", "%2E%2E")
    return masked.encode(), UnreadableError("archive_member", OUTSIDE)


def _steps(stream: Readable, size: int) -> Iterator[bytes]:
    """Read up to `size` bytes in small steps."""
    while size > 0 and (step := stream.read(min(size, _STEP_BYTES))):
        yield step
        size -= len(step)


class _BoundedReads(io.RawIOBase):
    """A stream that refuses to read as much at once as only a false header asks for."""

    def __init__(self, raw: Stream) -> None:
        self.raw = raw

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.raw.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset < 0 and whence == io.SEEK_SET:
            raise UnreadableError("corrupt", "the archive points before its beginning")
        return self.raw.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        content = self.raw.read(
            _MAX_READ_BYTES + 1 if wanted < 0 else min(wanted, _MAX_READ_BYTES + 1)
        )
        if len(content) > _MAX_READ_BYTES:
            raise UnreadableError("archive_limit", "a header of the archive is too large")
        return content


def _open_zip(stream: Stream) -> Archive:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    try:
        zip_file = zipfile.ZipFile(_BoundedReads(stream))
        infos = zip_file.infolist()
    except DAMAGED as error:
        raise UnreadableError(
            "corrupt",
            "the list of members, which ends a ZIP archive, is missing or damaged; copy it again",
        ) from error
    found = Archive(stream, zip_file=zip_file, texts=(readable(zip_file.comment),))
    if sum(info.compress_size for info in infos) > size:
        raise UnreadableError("archive_limit", "members of the archive overlap")
    for info in infos:
        if not info.filename.endswith(("/", "\\")):
            more = _unicode_extra(info.extra, _UNICODE_COMMENT)
            texts = tuple(map(readable, filter(None, (info.comment, more))))
            name, raw_name = _zip_name(info)
            texts += readings(raw_name or b"")
            member = Member(info.file_size, 0, info, _zip_fault(info), texts, raw_name)
            found.add(name, member)
    return found


def _unicode_extra(extra: bytes, wanted: int, of: bytes | None = None) -> bytes:
    """The comment or name in UTF-8 that a member may have next to its first one; b"" for none.

    With `of`, the first one must have the check sum of the second.
    """
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == wanted and size >= 5:
            is_same = of is None or int.from_bytes(extra[5:9], "little") == zlib.crc32(of)
            return extra[9 : 4 + size] if is_same else b""
        extra = extra[4 + size :]
    return b""


def _zip_fault(info: zipfile.ZipInfo) -> UnreadableError | None:
    """Why a member is not read."""
    mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
    if mode not in (0, stat.S_IFREG):
        return UnreadableError("archive_member", LINK)
    if info.flag_bits & _ENCRYPTED:
        return UnreadableError("archive_member", ENCRYPTED)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return UnreadableError("archive_member", METHOD)
    if info.file_size > _FREE_BYTES + MAX_RATIO * info.compress_size:
        return UnreadableError("archive_limit", f"packed more than {MAX_RATIO} times; {UNPACK}")
    return None


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, bytes | None]:
    """The name, and its bytes if their encoding is not known; it is then read as code page 437.

    Many programs write UTF-8 without saying so, or next to a name in another encoding.
    """
    utf8 = 0x800
    if info.flag_bits & utf8 or info.filename.isascii():
        return info.filename, None
    try:
        raw = info.filename.encode("cp437")
    except UnicodeError:  # Python has read the name from the extra field
        return info.filename, None
    try:
        return (_unicode_extra(info.extra, _UNICODE_NAME, raw) or raw).decode("utf-8"), None
    except UnicodeDecodeError:
        return info.filename, raw


def readings(raw_name: bytes) -> tuple[str, ...]:
    """The parts of a name in each of ENCODINGS, without the extension; one of them is right."""
    found: dict[str, None] = {}
    for encoding in ENCODINGS:
        try:
            parts = raw_name.decode(encoding).replace("\\", "/").split("/")
        except UnicodeDecodeError:
            continue
        found |= dict.fromkeys((*parts[:-1], parts[-1].rpartition(".")[0] or parts[-1]))
    return tuple(part for part in found if part and not part.isascii())


def _open_tar(stream: Stream) -> Archive:
    found = Archive(stream)
    try:
        _list_tar(found)
    except UnreadableError as error:
        found.fault = error
    except DAMAGED:
        found.fault = UnreadableError(
            "corrupt", "the archive is damaged: only the members before the damage are read"
        )
    if found.fault is not None and (not found.members or found.fault.code == "archive_limit"):
        raise found.fault
    return found


def _list_tar(found: Archive) -> None:
    """Add the members of a tar archive up to its end or to the first damage, which raises."""
    stream = _BoundedReads(found.stream)
    stream.seek(0)
    last = -1
    with tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # they are kept here
            if info.offset <= last or info.size < 0:
                raise UnreadableError("corrupt", "the archive is damaged: it points back to itself")
            last = info.offset
            if not info.isdir():
                accounts = {info.uname, info.gname}
                texts = tuple(
                    one for one in sorted(accounts) if one and one.lower() not in _SHARED_ACCOUNTS
                )
                texts += tuple(
                    value
                    for name, value in info.pax_headers.items()
                    if not _PAX_PLAIN.fullmatch(name)
                )
                size = info.size if info.isreg() else 0
                found.add(info.name, Member(size, info.offset_data, None, _tar_fault(info), texts))
        stream.seek(tar.offset)
        end = stream.read(tarfile.BLOCKSIZE)
    if end != bytes(tarfile.BLOCKSIZE):
        raise UnreadableError(
            *("corrupt", "the archive is damaged: only the members before the damage are read")
            if any(end)
            else ("truncated", "the archive has no end: members may be missing; copy it again")
        )


def _tar_fault(info: tarfile.TarInfo) -> UnreadableError | None:
    """Why a member is not read."""
    if not info.isreg():
        return UnreadableError("archive_member", LINK)
    return UnreadableError("archive_member", SPARSE) if info.issparse() else None
