"""DICOM files with a fault each, and sound ones in all common codings; see `bad_files`."""

import io
import struct
import zlib
from collections.abc import Sequence as Many
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    generate_uid,
)

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
MPEG4 = "1.2.840.10008.1.2.4.102"
UNDEFINED = b"\xff\xff\xff\xff"


def write(folder: Path, gray: NDArray[np.uint8], png: bytes) -> None:
    """Write all files of the fan `gray` [H, W] to `folder`."""
    made: dict[str, Dataset | bytes] = {
        **_codings(gray),
        **_compressed(gray),
        **_frames(gray),
        **_elements(gray),
        **_regions(gray),
        **_private(gray),
        **_cut(gray, png),
        **_nested(gray),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else _bytes(content))


def _dataset(
    pixels: NDArray[np.uint8] | bytes | None,
    rows: int,
    columns: int,
    syntax: str = ExplicitVRLittleEndian,
    **values: object,
) -> Dataset:
    """An Ultrasound Image of Jane Doe with one region of tissue; `values` by keyword."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = ULTRASOUND
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.Modality, made.Manufacturer, made.StudyDate = "US", "GE Healthcare", "20240101"
    made.PatientName, made.PatientID, made.PatientBirthDate = "DOE^JANE", "MRN12345", "19900312"
    made.Rows, made.Columns = rows, columns
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.SequenceOfUltrasoundRegions = Sequence([_region()])
    for keyword, value in values.items():
        setattr(made, keyword, value)
    if made.SamplesPerPixel == 3 and "PlanarConfiguration" not in made:
        made.PlanarConfiguration = 0
    if pixels is not None:
        made.PixelData = pixels if isinstance(pixels, bytes) else pixels.tobytes()
        made["PixelData"].VR = "OB"
    return made


def _gray(gray: NDArray[np.uint8], **values: object) -> Dataset:
    return _dataset(gray, *gray.shape[:2], **values)


def _color(pixels: NDArray[np.uint8], gray: NDArray[np.uint8], kind: str, **more: int) -> Dataset:
    return _dataset(pixels, *gray.shape, SamplesPerPixel=3, PhotometricInterpretation=kind, **more)


def _region() -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 20, 30
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 619, 470
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.025
    return region


def _bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(
        buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True
    )
    return buffer.getvalue()


def _red(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The fan in RGB with a red bar."""
    rgb = np.repeat(gray[..., None], 3, axis=2)
    rgb[100:120, 100:200] = (255, 0, 0)
    return rgb


def _ycbcr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luma, red, blue = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    return np.dstack([luma, blue, red])


def _codings(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """Uncompressed pixels in every common coding."""
    rgb = _red(gray)
    full = _ycbcr(rgb)
    # two pixels share their colors: Y1 Y2 Cb Cr
    halved = np.stack([full[:, ::2, 0], full[:, 1::2, 0], full[:, ::2, 1], full[:, ::2, 2]], axis=2)
    palette = _gray(gray, PhotometricInterpretation="PALETTE COLOR")
    rising = (np.arange(256) * 257).astype("<u2")
    for color, table in {"Red": rising, "Green": rising, "Blue": rising[::-1]}.items():
        setattr(palette, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(palette, f"{color}PaletteColorLookupTableData", table.tobytes())
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    return {
        "00_good.dcm": _gray(gray),
        "00_good_noext": _gray(gray),
        "00_mono1.dcm": _gray(255 - gray, PhotometricInterpretation="MONOCHROME1"),
        "00_rgb.dcm": _color(rgb, gray, "RGB"),
        "00_rgb_planar1.dcm": _color(planes, gray, "RGB", PlanarConfiguration=1),
        "00_ybr_full.dcm": _color(full, gray, "YBR_FULL"),
        "00_ybr422_raw.dcm": _color(halved, gray, "YBR_FULL_422"),
        "ybr422_but_full_len.dcm": _color(full, gray, "YBR_FULL_422"),
        "00_palette.dcm": palette,
        "palette_no_lut.dcm": _gray(gray, PhotometricInterpretation="PALETTE COLOR"),
        "00_deflated.dcm": _gray(gray, syntax=DeflatedExplicitVRLittleEndian),
        "extra_bytes.dcm": _dataset(gray.tobytes() + bytes(5000), *gray.shape),
    }


def _compressed(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """Two frames in JPEG, sound and not."""
    rgb = _red(gray)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    frame = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality)[1].tobytes()

    def jpeg(
        frames: Many[bytes] = (frame, frame), syntax: str = JPEGBaseline8Bit, **values: object
    ) -> Dataset:
        kind = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}
        made = _dataset(
            encapsulate(list(frames)), *gray.shape, syntax, **kind | {"NumberOfFrames": 2} | values
        )
        made["PixelData"].is_undefined_length = True
        return made

    return {
        "00_jpeg_ybr422_2f.dcm": jpeg(),
        "jpeg_says_rgb.dcm": jpeg(PhotometricInterpretation="RGB"),
        "jpeg_5frames_has2.dcm": jpeg(NumberOfFrames=5),
        "jpeg_frame2_trunc.dcm": jpeg((frame, frame[: len(frame) // 3])),
        "jpeg_lossless_noplugin.dcm": jpeg(syntax=JPEGLosslessSV1),
        "mpeg4.dcm": jpeg(syntax=MPEG4),
        "unknown_ts.dcm": jpeg(syntax="1.2.3.4.5.6"),
    }


def _frames(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """Numbers of frames that agree with the pixels, and those that do not."""
    eight = np.stack([gray] * 8)
    return {
        "00_cine8.dcm": _dataset(eight, *gray.shape, NumberOfFrames=8),
        "frames_0.dcm": _gray(gray, NumberOfFrames=0),
        "frames_8_data_3.dcm": _dataset(eight[:3], *gray.shape, NumberOfFrames=8),
        "frames_claims_60000.dcm": _gray(gray, NumberOfFrames=60000),
        "frames_8_undeclared.dcm": _dataset(eight, *gray.shape),
    }


def _elements(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """Elements that are missing, or have values or types that they cannot have."""
    missing = {
        "no_pixeldata.dcm": "PixelData",
        "no_rows.dcm": "Rows",
        "no_bitsalloc.dcm": "BitsAllocated",
        "no_pi.dcm": "PhotometricInterpretation",
        "no_patientid.dcm": "PatientID",
        "no_regions.dcm": "SequenceOfUltrasoundRegions",
    }
    made: dict[str, Dataset | bytes] = {}
    for name, keyword in missing.items():
        made[name] = lacking = _gray(gray)
        delattr(lacking, keyword)
    sound = _bytes(_gray(gray))
    rows = struct.pack("<HH", 0x0028, 0x0010)
    with_bad_values = _gray(gray)
    with pydicom.config.disable_value_validation():
        with_bad_values.PatientAge, with_bad_values.StudyTime = "27 years", "25:99"
        with_bad_values.ProtocolName = "x" * 500
        with_bad_values.PatientBirthDate = "12/03/1990"
        made["bad_vr_values.dcm"] = _bytes(with_bad_values)
        named = _gray(gray, SpecificCharacterSet="ISO_IR 999", PatientName="M\xfcller")
        made["bad_charset.dcm"] = _bytes(named)
    return made | {
        "rows_0.dcm": _gray(gray, Rows=0),
        "rows_65535.dcm": _gray(gray, Rows=65535, Columns=65535),
        "rows_as_DS.dcm": sound.replace(rows + b"US\2\0", rows + b"DS\2\0"),
        "delta_unparsable.dcm": sound.replace(b"0.025", b"abcde"),
    }


def _regions(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """Regions that give no spacing."""
    changes: dict[str, dict[str, object]] = {
        "region_oob.dcm": {"RegionLocationMaxX1": 9999},
        "region_inverted.dcm": {"RegionLocationMinX0": 619, "RegionLocationMaxX1": 20},
        "region_doppler_units.dcm": {"PhysicalUnitsXDirection": 4, "RegionDataType": 3},
        "region_neg_zero_delta.dcm": {"PhysicalDeltaX": -0.025, "PhysicalDeltaY": 0.0},
    }
    made: dict[str, Dataset | bytes] = {
        "regions_empty.dcm": _gray(gray, SequenceOfUltrasoundRegions=Sequence([]))
    }
    for name, values in changes.items():
        region = _region()
        for keyword, value in values.items():
            setattr(region, keyword, value)
        made[name] = _gray(gray, SequenceOfUltrasoundRegions=Sequence([region]))
    return made


def _private(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """A name in the pixels, and one in every place that a header has for it."""
    printed = gray.copy()
    cv2.putText(printed, "DOE^JANE MRN12345", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    requested, icon = Dataset(), Dataset()
    requested.PatientName = "DOE^JANE"
    icon.Rows = icon.Columns = 64
    icon.PixelData = cv2.resize(printed, (64, 64)).tobytes()
    icon["PixelData"].VR = "OB"
    everywhere = _gray(
        gray,
        RequestAttributesSequence=Sequence([requested]),
        IconImageSequence=Sequence([icon]),
        ImageComments="call Jane Doe 555-0100",
    )
    everywhere.private_block(0x0029, "ACME", create=True).add_new(0x01, "LO", "DOE^JANE")
    everywhere.add_new(0x60000010, "US", gray.shape[0])
    everywhere.add_new(0x60000011, "US", gray.shape[1])
    everywhere.add_new(0x60003000, "OW", bytes(gray.size // 8))
    everywhere.preamble = b"JANE DOE".ljust(128, b"\0")
    return {
        "burned_says_no.dcm": _gray(printed, BurnedInAnnotation="NO"),
        "phi_everywhere.dcm": everywhere,
    }


def _cut(gray: NDArray[np.uint8], png: bytes) -> dict[str, Dataset | bytes]:
    """Files that end too early, lack their beginning, or are no DICOM at all."""
    sound = _bytes(_gray(gray))
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, _gray(gray), implicit_vr=True, little_endian=True, force_encoding=True)
    implicit = buffer.getvalue()
    return {
        "trunc_pixels.dcm": sound[:-150_000],
        "trunc_header.dcm": sound[:420],
        "trunc_meta.dcm": sound[:140],
        "zero.dcm": b"",
        "preamble_only.dcm": bytes(128) + b"DICM",
        "junk.dcm": np.random.default_rng(1).bytes(4096),
        "png_as.dcm": png,
        "no_preamble.dcm": sound[132:],
        "no_meta_implicit.dcm": implicit[implicit.index(struct.pack("<HH", 0x0008, 0x0016)) :],
        "deflate_bomb_1GiB.dcm": _inflating(1 << 30),
    }


def _inflating(size: int) -> bytes:
    """A deflated file of which a private element unfolds to `size` bytes."""
    whole = _bytes(_dataset(None, 8, 8, DeflatedExplicitVRLittleEndian))
    (length,) = struct.unpack("<I", whole[140:144])
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    creator = struct.pack("<HH", 0x0009, 0x0010) + b"LO\4\0ACME"
    element = struct.pack("<HH", 0x0009, 0x1001) + b"OB\0\0" + struct.pack("<I", size)
    packed = [packer.compress(creator + element)]
    zeros = bytes(1 << 20)
    packed += [packer.compress(zeros) for _ in range(size >> 20)]
    return whole[: 144 + length] + b"".join(packed) + packer.flush()


def _nested(gray: NDArray[np.uint8]) -> dict[str, Dataset | bytes]:
    """Sequences in sequences; by hand, because writing them with pydicom takes all memory."""
    sound = _bytes(_gray(gray))
    place = sound.index(struct.pack("<HH", 0x0010, 0x0010) + b"PN")
    begin = struct.pack("<HH", 0x0008, 0x1115) + b"SQ\0\0" + UNDEFINED
    begin += struct.pack("<HH", 0xFFFE, 0xE000) + UNDEFINED
    end = b"".join(struct.pack("<HHI", 0xFFFE, tag, 0) for tag in (0xE00D, 0xE0DD))
    return {
        f"deep_nest{depth}.dcm": sound[:place] + begin * depth + end * depth + sound[place:]
        for depth in (100, 400, 5000)
    }
