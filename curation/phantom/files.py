"""Write frames as hospitals export them.

The files are PNG, JPEG and DICOM with private text in every place that the format has.
"""

import io
import struct
import zlib
from dataclasses import dataclass, field
from datetime import date

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from sono.curation.phantom.patients import INSTITUTIONS, PHYSICIANS, Exam, PhantomPatient
from sono.curation.phantom.physics import Probe


@dataclass(frozen=True)
class Planted:
    """A private string in a file: its kind (name, id, date, accession, ...) and its place."""

    value: str
    kind: str
    location: str


@dataclass(frozen=True)
class Export:
    """The bytes of a file and the private strings inside."""

    content: bytes
    planted: list[Planted] = field(default_factory=list)


def png_file(frame: NDArray[np.uint8], patient: PhantomPatient, exam: Exam) -> Export:
    """PNG with name, number and date in its text chunks."""
    content = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes()
    planted = [
        Planted(f"{patient.forename} {patient.surname}", "name", "PNG tEXt Patient"),
        Planted(patient.mrn, "id", "PNG tEXt Patient ID"),
        Planted(exam.day.isoformat(), "date", "PNG tEXt Creation Time"),
    ]
    chunks = b"".join(
        _text_chunk(item.location.removeprefix("PNG tEXt "), item.value) for item in planted
    )
    header_end = 33  # signature and IHDR
    return Export(content[:header_end] + chunks + content[header_end:], planted)


def jpeg_file(frame: NDArray[np.uint8], patient: PhantomPatient, exam: Exam) -> Export:
    """JPEG with name, number and time in its EXIF tags."""
    content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    taken = f"{exam.day:%Y:%m:%d} 09:41:07"
    tags = {
        0x010E: Planted(f"{patient.dicom_name} {patient.mrn}", "name", "EXIF ImageDescription"),
        0x013B: Planted(PHYSICIANS[patient.center], "physician", "EXIF Artist"),
        0x0132: Planted(taken, "date", "EXIF DateTime"),
    }
    exif = Image.Exif()
    for tag, item in tags.items():
        exif[tag] = item.value
    block = exif.tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    return Export(content[:2] + segment + content[2:], list(tags.values()))


@dataclass(frozen=True)
class DicomForm:
    """How a DICOM file stores its frames."""

    compressed: bool = False  # RLE lossless
    inverted: bool = False  # MONOCHROME1


def dicom_file(
    frames: NDArray[np.uint8],
    patient: PhantomPatient,
    exam: Exam,
    probe: Probe,
    spacing_mm: float,
    form: DicomForm,
) -> Export:
    """DICOM of `frames` [n, H, W] (gray) or [n, H, W, 3] (RGB) with private header and regions."""
    entropy = [patient.mrn, exam.accession, str(zlib.crc32(frames.tobytes()))]
    data = _new_file(multiframe=len(frames) > 1, entropy=entropy)
    _private_header(data, patient, exam)
    data.SequenceOfUltrasoundRegions = Sequence([_tissue_region(probe, spacing_mm)])
    data.Manufacturer, data.ManufacturerModelName = "Phantom Works", patient.machine
    _pixels(data, frames, form)
    if form.compressed:
        data.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return Export(buffer.getvalue(), _planted_header(patient, exam))


def _new_file(multiframe: bool, entropy: list[str]) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = (
        UltrasoundMultiFrameImageStorage if multiframe else UltrasoundImageStorage
    )
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=entropy)
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.StudyInstanceUID = generate_uid(entropy_srcs=[*entropy[:2], "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy[:2], "series"])
    data.Modality, data.SeriesNumber, data.InstanceNumber, data.StudyID = "US", 1, 1, "1"
    data.ImageType = ["ORIGINAL", "PRIMARY", "OBSTETRICAL", "0001"]
    return data


def _private_header(data: Dataset, patient: PhantomPatient, exam: Exam) -> None:
    data.PatientName, data.PatientID = patient.dicom_name, patient.mrn
    data.PatientBirthDate, data.PatientSex = _dicom_date(patient.birth), "F"
    data.StudyDate = data.SeriesDate = data.ContentDate = _dicom_date(exam.day)
    data.StudyTime = "094107"
    data.AccessionNumber = exam.accession
    data.InstitutionName = INSTITUTIONS[patient.center]
    data.ReferringPhysicianName = PHYSICIANS[patient.center].replace(". ", ".^")
    data.PatientComments = f"{patient.forename} {patient.surname}, see {exam.accession}"
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = patient.mrn, "HIS"
    data.OtherPatientIDsSequence = Sequence([other])
    inner = Dataset()
    inner.PersonName = patient.dicom_name
    request = Dataset()
    request.AccessionNumber = exam.accession
    request.RequestedProcedureDescription = f"Fetal scan {patient.surname}"
    request.ContentCreatorIdentificationCodeSequence = Sequence([inner])
    data.RequestAttributesSequence = Sequence([request])
    block = data.private_block(0x0009, "PHANTOM_PRIVATE", create=True)
    block.add_new(0x10, "LO", f"{patient.surname}/{patient.mrn}")
    block.add_new(0x11, "DA", _dicom_date(patient.birth))


def _planted_header(patient: PhantomPatient, exam: Exam) -> list[Planted]:
    """The private strings that `_private_header` wrote."""
    return [
        Planted(patient.dicom_name, "name", "header PatientName"),
        Planted(patient.mrn, "id", "header PatientID"),
        Planted(_dicom_date(patient.birth), "date", "header PatientBirthDate"),
        Planted(_dicom_date(exam.day), "date", "header StudyDate, SeriesDate, ContentDate"),
        Planted(exam.accession, "accession", "header AccessionNumber"),
        Planted(INSTITUTIONS[patient.center], "institution", "header InstitutionName"),
        Planted(
            PHYSICIANS[patient.center].replace(". ", ".^"),
            "physician",
            "header ReferringPhysicianName",
        ),
        Planted(f"{patient.forename} {patient.surname}", "name", "header PatientComments"),
        Planted(patient.mrn, "id", "nested sequence OtherPatientIDsSequence"),
        Planted(exam.accession, "accession", "nested sequence RequestAttributesSequence"),
        Planted(
            patient.dicom_name, "name", "nested sequence RequestAttributesSequence, two levels deep"
        ),
        Planted(f"{patient.surname}/{patient.mrn}", "name", "private tag (0009,1010)"),
        Planted(_dicom_date(patient.birth), "date", "private tag (0009,1011)"),
    ]


def _tissue_region(probe: Probe, spacing_mm: float) -> Dataset:
    """The sector as a 2D tissue region; PhysicalDelta in cm per pixel (PS3.3 C.8.5.5)."""
    border = np.array(probe.polygon())
    low, high = np.floor(border.min(axis=0)).astype(int), np.ceil(border.max(axis=0)).astype(int)
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = (
        int(max(low[0], 0)),
        int(max(low[1], 0)),
    )
    region.RegionLocationMaxX1 = int(min(high[0], probe.width - 1))
    region.RegionLocationMaxY1 = int(min(high[1], probe.height - 1))
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = round(spacing_mm / 10, 8)
    return region


def _pixels(data: Dataset, frames: NDArray[np.uint8], form: DicomForm) -> None:
    data.Rows, data.Columns = frames.shape[1:3]
    data.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    data.PhotometricInterpretation = (
        "RGB" if frames.ndim == 4 else "MONOCHROME1" if form.inverted else "MONOCHROME2"
    )
    if frames.ndim == 4:
        data.PlanarConfiguration = 0
    if len(frames) > 1:
        data.NumberOfFrames, data.FrameTime = len(frames), "33.3"
        data.FrameIncrementPointer = 0x00181063
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    stored = 255 - frames if form.inverted else frames
    data.PixelData = stored.tobytes() + b"\0" * (stored.size % 2)
    data["PixelData"].VR = "OB"


def _text_chunk(key: str, value: str) -> bytes:
    body = b"tEXt" + key.encode("latin-1") + b"\0" + value.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _dicom_date(day: date) -> str:
    return f"{day:%Y%m%d}"
