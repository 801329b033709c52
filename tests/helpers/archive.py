"""A small picture archive over HTTP, which may misbehave."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


class Reply(NamedTuple):
    """What the archive answers; `cut` bytes of the announced length are never sent."""

    status: int
    content: bytes = b""
    kind: str = "application/dicom+json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int = 0


Mischief = Callable[[str, int], Reply | None]


class Archive:
    """A DICOMweb archive of 5 studies with 2 files each.

    `mischief(path, times asked)` may answer a request in its place.
    """

    def __init__(self) -> None:
        self.files = {
            (f"1.2.{study}", f"1.2.{study}.1", f"1.2.{study}.1.{number}"): us_file(study, number)
            for study in range(5)
            for number in range(2)
        }
        self.mischief: Mischief = lambda path, times: None
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []

    def answer(self, target: str, headers: dict[str, str]) -> Reply:
        path, query = (
            urlsplit(target).path,
            {k: v[0] for k, v in parse_qs(urlsplit(target).query).items()},
        )
        self.asked.append((path, query, headers))
        return self.mischief(path, self.count(path)) or self.honest(path, query)

    def honest(self, path: str, query: dict[str, str]) -> Reply:
        parts = path.strip("/").split("/")
        if len(parts) == 6:
            content = self.files.get((parts[1], parts[3], parts[5]))
            return multipart(content) if content else Reply(404)
        if len(parts) == 1:
            found = [
                {"0020000D": {"vr": "UI", "Value": [study]}}
                for study in sorted({key[0] for key in self.files})
            ]
        else:
            tags = ("0020000D", "0020000E", "00080018")
            found = [
                {tag: {"vr": "UI", "Value": [uid]} for tag, uid in zip(tags, key, strict=True)}
                for key in self.files
                if key[0] == parts[1]
            ]
        start = int(query["offset"])
        return Reply(200, json.dumps(found[start : start + int(query["limit"])]).encode())

    def count(self, path: str) -> int:
        return sum(asked[0] == path for asked in self.asked)

    def fetched(self) -> int:
        return sum(path.count("/") == 6 for path, _, _ in self.asked)


def us_file(study: int, number: int) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = f"1.2.{study}.1.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = (
        f"1.2.{study}",
        f"1.2.{study}.1",
        "US",
    )
    made.PixelData = bytes([study, number] * 500)
    made["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def multipart(content: bytes, cut: int = 0, closed: bool = True) -> Reply:
    end = b"\r\n--edge--\r\n" if closed else b""
    body = b"preamble\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + content + end
    return Reply(200, body, 'multipart/related; type="application/dicom"; boundary="edge"', cut=cut)


@contextmanager
def serving() -> Iterator[Archive]:
    """A new archive at its `url`, which answers from a thread."""
    made = Archive()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = made.answer(self.path, dict(self.headers.items()))
            self.send_response(reply.status)
            fixed = {"Content-Type": reply.kind, "Content-Length": str(len(reply.content))}
            for name, text in (fixed | dict(reply.headers)).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(reply.content[: len(reply.content) - reply.cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()
