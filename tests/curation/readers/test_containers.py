"""Files that may contain frames but are not opened: they are counted, with what to do."""

import bz2
import gzip
import io
import lzma
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from phantom_frames import write_frames
from PIL import Image

from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.containers import MESSAGES, format_of
from sono.curation.readers.files import read_source
from sono.curation.readers.images import image_kind
from sono.curation.readers.volumes import READERS as VOLUMES

GRAY = np.random.default_rng(0).integers(0, 255, (90, 120), np.uint8)


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("IM_0001"))
    return file.getvalue()


def workbook() -> bytes:
    from openpyxl import Workbook

    file = io.BytesIO()
    Workbook().save(file)
    return file.getvalue()


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GRAY).save(file, kind)
    return file.getvalue()


def array(several: bool = False) -> bytes:
    file = io.BytesIO()
    np.savez(file, a=GRAY, b=GRAY) if several else np.save(file, GRAY)
    return file.getvalue()


def nifti(size: int, magic: bytes, order: str = "<") -> bytes:
    head = bytearray(352 if size == 348 else 544)
    struct.pack_into(f"{order}i", head, 0, size)
    place = 344 if size == 348 else 4
    head[place : place + len(magic)] = magic
    return bytes(head) + GRAY.tobytes()


def box(kind: bytes, brand: bytes, *more: bytes) -> bytes:
    body = brand + b"\0\0\0\0" + b"".join(more)
    return struct.pack(">I", 8 + len(body)) + kind + body + b"\0\0\0\x10mdat" + GRAY.tobytes()


META = (
    b"ObjectType = Image\nNDims = 2\nDimSize = 120 90\nElementType = MET_UCHAR\nElementDataFile "
    b"= LOCAL\n"
)
FILES = {
    "ZIP archive": [
        zipped(IM_0001=b"DICM\x02\0" + GRAY.tobytes()),
        zipped(),
        zipped(a__dcm=b"x")[:60],
    ],
    "7z archive": [b"7z\xbc\xaf\x27\x1c" + GRAY.tobytes()],
    "RAR archive": [b"Rar!\x1a\x07\x01\0" + GRAY.tobytes()],
    "tar archive": [tarred(), gzip.compress(tarred())],
    "gzip file": [gzip.compress(GRAY.tobytes()), b"\x1f\x8b\x08" + b"\xff" * 40],
    "bzip2 file": [bz2.compress(GRAY.tobytes())],
    "xz file": [lzma.compress(GRAY.tobytes())],
    "ISO disk image": [b"\0" * 32769 + b"CD001" + GRAY.tobytes()],
    "AVI video": [b"RIFF" + struct.pack("<I", 90) + b"AVI LIST" + GRAY.tobytes()],
    "MP4 or QuickTime video": [
        box(b"ftyp", b"isom", b"mp41"),
        box(b"ftyp", b"qt  "),
        box(b"moov", b"mvhd"),
    ],
    "Matroska or WebM video": [b"\x1a\x45\xdf\xa3" + GRAY.tobytes()],
    "Windows Media video": [b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + GRAY.tobytes()],
    "MPEG video": [b"\0\0\x01\xba" + GRAY.tobytes(), (b"G" + b"\0" * 187) * 9],
    "MetaImage file": [
        META + GRAY.tobytes(),
        b"NDims = 3\n" + META[19:].replace(b"LOCAL", b"x.raw"),
    ],
    "NIfTI volume": [
        nifti(348, b"n+1\0"),
        nifti(348, b"ni1\0", ">"),
        nifti(540, b"n+2\0"),
        gzip.compress(nifti(348, b"n+1\0")),
    ],
    "NRRD volume": [b"NRRD0004\ntype: uint8\n"],
    "NumPy array": [array()],
    "NumPy archive": [array(several=True)],
    "HDF5 file": [b"\x89HDF\r\n\x1a\n" + GRAY.tobytes()],
    "Kretz volume": [b"KRETZFILE 1.0   " + GRAY.tobytes()],
    "HEIC picture": [box(b"ftyp", b"heic", b"mif1"), box(b"ftyp", b"mif1", b"heic")],
    "AVIF picture": [box(b"ftyp", b"avif", b"mif1")],
    "WebP picture": [saved("WEBP")],
    "PDF document": [b"%PDF-1.4\n%\n" + GRAY.tobytes(), b"\r\n%PDF-1.7\n"],
    "Office document": [workbook(), zipped(mimetype=b"application/vnd.oasis.opendocument.text")],
    "old Office document": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + GRAY.tobytes()],
}


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, many in FILES.items() for number in range(len(many))],
)  # archives hold the time, so that their bytes name no test
def test_a_file_is_called_what_it_is_whatever_its_name(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    content = FILES[name][number]
    found = format_of(content)
    assert found is not None and found.name == name
    for force in (False, True):
        path = tmp_path / "IM_0001.dcm"
        path.write_bytes(content)
        source = read_source(str(path).encode(), force=force)
        if name in VOLUMES:  # some of them are whole
            assert source.codes == ("wrong_extension",) or not source.frames
            continue
        code = "needs_extra" if found.code == "video" else found.code
        assert source.codes == (code,) and not source.frames
        assert source.message == found.message and source.message.startswith(f"{name}: ")


def test_a_video_that_opencv_writes_is_read(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video (av) is not installed")
    for name, code in (("a.avi", "MJPG"), ("a.mp4", "mp4v")):
        video = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*code), 20, (120, 90))
        for _ in range(3):
            video.write(np.dstack([GRAY] * 3))
        video.release()
        assert len(read_source(str(tmp_path / name).encode()).frames) == 3
    (tmp_path / "a.png").write_bytes((tmp_path / "a.mp4").read_bytes())
    assert read_source(str(tmp_path / "a.png").encode()).codes == ("wrong_extension",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG2000", "BMP", "GIF", "TIFF"])
def test_what_is_read_is_no_container(kind: str) -> None:
    assert format_of(saved(kind)) is None and image_kind(saved(kind)) == kind.lower()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"a;b\n1;2\n",
        b"The wide field",
        b"now skip it",
        b"Comment = none\n",
        b"RIFFwave",
    ],
)
def test_other_files_are_none(content: bytes) -> None:
    assert format_of(content) is None


def test_random_bytes_and_damage_never_raise() -> None:
    random = np.random.default_rng(1)
    samples = [one for many in FILES.values() for one in many]
    for _ in range(3):
        for content in samples:
            damaged = bytearray(content[: random.integers(1, len(content) + 1)])
            damaged[random.integers(0, len(damaged))] ^= 0xFF
            found = format_of(bytes(damaged))
            assert found is None or found.name in FILES


def test_a_bomb_inside_a_gzip_file_is_not_unpacked() -> None:
    found = format_of(gzip.compress(b"\0" * (64 << 20)))
    assert found is not None and found.name == "gzip file"


def test_qc_counts_what_it_did_not_open_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    raw = tmp_path / "raw"
    write_frames(raw, range(1))
    names = {
        "ZIP archive": "archive",
        "AVI video": "video.avi",
        "Kretz volume": "kretz volume.vol",
    }
    for name, file in names.items():
        (raw / file).write_bytes(FILES[name][0])
    (raw / "second").write_bytes(FILES["ZIP archive"][1])
    (raw / "notes.txt").write_text("nothing")
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(raw), Engine(jobs=1))
    assert summary.statuses == {"accepted": 1, "error": 1, "rejected": 4}
    (remark,) = (one for one in summary.remarks if "not opened" in one)
    assert remark.startswith(
        "4 files were not opened but may contain frames: 1 AVI video: pip install"
    )
    assert "2 ZIP archive: unpack it, or give it a name in .zip" in remark
    assert set(study.images()["message"].dropna()) < {*MESSAGES, "not an image or DICOM file"}
