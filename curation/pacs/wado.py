"""One file from a picture archive (WADO-RS, DICOM PS3.18).

Written as it came, and checked to be whole.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from sono.curation.core.atomic import atomic_path, file_sha256, sha256
from sono.curation.pacs.access import place, printable
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
        """Folder and name: hashes, because UIDs and numbers of studies may stand in a
        hospital's own lists.
        """
        return f"{short_hash(self.study)}/{short_hash(self.uid)}.dcm"


def short_hash(uid: str) -> str:
    """96 bits of the SHA-256 of a UID, as hexadecimal digits."""
    return sha256(uid.encode())[:24]


def retrieve(pacs: Pacs, instance: Instance, target: Path) -> dict[str, Any]:
    """Write one instance to `target`, byte by byte as it came; gives its size, SHA-256 and transfer
    syntax.

    Not by dicomweb-client, which parses each file in memory and so would write another one. A
    server that answers 406 to one form of the file is asked for the next of `pacs.forms`.
    """
    for form in list(pacs.forms):
        try:
            facts = _retrieve(pacs, instance, target, form)
        except NotAcceptableError:
            continue
        pacs.forms.remove(form)
        pacs.forms.insert(0, form)
        return facts
    raise NotServedError(f"HTTP 406 to each of {len(pacs.forms)} ways to ask for a DICOM file")


def _retrieve(pacs: Pacs, instance: Instance, target: Path, form: str) -> dict[str, Any]:
    """`retrieve` by one Accept header."""
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
            stream.writelines(chunks)  # never whole in memory: a cine can be gigabytes
        if boundary:
            _cut_end(temporary, boundary)
        syntax = _check(temporary, instance.uid)
        return {
            "bytes": temporary.stat().st_size,
            "sha256": file_sha256(temporary),
            "transfer_syntax": syntax,
        }


def _boundary(answer: Any) -> bytes:
    """The boundary of a multipart answer.

    Empty where the file comes bare, as some servers send it.
    """
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "nothing")
    kind, boundary = header.get_content_type(), header.get_boundary("")
    if kind == "multipart/related" and boundary:
        return b"--" + boundary.encode()
    if kind == "application/dicom":
        return b""
    raise NotServedError(f"{place(answer.url)}: sent {printable(kind)} instead of DICOM")


def _past_header(chunks: Iterator[bytes], boundary: bytes) -> bytes:
    """Read on to the content of the first part, and give what has come of it."""
    head = b""
    for chunk in chunks:
        head += chunk
        opening = head.find(boundary)
        end = head.find(b"\r\n\r\n", max(0, opening))
        if opening >= 0 and end >= 0:
            return head[end + 4 :]
        if len(head) > HEADER_LIMIT:
            raise NotServedError("the answer is multipart without a part")
    raise TransientError("the answer was cut short")


def _cut_end(path: Path, boundary: bytes) -> None:
    """Cut the closing boundary off.

    TransientError where it is missing, for then the file is cut short.
    """
    ending = b"\r\n" + boundary + b"--"
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        start = stream.seek(max(0, size - len(ending) - 64))
        at = stream.read().rfind(ending)
        if at < 0:
            raise TransientError("the answer was cut short")
        stream.truncate(start + at)


def _check(path: Path, uid: str) -> str:
    """The transfer syntax of the file; NotServedError where it is no DICOM file, or another one."""
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet_decoders():
            meta = read_file_meta_info(path)
            sent, syntax = str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, ValueError, EOFError) as error:
        raise NotServedError("what the server sent is no DICOM file") from error
    if sent.rstrip("\0 ") != uid:
        raise NotServedError("the server sent another instance than the one asked for")
    return syntax
