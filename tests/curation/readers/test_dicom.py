"""DICOM in the forms that hospitals send, on real files and on small ones with known pixels."""

import io
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.pixels.decoders.base import Decoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from sono.curation.readers.dicom import is_dicom, looks_like_dataset, read_dicom
from sono.curation.readers.dicom_header import read_header
from sono.curation.readers.dicom_regions import read_regions, tissue_box
from sono.curation.readers.files import Limits, ReadResult, read_source

ROWS, COLUMNS = 70, 100
RAMP = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (ROWS, 1))
DEEP = RAMP.astype("<u2") * 16  # 12 bits in 16
JPEG = cv2.imencode(".jpg", RAMP, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

# color-pl.dcm holds 120 x 256 pixels of PixelAspectRatio 4\\3
# file: frames, shape, color, row spacing in mm or the reason why not, patient
REAL = {
    "OBXXXX1A.dcm": (1, (600, 800), True, 0.2622879, "11-05-25-142825"),
    "OBXXXX1A_rle_2frame.dcm": (2, (600, 800), True, 0.2622879, "11-05-25-142825"),
    "US1_J2KR.dcm": (1, (480, 640), True, "no_regions", "13US1"),
    "YBR_422.dcm": (1, (555, 800), True, 0.0616, "34234dffse34"),
    "color-pl.dcm": (1, (160, 256), True, "no_regions", None),
    "examples_rgb_color.dcm": (1, (240, 320), True, "no_regions", "13US1"),
    "examples_ybr_color.dcm": (30, (240, 320), True, "region_out_of_bounds", "204"),
    "gdcm-US-ALOKA-16.dcm": (1, (480, 640), True, 0.3826531, "98279"),
}


def dataset(
    data: bytes = RAMP.tobytes(), syntax: str = ExplicitVRLittleEndian, **values: object
) -> Dataset:
    """A minimal ultrasound image [70, 100]; `values` replace or add elements."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Modality, made.Rows, made.Columns = "US", ROWS, COLUMNS
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    for name, value in values.items():
        setattr(made, name, value)
    made.PixelData = data
    made["PixelData"].VR = "OB" if made.BitsAllocated <= 8 else "OW"
    made["PixelData"].is_undefined_length = syntax not in (
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
    )
    return made


def stored(made: Dataset) -> bytes:
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(
    data: bytes = RAMP.tobytes(), syntax: str = ExplicitVRLittleEndian, **values: object
) -> ReadResult:
    return read_dicom(stored(dataset(data, syntax, **values)))


def gray(source: ReadResult) -> NDArray[np.int_]:
    return source.frames[0].gray.astype(int)


def region(**changes: float) -> Dataset:
    made = Dataset()
    made.RegionSpatialFormat = made.RegionDataType = 1
    made.RegionLocationMinX0, made.RegionLocationMinY0 = 10, 10
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = 90, 60
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = 3
    made.PhysicalDeltaX, made.PhysicalDeltaY = 0.02, 0.0201  # square within what machines round
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def spacing(*regions: Dataset) -> tuple[float | None, float | None, str | None]:
    frame = read(SequenceOfUltrasoundRegions=Sequence(regions)).frames[0]
    return frame.row_spacing_mm, frame.col_spacing_mm, frame.spacing_reason


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files_read_with_their_shape_color_and_spacing(shared_data: Path, name: str) -> None:
    source = read_source(str(shared_data / "dicom" / name).encode())
    count, shape, color, known, patient = REAL[name]
    assert source.codes == ("resampled",) * (name == "color-pl.dcm") and len(source.frames) == count
    assert all(
        frame.gray.shape == shape and (frame.rgb is not None) == color for frame in source.frames
    )
    frame = source.frames[0]
    assert (frame.spacing_reason or pytest.approx(frame.row_spacing_mm, rel=1e-4)) == known
    assert source.header.patient == patient and source.header.machine is not None


def test_a_real_cine_moves_and_stays_dark_outside_its_sector(shared_data: Path) -> None:
    frames = read_source(str(shared_data / "dicom" / "examples_ybr_color.dcm").encode()).frames
    assert [frame.index for frame in frames] == list(range(30))
    # two of the stored frames repeat another
    assert len({frame.gray.tobytes() for frame in frames}) == 28
    assert all(
        frame.gray[:30, 100:140].mean() < 2 and frame.gray[30:220].mean() > 8 for frame in frames
    )


def test_jpeg_2000_and_uncompressed_copies_of_a_real_picture_agree(shared_data: Path) -> None:
    one, other = (
        gray(read_source(str(shared_data / "dicom" / name).encode()))
        for name in ("US1_J2KR.dcm", "examples_rgb_color.dcm")
    )
    half = cv2.resize(one.astype(np.uint8), (320, 240), interpolation=cv2.INTER_AREA).astype(int)
    assert np.corrcoef(half.ravel(), other.ravel())[0, 1] > 0.9


def test_monochrome1_is_inverted() -> None:
    np.testing.assert_array_equal(
        gray(read((255 - RAMP).tobytes(), PhotometricInterpretation="MONOCHROME1")), RAMP
    )


def test_twelve_bits_follow_the_voi_window() -> None:
    source = read(
        DEEP.tobytes(),
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert source.codes == ("bit_depth",)
    np.testing.assert_allclose(gray(source), DEEP / 4095 * 255, atol=1)


def test_twelve_bits_without_window_fill_the_range_by_percentiles() -> None:
    low, high = np.percentile(DEEP, (0.1, 99.9))
    pictures = gray(read(DEEP.tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11))
    np.testing.assert_allclose(pictures, np.clip((DEEP - low) / (high - low), 0, 1) * 255, atol=1)


def test_a_deep_cine_has_one_window_for_all_frames() -> None:
    source = read(
        np.stack([DEEP, DEEP // 2]).tobytes(),
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        NumberOfFrames=2,
    )
    first, second = (frame.gray.astype(int) for frame in source.frames)
    np.testing.assert_allclose(second, first / 2, atol=1)


def test_big_endian_pixels_are_swapped() -> None:
    data = DEEP.astype(">u2").tobytes()
    one = gray(read(data, ExplicitVRBigEndian, BitsAllocated=16, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(
        one, gray(read(DEEP.tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11))
    )


def test_single_bit_pixels_become_black_and_white() -> None:
    bits = RAMP > 100
    data = np.packbits(bits, bitorder="little").tobytes()
    np.testing.assert_array_equal(
        gray(read(data, BitsAllocated=1, BitsStored=1, HighBit=0)), bits * 255
    )


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
def test_compressed_pictures_are_decoded(syntax: str) -> None:
    jpeg_2000 = cv2.imencode(".jp2", RAMP)[1].tobytes()
    codestream = jpeg_2000[jpeg_2000.index(b"\xff\x4f\xff\x51") :]
    source = read(encapsulate([JPEG if syntax == JPEGBaseline8Bit else codestream]), syntax)
    assert source.codes == ()
    np.testing.assert_allclose(gray(source), RAMP, atol=3)


def test_run_length_frames_are_decoded() -> None:
    made = dataset()
    made.compress(RLELossless)
    np.testing.assert_array_equal(gray(read_dicom(stored(made))), RAMP)


def test_frames_in_several_fragments_without_offset_table_are_joined() -> None:
    data = encapsulate([JPEG] * 3, fragments_per_frame=2, has_bot=False)
    source = read(data, JPEGBaseline8Bit, NumberOfFrames=3)
    assert source.codes == () and len(source.frames) == 3


def test_a_cut_cine_keeps_the_frames_before_the_cut() -> None:
    whole = stored(dataset(encapsulate([JPEG] * 6), JPEGBaseline8Bit, NumberOfFrames=6))
    source = read_dicom(whole[: len(whole) - 2 * len(JPEG)])
    assert source.codes == ("frames_mismatch",)
    assert [frame.codes for frame in source.frames] == [(), (), (), (), ("frame_corrupt",)]


def test_a_cut_single_picture_is_truncated() -> None:
    whole = stored(dataset(encapsulate([JPEG]), JPEGBaseline8Bit))
    assert read_dicom(whole[:-200]).codes == ("truncated",)


@pytest.mark.parametrize("kept", [132, 346, None])
def test_zeros_that_a_broken_copy_leaves_are_not_read_one_by_one(kept: int | None) -> None:
    content = stored(dataset())
    start = time.process_time()
    source = read_dicom(content[:kept] + bytes(16 << 20))
    assert time.process_time() - start < 3  # seconds; it took 20
    assert len(source.frames) == (kept is None)
    assert "truncated" in source.codes or kept is None


def test_a_jpeg_larger_than_its_header_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    big = cv2.imencode(".jpg", np.zeros((4000, 4000), np.uint8))[1].tobytes()
    monkeypatch.setattr(Decoder, "as_array", lambda *_, **__: pytest.fail("decoded a bomb"))
    assert read(encapsulate([big]), JPEGBaseline8Bit).codes == ("frame_corrupt",)


def test_frames_beyond_the_memory_limit_are_left_out_with_a_code() -> None:
    content = stored(dataset(RAMP.tobytes() * 8, NumberOfFrames=8))
    source = read_dicom(content, Limits(max_decoded_bytes=3 * RAMP.size))
    assert (len(source.frames), source.codes) == (3, ("frames_limit",))


def test_a_missing_decoder_names_the_extra_only_where_it_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Decoder, "is_available", property(lambda _: False))
    source = read(encapsulate([JPEG]), JPEGLosslessSV1)
    assert source.codes == ("needs_plugin",) and "sono[dicom]" in source.message
    assert read(encapsulate([JPEG]), HTJ2K).codes == ("unsupported_syntax",)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"SamplesPerPixel": 3}, "bad_value"),
        ({"BitsStored": 9}, "bad_value"),
        ({"BitsAllocated": 12}, "bad_value"),
        ({"PhotometricInterpretation": "HSV"}, "unsupported"),
        ({"Rows": 10}, "too_small"),
    ],
)
def test_contradictions_in_the_pixel_description_are_named(
    values: dict[str, object], code: str
) -> None:
    assert read(**values).codes == (code,)


def test_another_modality_is_read_but_marked() -> None:
    source = read(Modality="CT")
    assert source.codes == ("not_ultrasound",) and len(source.frames) == 1


def test_a_missing_modality_is_settled_by_the_storage_class() -> None:
    assert read(Modality="").codes == ()


def test_spacing_takes_rows_from_y_and_columns_from_x() -> None:
    assert spacing(region()) == (pytest.approx(0.201), pytest.approx(0.2), None)


def test_a_region_of_any_kind_outside_the_picture_spoils_all_deltas() -> None:
    trace = region(RegionDataType=10, RegionSpatialFormat=4, RegionLocationMaxX1=300)
    assert spacing(region(), trace) == (None, None, "region_out_of_bounds")


def test_a_broken_tissue_region_leaves_the_other_one_no_better() -> None:
    assert spacing(region(), region(RegionLocationMinY0=60))[2] == "region_inverted"
    assert spacing(region(), region(PhysicalUnitsYDirection=1))[2] == "region_units"


def test_an_m_mode_strip_gives_no_spacing() -> None:
    strip = region(RegionSpatialFormat=2, PhysicalUnitsXDirection=4)
    assert spacing(strip) == (None, None, "region_not_tissue")
    assert spacing(strip, region())[2] is None


def test_an_enhanced_object_has_its_spacing_in_the_shared_groups() -> None:
    measures, group = Dataset(), Dataset()
    measures.PixelSpacing = [0.4, 0.402]
    group.PixelMeasuresSequence = Sequence([measures])
    frame = read(SharedFunctionalGroupsSequence=Sequence([group])).frames[0]
    assert (frame.row_spacing_mm, frame.col_spacing_mm, frame.spacing_reason) == (0.4, 0.402, None)


@pytest.mark.parametrize(
    ("values", "shape", "mm"),
    [
        ({"PixelAspectRatio": ["2", "1"]}, (140, 100), None),
        ({"PixelAspectRatio": ["1", "2"]}, (70, 200), None),
        ({"PixelAspectRatio": ["5", "4"]}, (88, 100), None),
        ({"PixelSpacing": [0.4, 0.2]}, (140, 100), 0.2),
        ({"PixelSpacing": [0.2, 0.3]}, (70, 150), 0.2),
        ({"PixelSpacing": [0.4, 0.2], "PixelAspectRatio": ["2", "1"]}, (140, 100), 0.2),
        (
            {"SequenceOfUltrasoundRegions": [region(PhysicalDeltaX=0.03, PhysicalDeltaY=0.06)]},
            (140, 100),
            0.3,
        ),
        (
            {"SequenceOfUltrasoundRegions": [region(PhysicalDeltaX=0.05, PhysicalDeltaY=0.02)]},
            (70, 250),
            0.2,
        ),
    ],
)
def test_pixels_that_are_not_square_become_square(
    values: dict[str, object], shape: tuple[int, int], mm: float | None
) -> None:
    source = read(**values)
    frame = source.frames[0]
    assert (
        source.codes == ("resampled",)
        and frame.gray.shape == shape
        and frame.file_size == (ROWS, COLUMNS)
    )
    assert (
        (frame.row_spacing_mm, frame.col_spacing_mm) == (pytest.approx(mm, rel=0.01),) * 2
        if mm
        else (None, None)
    )
    # the extent in mm is that of the file, whatever the rounding of rows and columns
    if mm and "PixelSpacing" in values:
        down, across = values["PixelSpacing"]
        assert frame.row_spacing_mm * shape[0] == pytest.approx(down * ROWS)
        assert frame.col_spacing_mm * shape[1] == pytest.approx(across * COLUMNS)


def test_a_disc_that_is_squashed_in_the_file_is_round_again_in_gray_and_in_color() -> None:
    disc = cv2.circle(np.zeros((2 * ROWS, COLUMNS), np.uint8), (50, 70), 30, 200, -1)
    flat = cv2.resize(disc, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    color = np.dstack([flat, flat // 2, flat // 4])
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    for data, extra in ((flat, {}), (color, rgb)):
        frame = read(data.tobytes(), PixelAspectRatio=["2", "1"], **extra).frames[0]
        high, wide = (np.ptp(np.flatnonzero((frame.gray > 40).any(axis=axis))) for axis in (1, 0))
        assert abs(high - wide) <= 2
        assert frame.rgb is None or frame.rgb.shape == (140, 100, 3)


def test_regions_and_every_frame_of_a_cine_follow_the_square_pixels() -> None:
    flat = Sequence([region(PhysicalDeltaX=0.02, PhysicalDeltaY=0.04)])
    frames = read(RAMP.tobytes() * 3, NumberOfFrames=3, SequenceOfUltrasoundRegions=flat).frames
    assert [frame.gray.shape for frame in frames] == [(140, 100)] * 3
    assert tissue_box(frames[2].regions, 140, 100) == (10, 20, 91, 122)  # rows 10 to 60 of the file
    assert frames[2].regions[0].deltas == (0.02, 0.02)


@pytest.mark.parametrize(
    "values",
    [
        {"PixelSpacing": [0.2, 0.2], "PixelAspectRatio": ["2", "1"]},
        {"PixelSpacing": [0.4, 0.2], "PixelAspectRatio": ["1", "2"]},
        {
            "SequenceOfUltrasoundRegions": [region(PhysicalDeltaY=0.02)],
            "PixelAspectRatio": ["4", "3"],
        },
        {"PixelSpacing": [1.0, 0.1]},
        {"PixelAspectRatio": ["30", "1"]},
    ],
)
def test_a_header_that_contradicts_itself_on_its_pixels_gives_no_spacing(
    values: dict[str, object],
) -> None:
    source = read(**values)
    frame = source.frames[0]
    assert source.codes == ("aspect_unsure",) and frame.gray.shape == (ROWS, COLUMNS)
    assert (frame.row_spacing_mm, frame.col_spacing_mm) == (None, None)


@pytest.mark.parametrize("value", [["1", "1"], ["100", "101"], ["0", "1"], ["2"], []])
def test_an_aspect_ratio_of_one_or_none_changes_nothing(value: list[str]) -> None:
    source = read(PixelAspectRatio=value)
    assert source.codes == () and np.array_equal(source.frames[0].gray, RAMP)


def test_a_picture_too_large_to_grow_shrinks_instead() -> None:
    content = stored(dataset(PixelSpacing=[0.4, 0.2]))
    frame = read_dicom(content, Limits(max_pixels=10_000)).frames[0]
    assert frame.gray.shape == (
        70,
        50,
    ) and frame.row_spacing_mm == frame.col_spacing_mm == pytest.approx(0.4)


def test_pixel_spacing_serves_where_there_are_no_regions() -> None:
    for regions in ({}, {"SequenceOfUltrasoundRegions": Sequence([])}):
        frame = read(PixelSpacing=["0.21", "0.21"], **regions).frames[0]
        assert (frame.row_spacing_mm, frame.col_spacing_mm, frame.spacing_reason) == (
            0.21,
            0.21,
            None,
        )
    regions = Sequence([region(PhysicalUnitsXDirection=4)])
    frame = read(PixelSpacing=["0.21", "0.21"], SequenceOfUltrasoundRegions=regions).frames[0]
    assert (frame.row_spacing_mm, frame.spacing_reason) == (None, "region_units")


def test_a_pixel_spacing_that_makes_the_picture_wider_than_a_meter_is_none() -> None:
    wide = np.zeros((ROWS, 800), np.uint8)
    frame = read(wide.tobytes(), Columns=800, PixelSpacing=["1.9", "1.9"]).frames[0]
    assert (frame.row_spacing_mm, frame.spacing_reason) == (None, "implausible")
    assert (
        read(wide.tobytes(), Columns=800, PixelSpacing=["0.9", "0.9"]).frames[0].row_spacing_mm
        == 0.9
    )


@pytest.mark.parametrize(
    "value", [["0.004", "0.004"], ["2.1", "2.1"], ["0.2", "2.5"], ["2", "2"], ["0.005", "0.005"]]
)
def test_an_impossible_pixel_spacing_is_refused(value: list[str]) -> None:
    assert read(PixelSpacing=value).frames[0].spacing_reason == "implausible"


@pytest.mark.parametrize("value", [["0.2"], ["0", "0"], ["-0.2", "0.2"], ["0.2", "0.2", "0.2"], []])
def test_a_pixel_spacing_that_is_no_pair_of_numbers_is_refused(value: list[str]) -> None:
    frame = read(PixelSpacing=value).frames[0]
    assert (frame.row_spacing_mm, frame.spacing_reason) == (None, "pixel_spacing")


@pytest.mark.parametrize("delta", [0.2, 0.0004, 0.15])
def test_an_impossible_region_is_refused(delta: float) -> None:
    size = {
        "RegionLocationMinX0": 0,
        "RegionLocationMinY0": 0,
        "RegionLocationMaxX1": 399,
        "RegionLocationMaxY1": 399,
    }
    # 0.15 cm a pixel would be 60 cm of tissue
    tall = region(PhysicalDeltaX=delta, PhysicalDeltaY=delta, **size)
    data = np.zeros((400, 400), np.uint8).tobytes()
    frame = read(data, Rows=400, Columns=400, SequenceOfUltrasoundRegions=Sequence([tall])).frames[
        0
    ]
    assert (frame.row_spacing_mm, frame.spacing_reason) == (None, "implausible")


def test_the_only_tissue_region_has_a_box_and_several_have_none() -> None:
    def box(*regions: Dataset) -> tuple[int, ...] | None:
        made = dataset(SequenceOfUltrasoundRegions=Sequence(regions))
        return tissue_box(read_regions(made) or (), ROWS, COLUMNS)

    assert box(region()) == (10, 10, 91, 61)
    assert box(region(RegionLocationMaxX1=100, RegionLocationMaxY1=70)) == (10, 10, 100, 70)
    assert (
        box(region(RegionDataType=3))
        is box(region(), region())
        is box(region(RegionLocationMaxX1=101))
        is None
    )
    assert box(region(PhysicalUnitsXDirection=0)) == (10, 10, 91, 61)  # where it is, not how large


def colors() -> NDArray[np.uint8]:
    """A picture [70, 100, 3] of luma and chromas: gray on the left, colored on the right."""
    made = np.full((ROWS, COLUMNS, 3), 128, np.uint8)
    made[..., 0] = RAMP
    made[:, 60:, 1], made[:, 60:, 2] = 90, 200
    return made


def test_luma_is_taken_as_it_is_stored() -> None:
    source = read(
        colors().tobytes(),
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL",
        PlanarConfiguration=0,
    )
    np.testing.assert_array_equal(gray(source), RAMP)
    assert source.frames[0].rgb is not None
    half = np.concatenate(
        [colors()[:, 0::2, :1], colors()[:, 1::2, :1], colors()[:, 0::2, 1:]], axis=2
    )
    source = read(
        half.tobytes(),
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422",
        PlanarConfiguration=0,
    )
    np.testing.assert_array_equal(gray(source), RAMP)


def test_colors_are_those_of_the_standard() -> None:
    source = read(
        colors().tobytes(),
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL",
        PlanarConfiguration=0,
    )
    rgb = source.frames[0].rgb
    assert rgb is not None
    np.testing.assert_allclose(rgb, convert_color_space(colors(), "YBR_FULL", "RGB"), atol=1)


@pytest.mark.parametrize("adobe", [False, True])
def test_luma_of_a_jpeg_is_what_the_decoder_gives(adobe: bool) -> None:
    image = Image.fromarray(convert_color_space(colors(), "YBR_FULL", "RGB"))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, subsampling="4:2:2")
    content = file.getvalue()
    with Image.open(io.BytesIO(content)) as again:
        again.draft("YCbCr", again.size)
        expected = np.asarray(again)
    if adobe:  # the mark of luma and chroma, in place of JFIF's
        content = content[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01" + content[20:]
    options = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
        "PlanarConfiguration": 0,
    }
    source = read(encapsulate([content]), JPEGBaseline8Bit, **options)
    np.testing.assert_allclose(gray(source), expected[..., 0], atol=1)
    assert source.frames[0].rgb is not None
    np.testing.assert_allclose(
        source.frames[0].rgb, convert_color_space(expected, "YBR_FULL", "RGB"), atol=2
    )


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("deep", [False, True])
def test_lossless_forms_are_read_with_the_extra(syntax: str, deep: bool, tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    values = {
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "WindowCenter": 2048,
        "WindowWidth": 4096,
    }
    plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    plain.write_bytes(stored(dataset(DEEP.tobytes(), **values) if deep else dataset()))
    reader, writer, change = (
        gdcm.ImageReader(),
        gdcm.ImageWriter(),
        gdcm.ImageChangeTransferSyntax(),
    )
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetImage(change.GetOutput())
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(packed))
    assert writer.Write()
    np.testing.assert_array_equal(
        gray(read_source(str(packed).encode())), gray(read_source(str(plain).encode()))
    )


def test_two_equal_tissue_regions_agree_and_two_different_ones_do_not() -> None:
    assert spacing(region(), region(RegionLocationMinX0=40))[2] is None
    assert spacing(region(), region(PhysicalDeltaX=0.021)) == (None, None, "regions_differ")


def test_a_doppler_region_beside_the_tissue_does_not_disturb() -> None:
    trace = region(RegionDataType=3, PhysicalUnitsXDirection=4, PhysicalUnitsYDirection=7)
    assert spacing(trace, region())[2] is None
    assert spacing(trace) == (None, None, "region_not_tissue")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"RegionLocationMaxX1": 101}, "region_out_of_bounds"),
        ({"RegionLocationMinY0": 60}, "region_inverted"),
        ({"PhysicalDeltaY": float("nan")}, "region_zero_delta"),
        ({"PhysicalDeltaX": float("inf")}, "region_zero_delta"),
        ({"PhysicalUnitsXDirection": 0}, "region_units"),
    ],
)
def test_an_unusable_region_says_why(changes: dict[str, float], reason: str) -> None:
    assert spacing(region(**changes)) == (None, None, reason)


def test_a_region_without_deltas_has_none() -> None:
    bare = region()
    del bare.PhysicalDeltaX
    assert spacing(bare) == (None, None, "region_zero_delta")


def test_private_strings_leave_out_the_machine_and_its_documents() -> None:
    made = dataset(Manufacturer="ACME", ProcessingFunction="OB_GENERAL", OperatorsName="Roe^Rita")
    block = made.private_block(0x0029, "ACME DATA", create=True)
    block.add_new(1, "LO", "OB_GENERAL")
    block.add_new(2, "LT", "word " * 100)
    block.add_new(3, "UN", b"\x00\x01ward seven\x00")
    private = read_dicom(stored(made)).header.private
    assert private == ("1.2.3", "Roe^Rita", "ward seven")


def test_a_dataset_without_preamble_is_told_from_other_bytes() -> None:
    content = stored(dataset())
    assert is_dicom(content) and looks_like_dataset(content[132:])
    assert not looks_like_dataset(b"PK\x03\x04" + bytes(60)) and not looks_like_dataset(b"")


def test_force_finds_the_dataset_behind_a_broken_beginning(tmp_path: Path) -> None:
    content = stored(dataset())
    for name, broken in {
        "none": content[128:],
        "long": b"device" * 90 + content,
        "bare": content[132:],
    }.items():
        path = tmp_path / name
        path.write_bytes(broken)
        forced = read_source(str(path).encode(), force=True)
        assert forced.codes == ("no_preamble",) and np.array_equal(gray(forced), RAMP)
        assert bool(read_source(str(path).encode()).frames) == (name == "bare")


def test_force_makes_no_image_of_other_files(tmp_path: Path) -> None:
    for content in (b"no picture at all " * 50, b"\x00" * 4000, b"DICM" + b"\x02\x00" * 300):
        path = tmp_path / "other"
        path.write_bytes(content)
        assert not read_source(str(path).encode(), force=True).frames


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(0)
    seeds = [
        stored(dataset()),
        stored(dataset(encapsulate([JPEG] * 3), JPEGBaseline8Bit, NumberOfFrames=3)),
    ]
    for number in range(300):
        content = bytearray(seeds[number % 2])
        for place in random.integers(0, min(len(content), 900), 4):
            content[place] = random.integers(0, 256)
        source = read_dicom(bytes(content[: random.integers(100, len(content) + 1)]))
        assert source.frames or source.codes


@pytest.mark.parametrize(
    ("dates", "found"),
    [
        ({"StudyDate": "20240102", "ContentDate": "20240320"}, "2024-01-02"),
        ({"SeriesDate": "20240320"}, "2024-03-20"),
        ({"StudyDate": "", "AcquisitionDate": "2024.03.20"}, "2024-03-20"),
        ({"StudyDate": "00000000", "ContentDate": "20240320"}, "2024-03-20"),
        ({}, None),
    ],
)
def test_the_day_of_an_exam_is_the_first_date_that_is_there(
    dates: dict[str, str], found: str | None
) -> None:
    dataset = Dataset()
    for name, value in dates.items():
        setattr(dataset, name, value)
    assert read_header(dataset, b"\0" * 128).exam_date == found
