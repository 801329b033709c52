"""Headers (.mhd, .nhdr) with their pixels in another file: read in their folder, or refused."""

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archive_files import packed
from video_files import fan, moving
from volume_files import meta_image, nrrd

from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.source_names import SourceStrings
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.readers.files import list_sources, peek_source, read_source, stamp_of
from sono.curation.readers.source import Limits

PICTURE = fan()
PIXELS = PICTURE.tobytes()


def header(kind: str = "mhd", name: str = "a.raw", **fields: object) -> bytes:
    """The header of PICTURE without pixels."""
    if kind == "mhd":
        fields = {"ElementSpacing": "0.2 0.2", **fields, "ElementDataFile": name}
        return meta_image(PICTURE, **fields)[: -len(PIXELS)]
    made = nrrd(PICTURE, spacings="0.2 0.2", units='"mm" "mm"', **fields)[: -len(PIXELS)]
    return made.removesuffix(b"\n") + f"data file: {name}\n".encode()


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


PAIRS: dict[str, dict[str, bytes]] = {
    "mhd": {"a.mhd": header(), "a.raw": PIXELS},
    "mhd of another name": {"b.mhd": header(), "a.raw": PIXELS},
    "mhd in capitals": {"A.MHD": header(name="A.RAW"), "A.RAW": PIXELS},
    "mhd without line end": {"a.mhd": header().rstrip(b"\n"), "a.raw": PIXELS},
    "mhd with blanks": {"a.mhd": header(name="one head.raw"), "one head.raw": PIXELS},
    "mhd with letters": {"a.mhd": header(name="Kopf_ä.raw"), "Kopf_ä.raw": PIXELS},
    "mhd packed": {
        "a.mhd": header(name="a.zraw", CompressedData=True),
        "a.zraw": zlib.compress(PIXELS),
    },
    "nhdr": {"a.nhdr": header("nhdr"), "a.raw": PIXELS},
    "nhdr with blank line": {"a.nhdr": header("nhdr") + b"\n", "a.raw": PIXELS},
    "nhdr with old name": {
        "a.nhdr": header("nhdr").replace(b"data file", b"datafile"),
        "a.raw": PIXELS,
    },
    "nhdr packed": {
        "a.nhdr": header("nhdr", "a.raw.gz", encoding="gzip"),
        "a.raw.gz": gzip.compress(PIXELS),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_pixels_next_to_a_header_are_read(case: str, tmp_path: Path) -> None:
    path = bytes(written(tmp_path, PAIRS[case]))
    source = read_source(path)
    assert source.codes == ()
    (frame,) = source.frames
    np.testing.assert_array_equal(frame.gray, PICTURE)
    assert (frame.row_spacing_mm, frame.col_spacing_mm) == pytest.approx((0.2, 0.2))
    peeked = peek_source(path)
    assert peeked is not None and peeked.file_sha256 == source.file_sha256


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_pairs_in_an_archive_are_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{kind}").write_bytes(
        packed(kind, {f"p/{name}": content for name, content in PAIRS["mhd"].items()})
    )
    found = {path[-5:]: read_source(path) for path in list_sources(tmp_path)}
    np.testing.assert_array_equal(found[b"a.mhd"].frames[0].gray, PICTURE)
    assert found[b"a.raw"].codes == ("pixel_data",)


def test_a_series_is_read(tmp_path: Path) -> None:
    series = np.stack(moving(4))
    head = meta_image(series, Kinds="domain domain list", ElementDataFile="a.raw")
    path = written(tmp_path, {"a.mhd": head[: -series.size], "a.raw": series.tobytes()})
    assert [frame.gray.mean() for frame in read_source(bytes(path)).frames] == [
        frame.mean() for frame in series
    ]


# A name in a header, and a part of the reason why it is not followed.
NAMES = {
    "/etc/passwd": "has a folder",
    "/etc/a.raw": "has a folder",
    "../a.raw": "has a folder",
    "..": "has a folder",
    "./a.raw": "has a folder",
    "sub/a.raw": "has a folder",
    "sub\\a.raw": "has a folder",
    "C:\\a.raw": "has a folder",
    "C:a.raw": "has a folder",
    "file:a.raw": "has a folder",
    "http://x.org/a.raw": "has a folder",
    ".a.raw": "begins with a point",
    "LIST": "a list of files",
    "LIST 2": "a list of files",
    "list 2D": "a list of files",
    "a%03d.raw 1 9 1": "a list of files",
    "a%s.raw": "a list of files",
    "": "no name",
    "a\x01.raw": "no name",
    "a\x1b[2J.raw": "no name",
    "a" * 300 + ".raw": "no name",
    "a.png": "another ending",
    "a.dcm": "another ending",
    "a.mhd": "another ending",
    "a": "another ending",
    "a.raw.exe": "another ending",
}


@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
@pytest.mark.parametrize("name", NAMES)
def test_no_other_name_is_followed(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    path = written(folder, {f"a.{kind}": header(kind, name), "sub/a.raw": PIXELS, "a": PIXELS})
    written(tmp_path, {"a.raw": PIXELS})
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda place, *rest: opened.append(os.fsdecode(place)) or real(place, *rest)
    )
    source = read_source(bytes(path))
    assert source.codes == ("volume",) and not source.frames
    assert NAMES[name] in source.message and "in the same folder" in source.message
    assert opened == [str(path)]


def linked(folder: Path) -> None:
    (folder.parent / "outside.raw").write_bytes(PIXELS)
    (folder / "a.raw").symlink_to(folder.parent / "outside.raw")


def linked_inside(folder: Path) -> None:
    (folder / "b.raw").write_bytes(PIXELS)
    (folder / "a.raw").symlink_to("b.raw")


DATA: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda folder: None, "unreadable", "missing"),
    "a link out of the folder": (linked, "volume", "a link or no regular file"),
    "a link in the folder": (linked_inside, "volume", "a link or no regular file"),
    "a link to itself": (
        lambda folder: (folder / "a.raw").symlink_to("a.raw"),
        "volume",
        "a link or no regular file",
    ),
    "a folder": (lambda folder: (folder / "a.raw").mkdir(), "volume", "no regular file"),
    "a pipe": (lambda folder: os.mkfifo(folder / "a.raw"), "volume", "no regular file"),
    "empty": (lambda folder: (folder / "a.raw").touch(), "empty_file", "no content"),
    "too short": (
        lambda folder: (folder / "a.raw").write_bytes(PIXELS[:-1]),
        "truncated",
        "fewer pixel bytes",
    ),
    "too long": (
        lambda folder: (folder / "a.raw").write_bytes(PIXELS + b"x"),
        "bad_value",
        f"{len(PIXELS) + 1} bytes of pixels, but the header declares {len(PIXELS)}",
    ),
    "too large": (lambda folder: (folder / "a.raw").write_bytes(PIXELS * 3), "too_large", "limit"),
}


@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
@pytest.mark.parametrize("case", DATA)
def test_only_a_regular_file_of_the_right_size_is_read(
    case: str, kind: str, tmp_path: Path
) -> None:
    make, code, text = DATA[case]
    path = written(tmp_path / "in", {f"a.{kind}": header(kind)})
    make(tmp_path / "in")
    source = read_source(bytes(path), Limits(max_file_bytes=2 * len(PIXELS)))
    assert source.codes == (code,) and not source.frames and text in source.message


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.mhd": header() + b"DimSize = 1 1\n", "a.raw": PIXELS}, "volume"),
        ({"a.mhd": header() + PIXELS, "a.raw": PIXELS}, "volume"),
        ({"a.nhdr": header("nhdr") + b"\n" + PIXELS, "a.raw": PIXELS}, "volume"),
        ({"a.mhd": header(HeaderSize=100), "a.raw": bytes(100) + PIXELS}, "unsupported"),
        ({"a.nhdr": header("nhdr", byte_skip=100), "a.raw": bytes(100) + PIXELS}, "unsupported"),
        ({"a.mhd": header(name="a.zraw", CompressedData=True), "a.zraw": PIXELS}, "corrupt"),
        (
            {
                "a.mhd": header(name="a.zraw", CompressedData=True),
                "a.zraw": zlib.compress(PIXELS) + b"more",
            },
            "bad_value",
        ),
        (
            {
                "a.mhd": header(name="a.zraw", CompressedData=True),
                "a.zraw": zlib.compress(PIXELS * 2),
            },
            "inflate_limit",
        ),
        ({"a.mhd": header(DimSize="99999 99999"), "a.raw": PIXELS}, "too_large"),
        ({"a.mha": header(), "a.raw": PIXELS}, "volume"),
    ],
    ids=range(10),
)
def test_a_header_that_contradicts_its_pixels_is_refused(
    files: dict[str, bytes], code: str, tmp_path: Path
) -> None:
    source = read_source(bytes(written(tmp_path, files)))
    assert source.codes == (code,) and not source.frames


def run(tmp_path: Path) -> QcSummary:
    study = tmp_path / "study"
    opened = Workspace(study) if study.exists() else Workspace.create(study)
    return run_qc(opened, QcOptions(tmp_path / "raw", names=True), Engine(jobs=1))


@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_a_changed_file_of_pixels_is_measured_again(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "raw", {f"a.{kind}": header(kind), "a.raw": PIXELS})
    first, before = run(tmp_path), stamp_of(bytes(path))
    assert first.statuses == {"accepted": 1, "rejected": 1}
    assert first.reasons["pixel_data"] == 1 and first.measured == 2
    assert run(tmp_path).measured == 0
    digest = read_source(bytes(path)).file_sha256
    status = (tmp_path / "raw/a.raw").stat()
    (tmp_path / "raw/a.raw").write_bytes(fan(seed=7).tobytes())  # of the same size
    os.utime(tmp_path / "raw/a.raw", ns=(status.st_atime_ns, status.st_mtime_ns - 10**9))
    assert stamp_of(bytes(path)) != before and read_source(bytes(path)).file_sha256 != digest
    changed = run(tmp_path)
    assert changed.measured == 2 and changed.statuses == {"accepted": 1, "rejected": 1}
    (tmp_path / "raw/a.raw").unlink()
    assert run(tmp_path).statuses == {"error": 1}
    (tmp_path / "raw/a.raw").write_bytes(PIXELS)
    assert run(tmp_path).statuses == {"accepted": 1, "rejected": 1}


def test_other_files_of_this_ending_are_not_called_pixels(tmp_path: Path) -> None:
    written(tmp_path, {"a.mhd": header(name="b.raw"), "a.raw": PIXELS, "c.raw": PIXELS})
    for name in ("a.raw", "c.raw"):
        assert read_source(bytes(tmp_path / name)).codes == ("not_an_image",)


@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_texts_of_a_refused_header_are_private(kind: str, tmp_path: Path) -> None:
    written(tmp_path / "raw", {f"a.{kind}": header(kind, "Quillfeather.raw", Comment="Agatha Doe")})
    run(tmp_path)
    strings = SourceStrings.of([Workspace(tmp_path / "study").sources()]).raw
    assert {"Quillfeather", "Agatha Doe"} <= strings
