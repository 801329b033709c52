"""The download of public data, from a server of the test's own."""

import hashlib
import io
import json
import runpy
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "download_data.py"


class Server(BaseHTTPRequestHandler):
    """One record with an archive and a table."""

    files: ClassVar[dict[str, bytes]] = {}
    sums: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        own = f"http://{self.headers['Host']}"
        name = self.path.rpartition("/")[2]
        body = self.files[name] if name in self.files else json.dumps(self.record(own)).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def record(self, own: str) -> dict[str, Any]:
        return {
            "files": [
                {
                    "key": name,
                    "size": len(content),
                    "checksum": f"md5:{self.sums.get(name) or hashlib.md5(content).hexdigest()}",
                    "links": {"self": f"{own}/files/{name}"},
                }
                for name, content in self.files.items()
            ]
        }

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Images/a.png", b"pixels")
    files = {"images.zip": packed.getvalue(), "table.csv": b"file,plane\na.png,femur\n"}
    for name, value in {"files": files, "sums": {}, "asked": []}.items():
        monkeypatch.setattr(Server, name, value)
    serving = HTTPServer(("127.0.0.1", 0), Server)
    Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_files_are_fetched_once_checked_and_unpacked(server: str, tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    for _ in range(2):
        script["download"]("nijmegen", tmp_path / "nijmegen", server)
    assert (tmp_path / "nijmegen" / "Images" / "a.png").read_bytes() == b"pixels"
    assert (tmp_path / "nijmegen" / "table.csv").read_bytes() == Server.files["table.csv"]
    record = f"/api/records/{script['RECORDS']['nijmegen']}"
    assert Server.asked == [record, "/files/images.zip", "/files/table.csv", record]


def test_a_file_with_another_sum_is_an_error_and_not_kept(server: str, tmp_path: Path) -> None:
    Server.sums["table.csv"] = "0" * 32
    with pytest.raises(ValueError, match=r"table\.csv: MD5 \w{32} instead of 0{32}"):
        runpy.run_path(str(SCRIPT))["download"]("nijmegen", tmp_path, server)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("table")]
