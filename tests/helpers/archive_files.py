"""Write small archives with members of given names, also names that no tool would write."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

Members = Mapping[str, bytes] | Iterable[tuple[str, bytes]]


def _pairs(members: Members) -> list[tuple[str, bytes]]:
    return list(members.items() if isinstance(members, Mapping) else members)


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, content in _pairs(members):
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.compress_type = name, method  # the constructor would clean the name
            info.external_attr = (stat.S_IFREG | 0o600) << 16
            archive.writestr(info, content)
    return file.getvalue()


def tarred(members: Members, mode: str = "w", uname: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in _pairs(members):
            info = tarfile.TarInfo(name)
            info.size, info.uname = len(content), uname
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def packed(kind: str, members: Members) -> bytes:
    """An archive of the suffix `kind`: zip, tar or tgz."""
    if kind == "zip":
        return zipped(members)
    return tarred(members, "w:gz" if kind in ("tgz", "tar.gz") else "w")


def linked(kind: str, target: str = "/etc/passwd") -> bytes:
    """An archive with one symbolic link."""
    if kind == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            info = zipfile.ZipInfo("IM_0001")
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
        return file.getvalue()
    return special(kind, tarfile.SYMTYPE, target)


def special(kind: str, type_: bytes, target: str = "") -> bytes:
    """A tar archive with one member that is no file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if kind == "tgz" else "w") as archive:
        info = tarfile.TarInfo("IM_0001")
        info.type, info.linkname = type_, target
        archive.addfile(info)
    return file.getvalue()
