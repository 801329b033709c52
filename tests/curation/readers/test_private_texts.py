"""A name in any place of a file is private, also where a program writes technical values."""

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_files import zipped
from dicom_files import write_dicom
from PIL import Image, TiffImagePlugin
from video_files import fan, moving, video
from volume_files import meta_image, nifti, nrrd

from sono.curation.core.engine import Engine
from sono.curation.core.errors import PrivacyError
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.files import list_sources, read_source

NAME = "Quillfeather Agatha"
RAW = NAME.encode()
PICTURE = fan()


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check


def in_png(kind: bytes, body: bytes) -> bytes:
    content = saved("PNG")
    return content[:33] + chunk(kind, body) + content[33:]


def in_jpeg(marker: int, body: bytes) -> bytes:
    content = saved("JPEG")
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body
    return content[:2] + segment + content[2:]


def in_jpeg_2000(kind: bytes, body: bytes, in_header: bool = False) -> bytes:
    content = saved("JPEG2000")
    box = struct.pack(">I", 8 + len(body)) + kind + body
    if not in_header:
        return content + box
    place = content.index(b"jp2h")
    size = int.from_bytes(content[place - 4 : place], "big")
    end = place - 4 + size
    return (
        content[: place - 4]
        + struct.pack(">I", size + len(box))
        + (content[place:end] + box + content[end:])
    )


def in_gif(kind: int, start: bytes = b"") -> bytes:
    """An extension at the end of the file, after the picture."""
    blocks = b"".join(bytes([len(one)]) + one for one in (start, RAW) if one)
    return saved("GIF")[:-1] + b"!" + bytes([kind]) + blocks + b"\0;"


def in_bmp(after: bool) -> bytes:
    content = bytearray(saved("BMP"))
    start = struct.unpack_from("<I", content, 10)[0]
    struct.pack_into("<I", content, 2, len(content) + len(RAW))
    if after:
        return bytes(content + RAW)
    struct.pack_into("<I", content, 10, start + len(RAW))
    return bytes(content[:start] + RAW + content[start:])


def profile(kind: bytes = b"desc") -> bytes:
    """A color profile with one text in UTF-16."""
    text = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(NAME), 28)
    text += NAME.encode("utf-16-be")
    entry = kind + struct.pack(">II", 144, len(text))
    return bytes(128) + struct.pack(">I", 1) + entry + text


def in_tiff() -> bytes:
    """IPTC texts as numbers of 32 bits, which Pillow would not write."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info.tagtype[65000] = 4
    info[65000] = struct.unpack("<5I", RAW.ljust(20))
    content = saved("TIFF", tiffinfo=info)
    return content.replace(struct.pack("<HH", 65000, 4), struct.pack("<HH", 33723, 4))


def tarred_by(**fields: object) -> bytes:
    file, content = io.BytesIO(), saved("PNG")
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("IM_1.png")
        info.size = len(content)
        for name, value in fields.items():
            setattr(info, name, value)
        archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def with_more(content: bytes, extra: bytes) -> bytes:
    """A ZIP archive whose only member has this extra field in the list of members."""
    place = content.rindex(b"PK\x01\x02")
    end = content.rindex(b"PK\x05\x06")
    listed, tail = bytearray(content[place:end]), bytearray(content[end:])
    name_size = struct.unpack_from("<H", listed, 28)[0]
    struct.pack_into("<H", listed, 30, len(extra))
    listed[46 + name_size : 46 + name_size] = extra
    struct.pack_into("<I", tail, 12, len(listed))
    return content[:place] + bytes(listed) + bytes(tail)


def packed_as(name: str) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=file) as stream:
        stream.write(nifti(PICTURE))
    return file.getvalue()


COMMENT = struct.pack("<HHBI", 0x6375, 5 + len(RAW), 1, 0) + RAW
PLACES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG chunk of a program": ("a.png", lambda: in_png(b"paTi", RAW)),
    "PNG keyword": ("a.png", lambda: in_png(b"tEXt", RAW + b"\0on")),
    "PNG keyword without end": ("a.png", lambda: in_png(b"tEXt", RAW)),
    "PNG keyword of a packed text": (
        "a.png",
        lambda: in_png(b"zTXt", RAW + b"\0\0" + zlib.compress(b"on")),
    ),
    "PNG keyword in another language": (
        "a.png",
        lambda: in_png(b"iTXt", b"Title\0\1\0de\0" + RAW + b"\0" + zlib.compress(b"on")),
    ),
    "PNG name of a palette": ("a.png", lambda: in_png(b"sPLT", RAW + b"\0\x08")),
    "PNG name of a profile": ("a.png", lambda: in_png(b"iCCP", RAW + b"\0\0" + zlib.compress(b""))),
    "PNG profile": ("a.png", lambda: in_png(b"iCCP", b"ICC\0\0" + zlib.compress(profile()))),
    "JPEG profile": ("a.jpg", lambda: saved("JPEG", icc_profile=profile())),
    "JPEG profile of a maker": ("a.jpg", lambda: saved("JPEG", icc_profile=profile(b"dmnd"))),
    "TIFF profile": ("a.tif", lambda: saved("TIFF", icc_profile=profile())),
    "JPEG after JFIF": ("a.jpg", lambda: in_jpeg(0xE0, b"JFIF\0\1\1" + bytes(7) + RAW)),
    "JPEG APP0 of a program": ("a.jpg", lambda: in_jpeg(0xE0, b"AVI1" + RAW)),
    "JPEG like Adobe": ("a.jpg", lambda: in_jpeg(0xED, b"Adobe_CM\0" + RAW)),
    "JPEG after Adobe": ("a.jpg", lambda: in_jpeg(0xEE, b"Adobe\0" + bytes(6) + RAW)),
    "JPEG like a profile": ("a.jpg", lambda: in_jpeg(0xE2, b"ICC_PROFILES" + RAW)),
    "JPEG 2000 label": ("a.jp2", lambda: in_jpeg_2000(b"lbl ", RAW)),
    "JPEG 2000 rights": ("a.jp2", lambda: in_jpeg_2000(b"jp2i", RAW)),
    "JPEG 2000 box of a program": ("a.jp2", lambda: in_jpeg_2000(b"abcd", RAW)),
    "JPEG 2000 box in the header": ("a.jp2", lambda: in_jpeg_2000(b"xml ", RAW, in_header=True)),
    "JPEG 2000 profile": (
        "a.jp2",
        lambda: in_jpeg_2000(b"colr", b"\2\0\0" + profile(), in_header=True),
    ),
    "GIF comment after the picture": ("a.gif", lambda: in_gif(0xFE)),
    "GIF caption": ("a.gif", lambda: in_gif(0x01, bytes(12))),
    "GIF data of a program": ("a.gif", lambda: in_gif(0xFF, b"XMP DataXMP")),
    "BMP before the pixels": ("a.bmp", lambda: in_bmp(after=False)),
    "BMP after the pixels": ("a.bmp", lambda: in_bmp(after=True)),
    "TIFF texts as numbers": ("a.tif", in_tiff),
    "MetaImage modality": ("a.mha", lambda: meta_image(PICTURE, Modality=NAME)),
    "MetaImage status": ("a.mha", lambda: meta_image(PICTURE, Seq_Frame0000_ImageStatus=NAME)),
    "MetaImage element": ("a.mha", lambda: meta_image(PICTURE, ElementOperator=NAME)),
    "MetaImage line without sign": (
        "a.mha",
        lambda: meta_image(PICTURE).replace(b"DimSize", RAW + b"\nDimSize"),
    ),
    "NRRD comment on a format": (
        "a.nrrd",
        lambda: nrrd(PICTURE).replace(b"type", b"# format of " + RAW + b"\ntype", 1),
    ),
    "NRRD labels": ("a.nrrd", lambda: nrrd(PICTURE, labels=f'"{NAME}" "y"')),
    "NRRD sample units": ("a.nrrd", lambda: nrrd(PICTURE, sample_units=f'"{NAME}"')),
    "NRRD unknown field": ("a.nrrd", lambda: nrrd(PICTURE, patient=NAME)),
    "NRRD second content": (
        "a.nrrd",
        lambda: nrrd(PICTURE, content="head").replace(b"\n\n", b"\ncontent: " + RAW + b"\n\n", 1),
    ),
    "NRRD line without sign": (
        "a.nrrd",
        lambda: nrrd(PICTURE).replace(b"\n\n", b"\n" + RAW + b"\n\n", 1),
    ),
    "NIfTI 2 unused bytes": ("a.nii", lambda: nifti(PICTURE, version=2, x=(525, "15s", RAW[:15]))),
    "gzip name": ("a.nii.gz", lambda: packed_as(f"{NAME}.nii")),
    "tar group": ("a.tar", lambda: tarred_by(gname=NAME)),
    "tar attribute": (
        "a.tar",
        lambda: tarred_by(pax_headers={"SCHILY.xattr.user.xdg.comment": NAME}),
    ),
    "ZIP comment in UTF-8": (
        "a.zip",
        lambda: with_more(zipped({"IM_1.png": saved("PNG")}), COMMENT),
    ),
    "ZIP comment of an empty member": ("a.zip", lambda: with_more(zipped({"IM_1": b""}), COMMENT)),
}  # fmt: skip


def private_of(place: Path) -> str:
    found = [read_source(path) for path in list_sources(place)]
    return "\n".join(text for source in found for text in source.header.private)


@pytest.mark.parametrize("place", PLACES)
def test_a_name_is_private_wherever_it_is(place: str, tmp_path: Path) -> None:
    name, make = PLACES[place]
    (tmp_path / name).write_bytes(make())
    wanted = NAME[:15] if "unused" in place else NAME
    assert wanted in private_of(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("make", [meta_image, nrrd])
def test_letters_of_a_header_are_read_in_utf_8_or_latin_1(
    make: Callable[..., bytes], encoding: str, tmp_path: Path
) -> None:
    content = make(PICTURE, Comment="@").replace(b"@", "Müller".encode(encoding))
    (tmp_path / "a").write_bytes(content)
    assert private_of(tmp_path) == "Müller"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "JPEG2000"])
def test_a_picture_without_texts_has_none(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(saved(kind))
    assert private_of(tmp_path) == (
        "" if kind != "JPEG2000" else "Created by OpenJPEG version 2.5.4"
    )


@pytest.mark.parametrize(
    "content",
    [
        meta_image(
            PICTURE,
            Modality="MET_MOD_US",
            AnatomicalOrientation="RAI",
            TransformMatrix="1 0 0 1",
            Offset="-1.5e-3 0",
            UltrasoundImageOrientation="MFA",
            UltrasoundImageType="BRIGHTNESS",
            Seq_Frame0000_ImageStatus="OK",
            Seq_Frame0000_ProbeToTrackerTransform="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
        ),
        nrrd(
            PICTURE,
            kinds="domain domain",
            space="left-posterior-superior",
            space_directions="(0.2,0,0) (0,0.2,0)",
            space_origin="(nan,1e-3,0)",
            space_units='"mm" "mm"',
            centers="cell ???",
        ).replace(b"type", b"# Complete NRRD file format specification at:\ntype", 1),
    ],
    ids=["MetaImage", "NRRD"],
)
def test_words_of_a_format_are_not_private(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert private_of(tmp_path) == ""


@pytest.mark.parametrize(
    "keyword", ["ManufacturerModelName", "SoftwareVersions", "TransducerData", "BodyPartExamined"]
)
def test_a_written_name_in_a_technical_element_is_of_a_person(keyword: str, tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PICTURE, **{keyword: "QUILL^AGATHA"})
    found = read_source(bytes(tmp_path / "a.dcm")).header
    assert "QUILL^AGATHA" in found.private and "QUILL^AGATHA" in found.persons


TECHNICAL = {
    "handler_name": ("VideoHandler", "Core Media Video", "\x1fApple Video Media Handler"),
    "major_brand": ("isom", "qt  "),
    "compatible_brands": ("isomiso2avc1mp41",),
    "minor_version": ("512",),
    "vendor_id": ("[0][0][0][0]", "FFMP"),
    "language": ("und", "eng", "de-DE"),
    "encoder": ("Lavf61.7.100", "Lavc61.19.100 libx264", "HandBrake 1.5.1"),
    "DURATION-eng": ("00:00:01.250000000",),
    "NUMBER_OF_FRAMES": ("120",),
    "WMFSDKVersion": ("12.0.7601.17514",),
}
PRIVATE = ("Agatha", NAME, "VideoHandler Agatha", "Born 12.03.1990", "Anna", "MRN-7741902")


def test_only_exact_technical_values_of_a_video_are_left_out() -> None:
    pytest.importorskip("av", reason="the extra video (av) is not installed")
    from sono.curation.readers.video import _private_texts

    class Made:
        def __init__(self, metadata: dict[str, str]) -> None:
            self.metadata, self.streams = metadata, ()

        def chapters(self) -> tuple[()]:
            return ()

    for key, values in TECHNICAL.items():
        assert all(_private_texts(Made({key: value})) == () for value in values), key
        assert all(_private_texts(Made({key: value})) == (value,) for value in PRIVATE), key


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_a_name_in_the_tags_of_a_stream_stops_the_gate(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video (av) is not installed")
    raw = tmp_path / "raw"
    raw.mkdir()
    tag = "language" if kind == "mkv" else "handler_name"
    (raw / f"a.{kind}").write_bytes(video(moving(2), kind, of_stream={tag: NAME}))
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(raw), Engine(jobs=1))
    (study.root / "note.txt").write_text(f"checked the exam of {NAME}")
    with pytest.raises(PrivacyError, match="note"):
        check_privacy(study)
