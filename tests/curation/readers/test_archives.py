"""Members of archives as files: listing, reading, joins, privacy, damage and bombs."""

import gc
import io
import struct
import tarfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from archive_files import linked, packed, special, tarred, zipped
from dicom_files import write_dicom
from memory import run_measured
from phantom_frames import write_frames

from sono.curation.core.engine import Engine
from sono.curation.core.errors import PrivacyError
from sono.curation.core.reasons import REASONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.curation.privacy.source_names import SourceStrings, names_of
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers import archive_formats
from sono.curation.readers.archives import file_of
from sono.curation.readers.files import ReadResult, list_sources, read_source, stamp_of
from sono.curation.readers.gzip_stream import GzipStream
from sono.curation.readers.source import Limits, UnreadableError

KINDS = ("zip", "tar", "tgz", "tar.gz")
SECONDS = 20  # for one small archive, on a busy machine


def picture(seed: int) -> bytes:
    gray = np.random.default_rng(seed).integers(0, 255, (70, 80), np.uint8)
    return cv2.imencode(".png", gray)[1].tobytes()


# What a DICOMDIR copies from the files that it lists.
DIRECTORY = {
    "StudyDate": "20240101",
    "StudyTime": "101112",
    "StudyID": "1",
    "AccessionNumber": "A1",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4",
}
PICTURES = {f"P{seed % 3}/IM_{seed}.png": picture(seed) for seed in range(6)}


@pytest.fixture
def read_all(tmp_path: Path) -> Callable[..., dict[str, ReadResult]]:
    """Read every file of an archive with these bytes, by its path in the folder of the archive."""

    def read(content: bytes, name: str) -> dict[str, ReadResult]:
        raw = tmp_path / "raw"
        raw.mkdir(exist_ok=True)
        (raw / name).write_bytes(content)
        start = len(bytes(raw)) + 1
        return {path[start:].decode(): read_source(path) for path in list_sources(raw)}

    return read


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_as_files_of_a_folder(
    kind: str, read_all: Callable[..., dict[str, ReadResult]], tmp_path: Path
) -> None:
    found = read_all(packed(kind, PICTURES), f"study.{kind}")
    assert sorted(found) == sorted(f"study.{kind}/{name}" for name in PICTURES)
    for name, content in PICTURES.items():
        loose = tmp_path / "loose.png"
        loose.write_bytes(content)
        alone, source = read_source(bytes(loose)), found[f"study.{kind}/{name}"]
        assert source.file_sha256 == alone.file_sha256
        np.testing.assert_array_equal(source.frames[0].gray, alone.frames[0].gray)


def test_an_archive_may_be_all_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "Export.ZIP"
    path.write_bytes(zipped(PICTURES))
    assert len(list_sources(path)) == len(PICTURES)


@pytest.mark.parametrize("kind", KINDS)
def test_archives_in_archives_are_folders_too(
    kind: str, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    inner = packed(kind, {"IM_1": PICTURES["P0/IM_0.png"]})
    middle = zipped({f"b.{kind}": inner, "IM_2.png": PICTURES["P1/IM_1.png"]})
    found = read_all(packed(kind, {"a/b.zip": middle}), f"study.{kind}")
    assert set(found) == {
        f"study.{kind}/a/b.zip/b.{kind}/IM_1",
        f"study.{kind}/a/b.zip/IM_2.png",
    }
    assert all(len(source.frames) == 1 for source in found.values())


def test_archives_are_opened_to_a_limited_depth(
    read_all: Callable[..., dict[str, ReadResult]],
) -> None:
    content = zipped({"IM_1": PICTURES["P0/IM_0.png"]})
    for _ in range(5):
        content = zipped({"a.zip": content})
    ((name, source),) = read_all(content, "a.zip").items()
    assert name == "a.zip/a.zip/a.zip/a.zip" and source.codes == ("archive_limit",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x.png",
        "/etc/x.png",
        "..\\x.png",
        "C:\\x.png",
        "c:/x.png",
        "..",
        "//h/x",
    ],
)
def test_a_name_that_leaves_the_archive_is_refused(
    name: str, kind: str, read_all: Callable[..., dict[str, ReadResult]], tmp_path: Path
) -> None:
    good = PICTURES["P0/IM_0.png"]
    found = read_all(packed(kind, [(name, good), ("ok.png", good)]), f"a.{kind}")
    assert len(found) == 2 and len(found[f"a.{kind}/ok.png"].frames) == 1
    (other,) = set(found) - {f"a.{kind}/ok.png"}
    assert found[other].codes == ("archive_member",) and not found[other].frames
    assert ".." not in other.split("/") and other.count("/") == 1
    assert [path.name for path in tmp_path.rglob("*")] in (["raw", f"a.{kind}"],)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_occurs_twice_is_refused(
    kind: str, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    one, other = PICTURES["P0/IM_0.png"], PICTURES["P1/IM_1.png"]
    with pytest.warns(UserWarning) if kind == "zip" else pytest.MonkeyPatch.context():
        content = packed(kind, [("IM.png", one), ("./IM.png", one), ("IM.png", other)])
    ((_, source),) = read_all(content, f"a.{kind}").items()
    assert source.codes == ("archive_member",) and "twice" in source.message


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "IM_0001", ""])
def test_a_link_is_refused(
    kind: str, target: str, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    ((_, source),) = read_all(linked(kind, target), f"a.{kind}").items()
    assert source.codes == ("archive_member",)


@pytest.mark.parametrize("kind", ["tar", "tgz"])
@pytest.mark.parametrize(
    "type_", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_device_is_refused(
    kind: str, type_: bytes, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    ((_, source),) = read_all(special(kind, type_, "IM_0001"), f"a.{kind}").items()
    assert source.codes == ("archive_member",)


def _encrypted() -> bytes:
    content = bytearray(zipped({"IM.png": PICTURES["P0/IM_0.png"]}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + place] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (_encrypted(), "archive_member"),
        (zipped({"a": b"x" * 999}, zipfile.ZIP_BZIP2), "archive_member"),
        (zipped({"a": b"x" * 999}, zipfile.ZIP_LZMA), "archive_member"),
        (zipped({"a": b""}), "empty_file"),
        (zipped({}), "archive"),
        (zipped({"folder/": b""}), "archive"),
        (zipped({"a": bytes(40 << 20)}), "archive_limit"),
        (zipped({".DS_Store": b"x"}), "system_file"),
    ],
    ids=["encrypted", "bzip2", "lzma", "empty", "no files", "folder", "ratio", "system"],
)
def test_a_member_that_cannot_be_read_has_its_reason(
    content: bytes, code: str, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    ((_, source),) = read_all(content, "a.zip").items()
    assert source.codes == (code,) and source.message


def test_other_files_in_archives_have_their_usual_reasons(
    read_all: Callable[..., dict[str, ReadResult]],
) -> None:
    members = {"a.txt": b"nothing", "a.pdf": b"%PDF-1.4\n", "cut.png": picture(0)[:900]}
    found = read_all(zipped(members), "a.zip")
    codes = {name: source.codes for name, source in found.items()}
    assert codes == {
        "a.zip/a.txt": ("not_an_image",),
        "a.zip/a.pdf": ("document",),
        "a.zip/cut.png": ("truncated",),
    }


def test_what_only_has_the_name_of_an_archive_is_read(
    read_all: Callable[..., dict[str, ReadResult]], tmp_path: Path
) -> None:
    ((name, source),) = read_all(picture(1), "a.zip").items()
    assert name == "a.zip" and len(source.frames) == 1
    (tmp_path / "raw" / "b.zip").mkdir()
    (tmp_path / "raw" / "b.zip" / "IM.png").write_bytes(picture(2))
    assert len(list_sources(tmp_path / "raw")) == 2


def test_an_archive_without_its_suffix_is_named_with_what_to_do(
    read_all: Callable[..., dict[str, ReadResult]],
) -> None:
    ((_, source),) = read_all(zipped(PICTURES), "study").items()
    assert source.codes == ("archive",) and "give it a name in .zip" in source.message


def test_a_link_to_an_archive_is_read_and_a_loop_is_not(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (tmp_path / "study").write_bytes(zipped(PICTURES))
    (raw / "a.zip").symlink_to(tmp_path / "study")
    (raw / "loop.zip").symlink_to("loop.zip")
    (raw / "none.zip").symlink_to("nothing")
    found = {path: read_source(path).codes for path in list_sources(raw)}
    assert sum(codes == () for codes in found.values()) == len(PICTURES)
    assert sorted(found.values())[-2:] == [("broken_link",)] * 2


def test_a_member_changes_with_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"IM.png": picture(0)}))
    (member,) = list_sources(path)
    before = stamp_of(member), read_source(member).file_sha256
    assert file_of(member) == bytes(path) and before[0] == stamp_of(bytes(path))
    path.write_bytes(zipped({"IM.png": picture(1), "x": b"y"}))
    assert stamp_of(member) != before[0] and read_source(member).file_sha256 != before[1]
    path.write_bytes(zipped({"x": b"y"}))
    assert read_source(member).codes == ("unreadable",)


@pytest.mark.parametrize("stored", ["utf-8", "cp437"])
def test_names_of_members_are_read_in_utf_8_and_in_the_code_page_of_dos(
    stored: str, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    content = zipped({"MXXXller.png": picture(0)})
    content = content.replace(b"MXXXller", "Müller".encode(stored).ljust(8, b"_"))
    (name,) = read_all(content, "a.zip")
    assert name.startswith("a.zip/Müller")


# Damage: the name of a case, and what it does to an archive.
Damage = Callable[[bytearray], bytes]


def cut(share: float) -> Damage:
    return lambda content: bytes(content[: int(len(content) * share)])


def flipped(seed: int) -> Damage:
    def change(content: bytearray) -> bytes:
        for place in np.random.default_rng(seed).integers(4, len(content), 1 + seed * 3):
            content[place] ^= 0xFF
        return bytes(content)

    return change


def zeroed(start: float) -> Damage:
    def change(content: bytearray) -> bytes:
        place = int(len(content) * start)
        count = min(600, len(content) - place)
        content[place : place + count] = bytes(count)
        return bytes(content)

    return change


DAMAGES: dict[str, Damage] = {
    **{f"cut {share}": cut(share) for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)},
    **{f"flip {seed}": flipped(seed) for seed in range(16)},
    **{f"zeros {share}": zeroed(share) for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.97)},
    "head alone": lambda content: bytes(content[:300]),
    "garbage after": lambda content: bytes(content + b"DOE^JANE" * 400),
    "garbage before": lambda content: bytes(b"DOE^JANE" * 400 + content),
    "twice": lambda content: bytes(content * 2),
    "random": lambda content: (
        bytes(content[:40]) + np.random.default_rng(0).bytes(len(content) - 40)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_a_damaged_archive_gives_pictures_that_are_whole_or_reasons(
    kind: str, damage: str, read_all: Callable[..., dict[str, ReadResult]]
) -> None:
    start = time.monotonic()
    content = DAMAGES[damage](bytearray(packed(kind, PICTURES)))
    found = read_all(content, f"a.{kind}")
    whole = {picture_of(source) for source in found.values() if source.frames}
    if kind != "tar":  # a tar archive has no check sums of contents, but PNG files have
        assert whole <= {read_picture(one) for one in PICTURES.values()}
    for source in found.values():
        refused = any(REASONS[code].status != "accepted" for code in source.codes)
        assert refused != bool(source.frames) and bool(source.message) == bool(source.codes)
    if damage.startswith("cut") or len(whole) < len(PICTURES):  # something says so
        assert any(not source.frames for source in found.values())
    assert time.monotonic() - start < SECONDS


def picture_of(source: ReadResult) -> bytes:
    return source.frames[0].gray.tobytes()


def read_picture(content: bytes) -> bytes:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE).tobytes()


def _overlapping() -> bytes:
    """Many entries of the list of members that point to the same bytes."""
    content = zipped({"a": np.random.default_rng(0).bytes(100_000)})
    start = content.find(b"PK\x01\x02")
    end = content.find(b"PK\x05\x06")
    entry = content[start:end]
    entries = b"".join(entry[:-1] + bytes([33 + number]) for number in range(90))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 90, 90, len(entries), start, 0)
    return content[:start] + entries + tail


def _header(name: bytes, size: bytes, type_: bytes = b"0") -> bytes:
    """A tar header with a size field as given."""
    head = bytearray(512)
    head[: len(name)], head[100:108], head[124:136] = name, b"0000600\0", size.ljust(12, b"\0")
    head[156:157], head[257:265] = type_, b"ustar\x0000"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _zip_of(count: int, claimed: int) -> bytes:
    """A zip whose list says `claimed` members of 1 byte."""
    content = bytearray(zipped({f"{number}": b"x" for number in range(count)}))
    struct.pack_into("<2H", content, content.find(b"PK\5\6") + 8, claimed, claimed)
    return bytes(content)


def _huge_list() -> bytes:
    """A zip whose list of members has 64 MB."""
    content = zipped({"a": b"x"})
    start = content.find(b"PK\x01\x02")
    entry = bytearray(content[start : content.find(b"PK\5\6")])
    entry[30:32] = struct.pack("<H", 65_000)
    entries = (bytes(entry) + bytes(65_000)) * 1000
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1000, 1000, len(entries), start, 0)
    return content[:start] + entries + tail


def _gzip(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def _zeros(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(_header(b"IM_1", b"%011o" % size))
    body = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return head + b"".join(body) + packer.flush()


LARGE = b"\x80" + (1 << 60).to_bytes(11, "big")
NEGATIVE = b"\xff" + (-1024 & (1 << 88) - 1).to_bytes(11, "big")
SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n29 GNU.sparse.realsize=99999\n"
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zip of zeros": ("zip", lambda: zipped({"IM_1": bytes(160 << 20)})),
    "zip of many zeros": ("zip", lambda: zipped({f"IM_{n}": bytes(30 << 20) for n in range(9)})),
    "zip in zip of zeros": ("zip", lambda: zipped({"a.zip": zipped({"b": bytes(160 << 20)})})),
    "overlapping members": ("zip", _overlapping),
    "huge list": ("zip", _huge_list),
    "more members than listed": ("zip", lambda: _zip_of(5, 60_000)),
    "fewer members than listed": ("zip", lambda: _zip_of(5, 1)),
    "tgz of zeros": ("tgz", lambda: _zeros(160 << 20)),
    "tgz in zip of zeros": ("zip", lambda: zipped({"a.tgz": _zeros(160 << 20)})),
    "gzip in gzip": ("tgz", lambda: _gzip(_gzip(bytes(160 << 20)))),
    "tar of a huge size": ("tar", lambda: _header(b"IM_1", LARGE) + bytes(4096)),
    "tar of a negative size": ("tar", lambda: _header(b"IM_1", NEGATIVE) + bytes(4096)),
    "tgz of a negative size": ("tgz", lambda: _gzip(_header(b"IM_1", NEGATIVE) + bytes(4096))),
    "huge name": (
        "tgz",
        lambda: _gzip(_header(b"x", b"%011o" % (160 << 20), b"L") + bytes(160 << 20)),
    ),
    "huge pax": (
        "tgz",
        lambda: _gzip(_header(b"x", b"%011o" % (160 << 20), b"x") + bytes(160 << 20)),
    ),
    "negative pax": ("tar", lambda: _header(b"x", NEGATIVE, b"x") + bytes(4096)),
    "negative name": ("tar", lambda: _header(b"x", NEGATIVE, b"L") + bytes(4096)),
    "endless names": ("tar", lambda: (_header(b"x", b"%011o" % 3, b"L") + bytes(512)) * 3000),
    "endless sparse map": (
        "tar",
        lambda: (
            _header(b"x", b"%011o" % len(SPARSE), b"x")
            + SPARSE.ljust(512, b"\0")
            + _header(b"IM_1", b"%011o" % 512)
            + b"9" * 512
        ),
    ),
    "points to itself": ("zip", lambda: zipped({"a.zip": b"PK\x05\x06" + bytes(18)})),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_neither_memory_nor_time(name: str, tmp_path: Path) -> None:
    kind, make = BOMBS[name]
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(make())
    lines, grown, err = run_measured(
        "import pathlib; from sono.curation.readers.files import *",
        "found = [read_source(path) for path in list_sources(pathlib.Path(sys.argv[1]))]\n"
        "print(len(found), sum(len(one.frames) for one in found))\n"
        "print(*{code for one in found for code in one.codes})",
        str(path),
    )
    counts, codes = lines
    assert err == "" and counts.endswith(" 0") and codes
    assert grown < 120 * 1024


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_too_many_or_too_large_members_refuse_the_archive(
    kind: str,
    read_all: Callable[..., dict[str, ReadResult]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = packed(kind, PICTURES)
    with monkeypatch.context() as patch:
        patch.setattr(archive_formats, "MAX_MEMBERS", 5)
        ((_, source),) = read_all(content, f"a.{kind}").items()
        assert source.codes == ("archive_limit",) and "more than 5 files" in source.message
    with monkeypatch.context() as patch:
        patch.setattr(archive_formats, "MAX_UNPACKED_BYTES", 9000)
        source = read_all(content, f"b.{kind}")[f"b.{kind}"]
        assert source.codes == ("archive_limit",) and "more than 9000 bytes" in source.message


def test_a_member_larger_than_a_file_may_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(PICTURES))
    for member in list_sources(path):
        assert read_source(member, Limits(max_file_bytes=100)).codes == ("too_large",)


def test_a_gzip_stream_gives_the_same_bytes_in_any_order() -> None:
    random = np.random.default_rng(0)
    content = random.integers(0, 40, 30 << 20, np.uint8).tobytes()
    packed_ = _gzip(content[: 20 << 20]) + _gzip(content[20 << 20 :]) + bytes(700)
    stream = GzipStream(io.BytesIO(packed_), 1 << 30, 200)
    for place in (0, 29 << 20, 5, 17 << 20, 3 << 20, 20 << 20, (20 << 20) - 7):
        stream.seek(place)
        assert stream.read(1000) == content[place : place + 1000]
    stream.seek(len(content) - 3)
    assert stream.read(1000) == content[-3:] and stream.read(5) == b""
    with pytest.raises(UnreadableError, match="archive_limit"):
        GzipStream(io.BytesIO(packed_), 1 << 20, 200).read(9 << 20)


def _study(folder: Path, raw: Path, jobs: int = 1) -> Workspace:
    records = folder / "records.csv"
    study = Workspace.create(folder / "study")
    run_qc(study, QcOptions(raw, records=records), Engine(jobs=jobs, batch_size=2))
    return study


@pytest.mark.parametrize("kind", ["zip", pytest.param("tgz", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "keys",
    ["as unpacked", "as packed", "other patient", "names"],
    ids=lambda one: one.replace(" ", "-"),
)
def test_members_join_records_as_the_files_of_an_unpacked_archive(
    keys: str, kind: str, tmp_path: Path
) -> None:
    raw, other = tmp_path / "plain" / "raw", tmp_path / "packed" / "raw"
    for number in range(2):
        write_frames(raw / f"71{number}50" / "US", range(2 * number, 2 * number + 2))
        members = {
            f"US/{file.name}": file.read_bytes()
            for file in sorted((raw / f"71{number}50" / "US").iterdir())
        }
        other.mkdir(parents=True, exist_ok=True)
        (other / f"71{number}50.{kind}").write_bytes(packed(kind, members))
    rows = {
        "as unpacked": "file,patient,ga\n71050/US/IM_0.png,A,20w0d\n71150/US/IM_3.png,B,21w0d\n",
        "as packed": (
            f"file,patient,ga\n71050.{kind}/US/IM_0.png,A,20w0d\n71150.{kind}/US/IM_3.png,B,21w0d\n"
        ),
        "other patient": "file,patient,ga\nIM_0,71150,20w0d\nIM_3.png,71050,21w0d\n",
        "names": "file,patient,ga\nIM_0,A,20w0d\nIM_3.png,B,21w0d\n",
    }
    tables = []
    for folder, files in (("plain", raw), ("packed", other)):
        if not (folder == "plain" and keys == "as packed"):
            (tmp_path / folder / "records.csv").write_text(rows[keys])
            images = _study(tmp_path / folder, files).images().sort_values("file_sha256")
            tables.append(images[["file_sha256", "image_id", "status", "ga_days", "reasons"]])
    assert tables[-1]["ga_days"].notna().sum() == (0 if keys == "other patient" else 2)
    first, last = (table.reset_index(drop=True).astype(str) for table in (tables[0], tables[-1]))
    assert first.equals(last)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing_and_a_second_run_reads_nothing(
    tmp_path: Path,
) -> None:
    write_frames(tmp_path / "frames", range(6))
    members = {file.name: file.read_bytes() for file in sorted((tmp_path / "frames").iterdir())}
    raw = tmp_path / "raw"
    raw.mkdir()
    for kind in ("zip", "tgz"):
        (raw / f"a.{kind}").write_bytes(packed(kind, members))
    tables = []
    for jobs in (1, 2):
        study = Workspace.create(tmp_path / f"study{jobs}")
        assert run_qc(study, QcOptions(raw), Engine(jobs=jobs, batch_size=2)).measured == 12
        assert run_qc(study, QcOptions(raw), Engine(jobs=jobs)).measured == 0
        images = study.images()[["file_sha256", "image_id", "status"]]
        tables.append(sorted(images.itertuples(index=False, name=None)))
    assert tables[0] == tables[1]


def test_dicom_and_its_directory_are_read_in_an_archive(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    gray = np.random.default_rng(0).integers(0, 255, (90, 120), np.uint8)
    write_dicom(tmp_path / "one.dcm", gray, PatientName="DOE^JANE", PatientID="7", **DIRECTORY)
    files = FileSet()
    files.add(tmp_path / "one.dcm")
    files.write(tmp_path / "disk")
    with warnings.catch_warnings():  # it leaves a temporary folder to the garbage collector
        warnings.simplefilter("ignore")
        del files
        gc.collect()
    members = {
        str(file.relative_to(tmp_path / "disk")): file.read_bytes()
        for file in (tmp_path / "disk").rglob("*")
        if file.is_file()
    }
    path = tmp_path / "disk.zip"
    path.write_bytes(zipped(members))
    found = {one.rpartition(b"/")[2]: read_source(one) for one in list_sources(path)}
    assert found[b"DICOMDIR"].codes == ("no_pixels",)
    (frames,) = (source.frames for name, source in found.items() if name != b"DICOMDIR")
    assert len(frames) == 1


def test_nothing_private_of_an_archive_reaches_the_workspace(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", range(2))
    content = (tmp_path / "frames" / "IM_0.png").read_bytes()
    other = (tmp_path / "frames" / "IM_1.png").read_bytes()
    raw = tmp_path / "raw"
    raw.mkdir()
    name = "Ostrander_Beatrix.zip"
    (raw / name).write_bytes(
        zipped({"Fennimore/Quillfeather.png": content}, comment=b"from Dr Thistlewood")
    )
    (raw / "b.tgz").write_bytes(tarred({"b.png": other}, "w:gz", uname="hawksworth"))
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(raw), Engine(jobs=1))
    known = SourceStrings.of([study.sources()]).raw
    assert {"Ostrander_Beatrix", "Fennimore", "Quillfeather"} <= known
    assert {"from Dr Thistlewood", "hawksworth"} <= known
    for file in study.root.rglob("*"):
        if file.is_file():
            text = file.read_bytes().lower()
            for word in (b"ostrander", b"fennimore", b"quillfeather", b"thistlewood", b"hawksw"):
                assert word not in text, file
    path = bytes(raw / name / "Fennimore" / "Quillfeather.png")
    assert names_of(path, bytes(raw)) == ("Ostrander_Beatrix", "Fennimore", "Quillfeather", "raw")


def test_a_patient_who_is_called_like_a_word_of_a_message_stops_nothing(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    gray = np.random.default_rng(0).integers(0, 255, (90, 120), np.uint8)
    write_dicom(raw / "one.dcm", gray, PatientName="HAND^LINK", PatientID="7")
    (raw / "a.zip").write_bytes(linked("zip"))
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(raw), Engine(jobs=1))
    assert summary.reasons["archive_member"] == 1
    (study.root / "note.txt").write_text("seen: Hand, Link")
    with pytest.raises(PrivacyError):
        check_privacy(study)
