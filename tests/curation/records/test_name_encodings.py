"""Names in archives whose encoding is not stated match no record, and a remark says so."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

import cv2
import pytest
from archive_files import zipped
from video_files import fan

from sono.curation.core.engine import Engine
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.source_names import SourceStrings
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.readers.archives import raw_name
from sono.curation.readers.files import list_sources
from sono.curation.records.file_matching import MatchOptions, match_raw
from sono.curation.records.read import RecordsConfig, read_records

NAMES = {
    "gbk": ("患者王芳.png", "婴儿头部.png"),
    "cp932": ("胎児の頭.png", "患者ハルカ.png"),
    "cp1251": ("Иванова.png", "Петрова.png"),
}


def picture(seed: int) -> bytes:
    return cv2.imencode(".png", fan(seed=seed))[1].tobytes()


def packed(names: tuple[str, ...], encoding: str) -> bytes:
    """A ZIP archive with names as a program writes them that states no encoding."""
    content = zipped({f"{number:040d}": picture(number) for number, _ in enumerate(names)})
    for number, name in enumerate(names):
        raw = name.encode(encoding)
        filler = b"x" * (40 - len(raw))
        content = content.replace(f"{number:040d}".encode(), b"".join((filler, raw)))
    return content


def run(tmp_path: Path, content: bytes, names: tuple[str, ...], kind: str = "zip") -> QcSummary:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / f"study.{kind}").write_bytes(content)
    rows = "".join(f"{name},P{number},femur\n" for number, name in enumerate(names))
    (tmp_path / "records.csv").write_text(f"file,patient,plane\n{rows}", "utf-8")
    study = Workspace.create(tmp_path / "study")
    return run_qc(
        study, QcOptions(raw, records=tmp_path / "records.csv", names=True), Engine(jobs=1)
    )


def about_names(summary: QcSummary) -> list[str]:
    return [remark for remark in summary.remarks if "encoding" in remark]


@pytest.mark.parametrize("encoding", NAMES)
def test_the_encoding_that_the_records_show_is_named_and_not_applied(
    encoding: str, tmp_path: Path
) -> None:
    # each name fills the 40 bytes that it replaces
    names = tuple("x" * (40 - len(one.encode(encoding))) + one for one in NAMES[encoding])
    summary = run(tmp_path, packed(NAMES[encoding], encoding), names)
    (remark,) = about_names(summary)
    assert f"read as {encoding}, 2 of them are names in the records" in remark
    assert f"unzip -O {encoding}" in remark and "study.zip/" in remark
    assert summary.reasons["no_record"] == 2
    study = Workspace(tmp_path / "study")
    assert {Path(name).stem for name in names} <= SourceStrings.of([study.sources()]).raw
    table = read_records(tmp_path / "records.csv", RecordsConfig.model_validate({}), PlaneTable())
    found, _ = match_raw(tmp_path / "raw", table, tmp_path / "records.csv", MatchOptions())
    assert f"read as {encoding}" in found.unclear_names and "xxx" not in found.unclear_names


def test_names_of_no_record_are_reported_without_an_encoding(tmp_path: Path) -> None:
    (remark,) = about_names(run(tmp_path, packed(NAMES["gbk"], "gbk"), ("other.png",)))
    assert "read as" not in remark and remark.startswith("2 files have names")


@pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
def test_a_name_that_matches_needs_no_remark(encoding: str, tmp_path: Path) -> None:
    name = "Müller.png"
    full = "x" * (40 - len(name.encode(encoding))) + name
    summary = run(tmp_path, packed((name,), encoding), (full,))
    assert about_names(summary) == [] and "no_record" not in summary.reasons


def test_a_name_in_utf_8_next_to_another_one_is_used(tmp_path: Path) -> None:
    name, raw = "患者王芳.png", "患者王芳.png".encode("gbk")
    content = zipped({"x" * len(raw): picture(0)}).replace(b"x" * len(raw), raw)
    text = name.encode()
    extra = struct.pack("<HHBI", 0x7075, 5 + len(text), 1, zlib.crc32(raw)) + text
    place, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    listed, tail = bytearray(content[place:end]), bytearray(content[end:])
    struct.pack_into("<H", listed, 30, len(extra))
    listed[46 + len(raw) : 46 + len(raw)] = extra
    struct.pack_into("<I", tail, 12, len(listed))
    (tmp_path / "a.zip").write_bytes(content[:place] + bytes(listed) + bytes(tail))
    (path,) = list_sources(tmp_path / "a.zip")
    assert path.decode().endswith(f"a.zip/{name}") and raw_name(path) is None


def test_a_name_in_a_tar_archive_that_is_no_utf_8_is_reported(tmp_path: Path) -> None:
    file, content = io.BytesIO(), picture(0)
    with tarfile.open(fileobj=file, mode="w", encoding="gbk", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("患者王芳.png")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    (remark,) = about_names(run(tmp_path, file.getvalue(), ("患者王芳.png",), "tar"))
    assert remark.startswith("1 file has a name") and "read as gbk, 1 of them" in remark
