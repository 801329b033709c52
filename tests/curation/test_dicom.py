"""DICOM in the forms that hospitals send, on real files and on small ones with known pixels."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from sono.curation.readers.dicom import is_dicom, looks_like_dataset, read_dicom
from sono.curation.readers.sources import Limits, Source, read_source

ROWS, COLUMNS = 70, 100
RAMP = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (ROWS, 1))
DEEP = RAMP.astype("<u2") * 16  # 12 bits in 16
JPEG = cv2.imencode(".jpg", RAMP, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

# file: frames, shape, colour, row spacing in mm or the reason why not, patient
REAL = {
    "OBXXXX1A.dcm": (1, (600, 800), True, 0.2622879, "11-05-25-142825"),
    "OBXXXX1A_rle_2frame.dcm": (2, (600, 800), True, 0.2622879, "11-05-25-142825"),
    "US1_J2KR.dcm": (1, (480, 640), True, "no_regions", "13US1"),
    "YBR_422.dcm": (1, (555, 800), True, 0.0616, "34234dffse34"),
    "color-pl.dcm": (1, (120, 256), True, "no_regions", None),
    "examples_rgb_color.dcm": (1, (240, 320), True, "no_regions", "13US1"),
    "examples_ybr_color.dcm": (30, (240, 320), True, "region_out_of_bounds", "204"),
    "gdcm-US-ALOKA-16.dcm": (1, (480, 640), True, 0.3826531, "98279"),
}


def dataset(data: bytes = RAMP.tobytes(), syntax: str = ExplicitVRLittleEndian, **values: object) -> Dataset:
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
    made["PixelData"].is_undefined_length = syntax not in (ExplicitVRLittleEndian, ExplicitVRBigEndian)
    return made


def stored(made: Dataset) -> bytes:
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(data: bytes = RAMP.tobytes(), syntax: str = ExplicitVRLittleEndian, **values: object) -> Source:
    return read_dicom(stored(dataset(data, syntax, **values)))


def gray(source: Source) -> NDArray[np.int_]:
    return source.frames[0].gray.astype(int)


def region(**changes: float) -> Dataset:
    made = Dataset()
    made.RegionSpatialFormat = made.RegionDataType = 1
    made.RegionLocationMinX0, made.RegionLocationMinY0 = 10, 10
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = 90, 60
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = 3
    made.PhysicalDeltaX, made.PhysicalDeltaY = 0.02, 0.03
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def spacing(*regions: Dataset) -> tuple[float | None, float | None, str | None]:
    frame = read(SequenceOfUltrasoundRegions=Sequence(regions)).frames[0]
    return frame.row_spacing_mm, frame.col_spacing_mm, frame.spacing_reason


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files_read_with_their_shape_colour_and_spacing(shared_data: Path, name: str) -> None:
    source = read_source(str(shared_data / "dicom" / name).encode())
    count, shape, color, known, patient = REAL[name]
    assert source.codes == () and len(source.frames) == count
    assert all(frame.gray.shape == shape and (frame.rgb is not None) == color for frame in source.frames)
    frame = source.frames[0]
    assert (frame.spacing_reason or pytest.approx(frame.row_spacing_mm, rel=1e-4)) == known
    assert source.header.patient == patient and source.header.machine is not None


def test_a_real_cine_moves_and_stays_dark_outside_its_sector(shared_data: Path) -> None:
    frames = read_source(str(shared_data / "dicom" / "examples_ybr_color.dcm").encode()).frames
    assert [frame.index for frame in frames] == list(range(30))
    assert len({frame.gray.tobytes() for frame in frames}) == 28  # two of the stored frames repeat another
    assert all(frame.gray[:30, 100:140].mean() < 2 and frame.gray[30:220].mean() > 8 for frame in frames)


def test_jpeg_2000_and_uncompressed_copies_of_a_real_picture_agree(shared_data: Path) -> None:
    one, other = (
        gray(read_source(str(shared_data / "dicom" / name).encode()))
        for name in ("US1_J2KR.dcm", "examples_rgb_color.dcm")
    )
    half = cv2.resize(one.astype(np.uint8), (320, 240), interpolation=cv2.INTER_AREA).astype(int)
    assert np.corrcoef(half.ravel(), other.ravel())[0, 1] > 0.9


def test_monochrome1_is_inverted() -> None:
    np.testing.assert_array_equal(gray(read((255 - RAMP).tobytes(), PhotometricInterpretation="MONOCHROME1")), RAMP)


def test_twelve_bits_follow_the_voi_window() -> None:
    source = read(DEEP.tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    assert source.codes == ("bit_depth",)
    np.testing.assert_allclose(gray(source), DEEP / 4095 * 255, atol=1)


def test_twelve_bits_without_window_fill_the_range_by_percentiles() -> None:
    low, high = np.percentile(DEEP, (0.1, 99.9))
    pictures = gray(read(DEEP.tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11))
    np.testing.assert_allclose(pictures, np.clip((DEEP - low) / (high - low), 0, 1) * 255, atol=1)


def test_a_deep_cine_has_one_window_for_all_frames() -> None:
    source = read(np.stack([DEEP, DEEP // 2]).tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11, NumberOfFrames=2)
    first, second = (frame.gray.astype(int) for frame in source.frames)
    np.testing.assert_allclose(second, first / 2, atol=1)


def test_big_endian_pixels_are_swapped() -> None:
    data = DEEP.astype(">u2").tobytes()
    one = gray(read(data, ExplicitVRBigEndian, BitsAllocated=16, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(one, gray(read(DEEP.tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11)))


def test_single_bit_pixels_become_black_and_white() -> None:
    bits = RAMP > 100
    data = np.packbits(bits, bitorder="little").tobytes()
    np.testing.assert_array_equal(gray(read(data, BitsAllocated=1, BitsStored=1, HighBit=0)), bits * 255)


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


def test_a_jpeg_larger_than_its_header_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    big = cv2.imencode(".jpg", np.zeros((4000, 4000), np.uint8))[1].tobytes()
    monkeypatch.setattr(Decoder, "as_array", lambda *_, **__: pytest.fail("decoded a bomb"))
    assert read(encapsulate([big]), JPEGBaseline8Bit).codes == ("frame_corrupt",)


def test_frames_beyond_the_memory_limit_are_left_out_with_a_code() -> None:
    content = stored(dataset(RAMP.tobytes() * 8, NumberOfFrames=8))
    source = read_dicom(content, Limits(max_decoded_bytes=3 * RAMP.size))
    assert (len(source.frames), source.codes) == (3, ("frames_limit",))


def test_a_missing_decoder_names_the_extra_only_where_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_contradictions_in_the_pixel_description_are_named(values: dict[str, object], code: str) -> None:
    assert read(**values).codes == (code,)


def test_another_modality_is_read_but_marked() -> None:
    source = read(Modality="CT")
    assert source.codes == ("not_ultrasound",) and len(source.frames) == 1


def test_a_missing_modality_is_settled_by_the_storage_class() -> None:
    assert read(Modality="").codes == ()


def test_spacing_takes_rows_from_y_and_columns_from_x() -> None:
    assert spacing(region()) == (pytest.approx(0.3), pytest.approx(0.2), None)


def test_two_equal_tissue_regions_agree_and_two_different_ones_do_not() -> None:
    assert spacing(region(), region(RegionLocationMinX0=40))[2] is None
    assert spacing(region(), region(PhysicalDeltaX=0.021)) == (None, None, "regions_differ")


def test_a_doppler_region_beside_the_tissue_does_not_disturb() -> None:
    trace = region(RegionDataType=3, PhysicalUnitsXDirection=4, PhysicalUnitsYDirection=7)
    assert spacing(trace, region())[2] is None
    assert spacing(trace) == (None, None, "region_units")


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


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(0)
    seeds = [stored(dataset()), stored(dataset(encapsulate([JPEG] * 3), JPEGBaseline8Bit, NumberOfFrames=3))]
    for number in range(300):
        content = bytearray(seeds[number % 2])
        for place in random.integers(0, min(len(content), 900), 4):
            content[place] = random.integers(0, 256)
        source = read_dicom(bytes(content[: random.integers(100, len(content) + 1)]))
        assert source.frames or source.codes
