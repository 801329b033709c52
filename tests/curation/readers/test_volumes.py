"""MetaImage, NRRD and NIfTI: pictures, series of frames, refused volumes, damage."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from video_files import fan, moving
from volume_files import KINDS, meta_image, nifti, nrrd, written

from sono.curation.core.engine import Engine
from sono.curation.core.reasons import REASONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.source_names import SourceStrings
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.files import ReadResult, peek_source, read_source
from sono.curation.readers.source import DEFAULT_LIMITS, Limits

PICTURE = fan()
COLORED = np.repeat(PICTURE[None], 3, axis=0)
COLORED[:, 80:100, 120:180] = np.array([220, 30, 20])[:, None, None]
SERIES = np.stack(moving(5))
SECONDS = 20  # for one small file, on a busy machine


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ReadResult]:
    def read_bytes(content: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadResult:
        path = tmp_path / "file"
        path.write_bytes(content)
        return read_source(bytes(path), limits)

    return read_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_read_with_its_spacing(
    kind: str, read: Callable[..., ReadResult], tmp_path: Path
) -> None:
    source = read(written(kind, PICTURE))
    assert source.codes == () and len(source.frames) == 1
    frame = source.frames[0]
    np.testing.assert_array_equal(frame.gray, PICTURE)
    assert (frame.row_spacing_mm, frame.col_spacing_mm) == pytest.approx((0.2, 0.2))
    assert frame.spacing_reason is None and frame.rgb is None and frame.seconds is None
    assert peek_source(bytes(tmp_path / "file")) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, -1], ids=["planes", "pixels"])
def test_three_planes_that_are_mostly_gray_are_the_colors_of_a_picture(
    kind: str, place: int, read: Callable[..., ReadResult]
) -> None:
    """3 x H x W as in PSFHS, and H x W x 3, without a word on it in the header."""
    (frame,) = read(written(kind, np.moveaxis(COLORED, 0, place))).frames
    assert frame.rgb is not None
    np.testing.assert_array_equal(frame.rgb, np.moveaxis(COLORED, 0, -1))


def test_declared_colors_are_colors(read: Callable[..., ReadResult]) -> None:
    pixels = np.moveaxis(COLORED, 0, -1)
    as_declared = [
        meta_image(pixels, NDims=2, DimSize="320 240", ElementNumberOfChannels=3),
        nrrd(pixels, kinds="RGB-color domain domain"),
        nrrd(COLORED, kinds="domain domain vector"),
        nifti(PICTURE, kind=(70, "h", 128))[:352] + pixels.tobytes(),
        nifti(COLORED[:, None, None]),
    ]
    for content in as_declared:
        (frame,) = read(content).frames
        assert frame.rgb is not None
        np.testing.assert_array_equal(frame.rgb, pixels)


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (nifti(SERIES[:, None], spacing=(0.2, 0.2, 1, 0.05), units=2 | 8), 0.05),
        (nifti(SERIES[:, None], spacing=(0.2, 0.2, 1, 50), units=2 | 16), 0.05),
        (nifti(SERIES[:, None], version=2, order=">"), None),
        (nrrd(SERIES, kinds="domain domain time"), None),
        (nrrd(np.moveaxis(SERIES, 0, -1), kinds="list domain domain"), None),
        (meta_image(SERIES, Kinds="domain domain list"), None),
        (meta_image(SERIES, Seq_Frame0000_ImageStatus="OK"), None),
        (meta_image(SERIES[:, None]), None),
    ],
    ids=["nii s", "nii ms", "nii 2", "nrrd", "nrrd first", "mha kinds", "mha plus", "mha 4-D"],
)
def test_a_series_of_frames_is_read_in_its_order(
    content: bytes, step: float | None, read: Callable[..., ReadResult]
) -> None:
    source = read(content)
    assert source.codes == () and len(source.frames) == 5
    for index, frame in enumerate(source.frames):
        np.testing.assert_array_equal(frame.gray, SERIES[index])
        assert frame.seconds == (None if step is None else pytest.approx(index * step))


@pytest.mark.parametrize(
    "content",
    [
        meta_image(SERIES),
        nrrd(SERIES),
        nrrd(SERIES, kinds="domain domain domain"),
        nifti(SERIES),
        nifti(np.stack(moving(3, step=20))),
        nifti(np.stack([SERIES, SERIES])),
        nrrd(SERIES[None].repeat(2, 0), kinds="domain domain list time"),
    ],
    ids=["mha", "nrrd", "nrrd kinds", "nii", "nii of 3", "nii 4-D", "nrrd two times"],
)
def test_a_volume_is_named_and_refused_with_what_to_do(
    content: bytes, read: Callable[..., ReadResult]
) -> None:
    source = read(content)
    assert source.codes == ("volume",) and not source.frames
    assert " x 240 x " in source.message and "export its slices or frames" in source.message


@pytest.mark.parametrize(
    ("content", "spacing", "reason"),
    [
        (meta_image(PICTURE), None, "no_unit"),
        (meta_image(PICTURE, ElementSpacing="1 1"), None, "default_spacing"),
        (meta_image(PICTURE, ElementSpacing="0.02 0.02", DistanceUnits="cm"), 0.2, None),
        (meta_image(PICTURE, ElementSpacing="200 200", DistanceUnits="um"), 0.2, None),
        (meta_image(PICTURE, ElementSpacing="0.2 0.2", DistanceUnits="cm"), None, "implausible"),
        (meta_image(PICTURE, ElementSpacing="0.2 0.2", DistanceUnits="?"), None, "no_unit"),
        (meta_image(PICTURE, ElementSpacing="0.2 0.2", DistanceUnits="in"), None, "other_unit"),
        (meta_image(PICTURE, DistanceUnits="in"), None, "no_unit"),
        (meta_image(PICTURE, ElementSpacing="0.2 0.2", DistanceUnits="mm"), 0.2, None),
        (meta_image(PICTURE, ElementSpacing="3 3"), None, "implausible"),
        (meta_image(PICTURE, ElementSpacing="0 0"), None, "implausible"),
        (meta_image(PICTURE, ElementSpacing="nan 0.2"), None, "implausible"),
        (meta_image(PICTURE, ElementSpacing="-0.2 -0.2"), None, "implausible"),
        (meta_image(PICTURE, ElementSpacing="a b"), None, "no_unit"),
        (nrrd(PICTURE, spacings="0.2 0.2"), None, "no_unit"),
        (nrrd(PICTURE, spacings="0.02 0.02", space_units='"cm" "cm"'), 0.2, None),
        (nrrd(PICTURE, spacings="0.0002 0.0002", units='"m" "m"'), 0.2, None),
        (nrrd(PICTURE, spacings="200 200", space_units='"micron" "micron"'), 0.2, None),
        (nrrd(PICTURE, spacings="200 200", units='"\u00b5m" "\u00b5m"'), 0.2, None),
        (nrrd(PICTURE, spacings="0.2 0.2", space_units='"inch" "inch"'), None, "other_unit"),
        (nrrd(PICTURE, spacings="0.2 0.2", space_units='"mm" "cm"'), None, "other_unit"),
        (nrrd(PICTURE, spacings="0.2 0.2", space_units='"" ""'), None, "no_unit"),
        (nrrd(PICTURE, spacings="0.2 0.2", units='"pixel" "pixel"'), None, "no_unit"),
        (
            nrrd(
                SERIES[:1],
                kinds="domain domain time",
                spacings="0.2 0.2 0.05",
                units='"mm" "mm" "s"',
            ),
            0.2,
            None,
        ),
        (
            nrrd(
                PICTURE[None],
                space="left-posterior-superior",
                space_directions="(0.2,0,0) (0,0.12,0.16) (0,0,1)",
            ),
            0.2,
            None,
        ),
        (nifti(PICTURE, spacing=(0.2, 0.2), units=2), 0.2, None),
        (nifti(PICTURE, spacing=(-0.2, 0.2), units=2), 0.2, None),
        (nifti(PICTURE, spacing=(0.2, 0.2), units=0), None, "no_unit"),
        (nifti(PICTURE, spacing=(200, 200), units=3), 0.2, None),
        (nifti(PICTURE, spacing=(0.0002, 0.0002), units=1), 0.2, None),
        (nifti(PICTURE, spacing=(0.2, 0.2), units=3), None, "implausible"),
        (nifti(PICTURE, spacing=(0.2, 0.2), units=5), None, "other_unit"),
        (nifti(PICTURE, spacing=(0.01, 0.2), units=2), None, "aspect_differs"),
    ],
)
def test_spacing_needs_a_length_as_unit_and_a_plausible_value(
    content: bytes,
    spacing: float | None,
    reason: str | None,
    read: Callable[..., ReadResult],
) -> None:
    (frame,) = read(content).frames
    assert frame.spacing_reason == reason
    assert frame.row_spacing_mm == (None if spacing is None else pytest.approx(spacing))
    assert frame.col_spacing_mm == frame.row_spacing_mm


def test_pixels_that_are_not_square_are_resampled(read: Callable[..., ReadResult]) -> None:
    source = read(meta_image(PICTURE, ElementSpacing="0.2 0.4"))
    (frame,) = source.frames
    assert source.codes == ("resampled",) and frame.gray.shape == (480, 320)
    assert frame.file_size == (240, 320)
    assert (frame.row_spacing_mm, frame.col_spacing_mm) == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize("make", [meta_image, nrrd, nifti])
def test_more_than_8_bits_are_windowed(
    make: Callable[..., bytes], read: Callable[..., ReadResult]
) -> None:
    deep = PICTURE.astype(np.int16) * 100 - 12_000
    source = read(make(deep))
    assert source.codes == ("bit_depth",)
    shown = source.frames[0].gray
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.corrcoef(shown.ravel(), PICTURE.ravel())[0, 1] > 0.99
    assert read(make(PICTURE.astype(np.float32))).codes == ("unsupported",)


def test_big_endian_values_are_read(read: Callable[..., ReadResult]) -> None:
    deep = PICTURE.astype(np.uint16) * 100
    expected = read(meta_image(deep)).frames[0].gray
    swapped = deep.byteswap().tobytes()
    head = meta_image(deep, BinaryDataByteOrderMSB=True)
    for content in (
        head[: -len(swapped)] + swapped,
        nrrd(deep, endian="big")[: -len(swapped)] + swapped,
        nifti(deep, order=">"),
    ):
        np.testing.assert_array_equal(read(content).frames[0].gray, expected)


@pytest.mark.parametrize(
    "content",
    [
        meta_image(PICTURE, ElementDataFile="/etc/passwd"),
        meta_image(PICTURE, ElementDataFile="x.raw"),
        meta_image(PICTURE, ElementDataFile="LIST"),
        nrrd(PICTURE, data_file="../x.raw"),
        nrrd(PICTURE, datafile="LIST"),
        nifti(PICTURE).replace(b"n+1\0", b"ni1\0"),
    ],
)
def test_no_other_file_is_opened_for_pixels(
    content: bytes, read: Callable[..., ReadResult]
) -> None:
    source = read(content)
    assert source.codes == ("volume",) and "in another file" in source.message


def test_texts_of_headers_are_private_and_words_of_the_format_are_not(
    read: Callable[..., ReadResult],
) -> None:
    texts = ("DOE^JANE", "MRN-7741902")
    for content in (
        meta_image(PICTURE, Comment=texts[0], PatientID=texts[1], Modality="MET_MOD_US"),
        nrrd(PICTURE, content=texts[0]).replace(b"\n\n", f"\nid:={texts[1]}\n\n".encode(), 1),
        nifti(PICTURE, text=f"{texts[0]}\0{texts[1]}".encode()),
        nifti(PICTURE, text=f"{texts[0]}\0{texts[1]}".encode(), version=2),
    ):
        assert read(content).header.private == texts


# Damage: the name of a case, and what it does to a file.
Damage = Callable[[bytearray], bytes]


def cut(share: float) -> Damage:
    return lambda content: bytes(content[: int(len(content) * share)])


def flipped(seed: int) -> Damage:
    def change(content: bytearray) -> bytes:
        random = np.random.default_rng(seed)
        for place in random.integers(0, len(content) if seed % 2 else 400, 1 + seed):
            content[place] ^= 1 << random.integers(8)
        return bytes(content)

    return change


def zeroed(start: int) -> Damage:
    def change(content: bytearray) -> bytes:
        content[start : start + 40] = bytes(len(content[start : start + 40]))
        return bytes(content)

    return change


DAMAGES: dict[str, Damage] = {
    **{f"cut {share}": cut(share) for share in (0.001, 0.003, 0.01, 0.3, 0.5, 0.9, 0.999)},
    **{f"flip {seed}": flipped(seed) for seed in range(20)},
    **{f"zeros {start}": zeroed(start) for start in (0, 20, 40, 70, 76, 100, 120, 150, 250)},
    "garbage after": lambda content: bytes(content + b"DOE^JANE" * 90),
    "twice": lambda content: bytes(content * 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_a_picture_or_a_reason(
    kind: str, damage: str, read: Callable[..., ReadResult]
) -> None:
    start = time.monotonic()
    source = read(DAMAGES[damage](bytearray(written(kind, PICTURE))))
    refused = any(REASONS[code].status != "accepted" for code in source.codes)
    assert refused != bool(len(source.frames)) and bool(source.message) == bool(source.codes)
    assert [frame.index for frame in source.frames] == list(range(len(source.frames)))
    if damage.startswith("cut"):
        assert not source.frames
    assert time.monotonic() - start < SECONDS


LARGE = 10**9 - 1
HOSTILE: dict[str, Callable[[], bytes]] = {
    **{
        f"mha {name}={value}": (lambda name=name, value=value: meta_image(PICTURE, **{name: value}))
        for name, value in (
            ("NDims", 0),
            ("NDims", -1),
            ("NDims", 1000),
            ("NDims", "x"),
            ("DimSize", "0 0"),
            ("DimSize", "-320 -240"),
            ("DimSize", f"{LARGE} {LARGE}"),
            ("DimSize", "1 76800"),
            ("DimSize", "320 241"),
            ("DimSize", "320"),
            ("DimSize", ""),
            ("DimSize", "9" * 5000),
            ("ElementType", "MET_STRING"),
            ("ElementType", ""),
            ("ElementNumberOfChannels", 0),
            ("ElementNumberOfChannels", 2),
            ("ElementNumberOfChannels", LARGE),
            ("BinaryData", False),
            ("CompressedData", True),
        )
    },
    **{
        f"nrrd {name}={value}": (lambda name=name, value=value: nrrd(PICTURE, **{name: value}))
        for name, value in (
            ("dimension", 0),
            ("dimension", 17),
            ("sizes", "0 0"),
            ("sizes", "-1 -1"),
            ("sizes", f"{LARGE} {LARGE}"),
            ("sizes", "320 240 1 1 1 1 1 1 1"),
            ("type", "block"),
            ("type", "double"),
            ("encoding", "ascii"),
            ("encoding", "bzip2"),
            ("encoding", "gzip"),
            ("line_skip", 3),
            ("byte_skip", -1),
        )
    },
    **{
        f"nii {place} {value}": (
            lambda place=place, form=form, value=value: nifti(PICTURE, x=(place, form, value))
        )
        for place, form, value in (
            (40, "h", 0),
            (40, "h", 8),
            (40, "h", -2),
            (42, "h", 0),
            (42, "h", -320),
            (42, "h", 32767),
            (44, "h", 32767),
            (70, "h", 0),
            (70, "h", 1),
            (70, "h", 64),
            (70, "h", 1792),
            (108, "f", 0.0),
            (108, "f", -5.0),
            (108, "f", 1e30),
            (108, "f", float("nan")),
            (108, "f", float("inf")),
            (112, "f", -1.0),
        )
    },
    "mha without end": lambda: meta_image(PICTURE).replace(b"ElementDataFile", b"ElementDataFlie"),
    "mha endless header": lambda: (
        b"ObjectType = Image\nElementType = MET_UCHAR\n" + b"a" * (20 << 20)
    ),
    "nrrd without end": lambda: nrrd(PICTURE).replace(b"\n\n", b"\n"),
    "nii 2 of huge sizes": lambda: nifti(PICTURE, version=2, x=(24, "q", 1 << 62)),
    "nii 2 of a negative size": lambda: nifti(PICTURE, version=2, x=(24, "q", -1)),
}
ZEROS = bytes(100 << 20)
BOMBS: dict[str, Callable[[], bytes]] = {
    "mha": lambda: meta_image(PICTURE, CompressedData=True)[: -PICTURE.size] + zlib.compress(ZEROS),
    "mha large": lambda: (
        meta_image(PICTURE, CompressedData=True, DimSize="9000 9000")[: -PICTURE.size]
        + zlib.compress(ZEROS)
    ),
    "nrrd": lambda: nrrd(PICTURE, encoding="gzip")[: -PICTURE.size] + gzip.compress(ZEROS),
    "nrrd large": lambda: (
        nrrd(PICTURE, encoding="gzip", sizes="9000 9000")[: -PICTURE.size] + gzip.compress(ZEROS)
    ),
    "nii": lambda: gzip.compress(nifti(PICTURE) + ZEROS),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(name: str, read: Callable[..., ReadResult]) -> None:
    source = read(HOSTILE[name]())
    assert not source.frames and len(source.codes) == 1 and source.message


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_not_unpacked(name: str, read: Callable[..., ReadResult]) -> None:
    content = BOMBS[name]()
    tracemalloc.start()
    source = read(content, Limits(max_inflated_bytes=8 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.codes in (("inflate_limit",), ("too_large",)) and not source.frames
    assert peak < 32 << 20


def test_nothing_private_of_a_header_reaches_the_workspace(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, make in enumerate((meta_image, nrrd, nifti)):
        content = make(fan(seed=number))
        (raw / f"Ostrander_{number}.vol").write_bytes(content)
    (raw / "a.mha").write_bytes(meta_image(fan(seed=9), Comment="Quillfeather Agatha"))
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(raw), Engine(jobs=1))
    assert summary.statuses == {"accepted": 4}
    assert "Quillfeather Agatha" in SourceStrings.of([study.sources()]).raw
    for file in study.root.rglob("*"):
        if file.is_file():
            text = file.read_bytes().lower()
            assert b"ostrander" not in text and b"quillfeather" not in text, file
