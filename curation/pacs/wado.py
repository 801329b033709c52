"""Fetch one file from a PACS (WADO-RS, DICOM PS3.18) unchanged, and check that it is complete."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from sono.curation.core.atomic import atomic_path, file_sha256, sha256
from sono.curation.pacs.access import origin_of, printable
from sono.curation.pacs.client import (
    NotAcceptableError,
    NotServedError,
    Pacs,
    TransientError,
    line_errors,
)
from sono.curation.readers.source import quiet_decoders

HEADER_LIMIT = 1 << 16
CHUNK = 1 << 20


@dataclass(frozen=True)
class Instance:
    """The three UIDs of a file in the archive, and its place in the raw folder."""

    study: str
    series: str
    uid: str

    @property
    def file(self) -> str:
        """Folder and name: hashes, because UIDs may occur in a hospital's own lists."""
        return f"{short_hash(self.study)}/{short_hash(self.uid)}.dcm"


def short_hash(uid: str) -> str:
    """96 bits of the SHA-256 of a UID, as hexadecimal digits."""
    return sha256(uid.encode())[:24]


def retrieve(pacs: Pacs, instance: Instance, target: Path) -> dict[str, Any]:
    """Write one instance to `target` as received; return its size, SHA-256 and transfer syntax.

    dicomweb-client is not used, because it parses each file in memory and would write another one.
    If the server answers 406 to one form of the file, the next of `pacs.forms` is requested.
    """
    for form in list(pacs.forms):
        try:
            facts = _retrieve(pacs, instance, target, form)
        except NotAcceptableError:
            continue
        pacs.forms.remove(form)
        pacs.forms.insert(0, form)
        return facts
    raise NotServedError(f"HTTP 406 for each of {len(pacs.forms)} ways to request a DICOM file")


def _retrieve(pacs: Pacs, instance: Instance, target: Path, form: str) -> dict[str, Any]:
    """`retrieve` with one Accept header."""
    url = f"{pacs.url}/studies/{instance.study}/series/{instance.series}/instances/{instance.uid}"
    target.parent.mkdir(mode=0o700, exist_ok=True)
    with atomic_path(target, mode=0o600) as temporary:
        with (
            line_errors(url),
            pacs.session.get(
                url,
                headers={"Accept": form},
                stream=True,
                timeout=pacs.patience.timeout,
                allow_redirects=False,
            ) as answer,
            temporary.open("wb") as stream,
        ):
            boundary = _boundary(answer)
            chunks = iter(answer.iter_content(CHUNK))
            if boundary:
                stream.write(_past_header(chunks, boundary))
            stream.writelines(chunks)  # never complete in memory: a cine can be gigabytes
        if boundary:
            _cut_end(temporary, boundary)
        syntax = _check(temporary, instance.uid)
        return {
            "bytes": temporary.stat().st_size,
            "sha256": file_sha256(temporary),
            "transfer_syntax": syntax,
        }


def _boundary(answer: Any) -> bytes:
    """The boundary of a multipart response.

    The result is empty if the file comes without multipart, as some servers send it.
    """
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "nothing")
    kind, boundary = header.get_content_type(), header.get_boundary("")
    if kind == "multipart/related" and boundary:
        return b"--" + boundary.encode()
    if kind == "application/dicom":
        return b""
    raise NotServedError(f"{origin_of(answer.url)}: sent {printable(kind)} instead of DICOM")


def _past_header(chunks: Iterator[bytes], boundary: bytes) -> bytes:
    """Read up to the content of the first part, and return what has arrived of it."""
    head = b""
    for chunk in chunks:
        head += chunk
        opening = head.find(boundary)
        end = head.find(b"\r\n\r\n", max(0, opening))
        if opening >= 0 and end >= 0:
            return head[end + 4 :]
        if len(head) > HEADER_LIMIT:
            raise NotServedError("the answer is multipart but has no part")
    raise TransientError("the answer was truncated")


def _cut_end(path: Path, boundary: bytes) -> None:
    """Remove the closing boundary.

    Raises TransientError if it is missing, because the file is then truncated.
    """
    ending = b"\r\n" + boundary + b"--"
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        start = stream.seek(max(0, size - len(ending) - 64))
        at = stream.read().rfind(ending)
        if at < 0:
            raise TransientError("the answer was truncated")
        stream.truncate(start + at)


def _check(path: Path, uid: str) -> str:
    """The transfer syntax of the file; NotServedError if it is not DICOM, or another instance."""
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet_decoders():
            meta = read_file_meta_info(path)
            sent, syntax = str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, ValueError, EOFError) as error:
        raise NotServedError("the server did not send a DICOM file") from error
    if sent.rstrip("\0 ") != uid:
        raise NotServedError("the server sent another instance than the requested one")
    return syntax
