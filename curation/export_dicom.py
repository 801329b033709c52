"""Export de-identified DICOM files, built from stored pixels and allow-listed columns only.

The objects are Ultrasound Image Storage with the mandatory modules of PS3.3 A.6. No element of a
source is copied; the de-identification is stated as PS3.15 E.1 requires.
"""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono import __version__
from sono.curation.core.atomic import write_bytes
from sono.curation.core.atomic_folders import new_folder
from sono.curation.core.console import progress
from sono.curation.core.frame_files import read_stored, stored_path
from sono.curation.core.tables import rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_folder
from sono.curation.readers.dicom_regions import CENTIMETER, TISSUE, TWO_DIMENSIONAL

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset
    from pydicom.uid import UID

MAX_LO = 64  # characters of a Long String
# De-identification methods, CID 7050 of PS3.16.
BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
CLEAN_PIXELS = ("113101", "Clean Pixel Data Option")
MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
METHODS = (
    f"sono {__version__}: a new object from pixels and an allow-list",
    "PS3.15 2024 Basic Profile; pixels cropped to the sector",
)


@dataclass(frozen=True)
class DicomSummary:
    """Counts of one export; patients and studies are the known ones, as in `sono stats`."""

    files: int
    patients: int
    studies: int
    files_without_patient: int  # each source becomes a patient
    files_without_study: int  # those of one patient become one study
    calibrated: int
    without_print: int
    private_strings: int


def export_dicom(workspace: Workspace, out: Path) -> DicomSummary:
    """Write every accepted frame as OUT/patient/study/image.dcm; the bytes are reproducible.

    Raises SonoError if `out` is not a new or empty folder; raises PrivacyError if something private
    is found in the export.
    """
    workspace.require_vault()  # its key is needed for the UIDs
    workspace.check_new_folder(out)
    images = _with_numbers(workspace.accepted_images().drop_duplicates("image_id"))
    key = workspace.key()
    with new_folder(out) as new:
        with progress("export", len(images)) as advance, _strict_writing():
            for row in rows_of(images):
                content = dicom_bytes(row, read_stored(stored_path(workspace, row["file"])), key)
                write_bytes(new / row["patient"] / row["study"] / f"{row['image_id']}.dcm", content)
                advance()
        private_strings = check_folder(workspace, new)
    return DicomSummary(
        files=len(images),
        patients=images["patient_id"].nunique(),
        studies=images["study_id"].nunique(),
        files_without_patient=int(images["patient_id"].isna().sum()),
        files_without_study=int(images["study_id"].isna().sum()),
        calibrated=int(images["row_spacing_mm"].notna().sum()),
        without_print=sum(map(is_without_print, rows_of(images))),
        private_strings=private_strings,
    )


def _with_numbers(images: pd.DataFrame) -> pd.DataFrame:
    """Add patient, study and the number within the study to each frame.

    An unknown patient is replaced by the source, an unknown study by the patient.
    """
    patient = images["patient_id"].fillna(images["source_id"])
    named = images.assign(patient=patient, study=images["study_id"].fillna(patient))
    ordered = named.sort_values(["patient", "study", "source_id", "frame"])
    return ordered.assign(number=ordered.groupby("study").cumcount() + 1)


def is_without_print(row: dict[str, Any]) -> bool:
    """Whether no text was seen: the sector was found, searched, and contains no strokes."""
    seen = {"overlay", "text_in_sector", "private_text", "text_unsearched"}
    return row["sector_kind"] not in (None, "full") and not seen & set(row["reasons"])


def dicom_bytes(row: dict[str, Any], pixels: NDArray[np.uint8], key: bytes) -> bytes:
    """The DICOM file of one frame: a row of the images table and its gray pixels [H, W].

    `row` also has patient, study and number; `key` is the key of the study.
    """
    data = _new_file(row, key)
    _set_identity(data, row)
    _set_equipment_and_image(data, row)
    _add_pixels(data, pixels)
    if pd.notna(row["row_spacing_mm"]) and pd.notna(row["col_spacing_mm"]):
        data.SequenceOfUltrasoundRegions = [_tissue_region(row, pixels.shape)]
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def _strict_writing() -> Iterator[None]:
    """Make pydicom refuse values that the standard does not allow."""
    from pydicom import config

    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.RAISE
    try:
        yield
    finally:
        config.settings.writing_validation_mode = before


def keyed_uid(key: bytes, kind: str, name: str) -> "UID":
    """A UID below 2.25 (PS3.5 B.2) by a keyed hash of `kind` and `name`.

    The same key and name give the same UID; without the key it reveals nothing.
    """
    from pydicom.uid import UID

    digest = hmac.new(key, f"uid:{kind}:{name}".encode(), hashlib.sha256).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16])}")


def _new_file(row: dict[str, Any], key: bytes) -> "FileDataset":
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = keyed_uid(key, "image", row["image_id"])
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.StudyInstanceUID = keyed_uid(key, "study", row["study"])
    data.SeriesInstanceUID = keyed_uid(key, "series", row["study"])
    return data


def _set_identity(data: "Dataset", row: dict[str, Any]) -> None:
    """Set patient and study attributes: pseudonyms, and empty values where DICOM requires one."""
    data.PatientName = data.PatientID = row["patient"]
    data.PatientBirthDate = data.PatientSex = data.StudyTime = data.AccessionNumber = ""
    data.ReferringPhysicianName = data.StudyID = ""
    dated = isinstance(row["exam_date"], str)
    data.StudyDate = row["exam_date"].replace("-", "") if dated else ""
    codes = [BASIC_PROFILE] + [CLEAN_PIXELS] * is_without_print(row) + [MODIFIED_DATES] * dated
    data.PatientIdentityRemoved = "YES"
    data.LongitudinalTemporalInformationModified = "MODIFIED" if dated else "REMOVED"
    data.DeidentificationMethod = list(METHODS)
    data.DeidentificationMethodCodeSequence = [_code(*code) for code in codes]


def _code(value: str, meaning: str) -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _set_equipment_and_image(data: "Dataset", row: dict[str, Any]) -> None:
    """Set the attributes of equipment and image: model, plane and gestational age."""
    data.Modality, data.Manufacturer = "US", ""
    if isinstance(row["machine"], str):
        data.ManufacturerModelName = row["machine"].replace("\\", " ")[:MAX_LO].strip()
    data.SeriesNumber, data.InstanceNumber = 1, row["number"]
    data.ImageType, data.PatientOrientation = ["DERIVED", "PRIMARY"], ""
    data.Laterality = ""  # of a paired body part; unknown
    data.DerivationDescription = "Gray pixels cropped to the sector"
    facts = [f"plane {row['plane']}"] * isinstance(row["plane"], str)
    facts += [f"gestational age {row['ga_days']} days"] if pd.notna(row["ga_days"]) else []
    if facts:
        data.ImageComments = "; ".join(facts)


def _add_pixels(data: "Dataset", pixels: NDArray[np.uint8]) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.UltrasoundColorDataPresent = 7, 0, 0
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    data["PixelData"].VR = "OB"


def _tissue_region(row: dict[str, Any], shape: tuple[int, ...]) -> "Dataset":
    """One tissue region that covers the image; deltas in cm per pixel."""
    from pydicom.dataset import Dataset

    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = (
        TWO_DIMENSIONAL,
        TISSUE,
        0,
    )
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = shape[1] - 1, shape[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CENTIMETER
    region.PhysicalDeltaX, region.PhysicalDeltaY = (
        row["col_spacing_mm"] / 10,
        row["row_spacing_mm"] / 10,
    )
    return region
