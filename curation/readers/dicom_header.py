"""What a DICOM header says beside the pixels: private facts, and the pixel spacing of ultrasound regions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sono.curation.readers.frames import DECODER_ERRORS, Header, clean_texts, text_runs

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

TISSUE, CENTIMETRE = 1, 3  # RegionDataType and PhysicalUnits, PS3.3 C.8.5.5.1
MAX_BLOB_BYTES, MAX_PRIVATE_TEXT = 64 << 10, 256
SAME_SPACING = 1e-4  # relative; machines round the deltas of regions that they draw alike

_TEXT_VRS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "DA", "DT", "AE")
_BYTE_VRS = ("UN", "OB")
# Facts about machine, method and coding, which the standard keeps apart from the person.
_TECHNICAL = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "TransducerData", "ProcessingFunction",
    "ProtocolName", "StudyDescription", "SeriesDescription", "DerivationDescription", "StageName", "ViewName",
    "BodyPartExamined", "CodeValue", "CodeMeaning", "CodingSchemeDesignator", "CodingSchemeVersion",
    "TimezoneOffsetFromUTC", "ImplementationVersionName", "LossyImageCompressionMethod",
})  # fmt: skip
_REGION_NUMBERS = (
    "RegionDataType", "RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1",
    "PhysicalUnitsXDirection", "PhysicalUnitsYDirection", "PhysicalDeltaX", "PhysicalDeltaY",
)  # fmt: skip
_STANDARD_UIDS = "1.2.840.10008."
_PIXEL_GROUPS = (0x0028, 0x7FE0)


@dataclass(frozen=True)
class Spacing:
    """Millimetres between the centres of neighbouring pixels, or the reason why they are not known."""

    row_mm: float | None
    column_mm: float | None
    reason: str | None


@cache
def dicom_errors() -> tuple[type[Exception], ...]:
    """What pydicom was seen to raise on broken content."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*DECODER_ERRORS, BytesLengthException, InvalidDicomError)


def text_of(dataset: "Dataset", keyword: str) -> str:
    """A value as text, "" where it is absent or broken."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else " ".join(str(value).replace("\0", " ").split())
    except dicom_errors():
        return ""


def elements(dataset: "Dataset", max_depth: int) -> Iterator[tuple[int, "DataElement | bytes"]]:
    """Every element with its depth (0 at the top), without recursion; a broken one as its raw bytes."""
    waiting = [(0, dataset), (0, dataset.file_meta)] if hasattr(dataset, "file_meta") else [(0, dataset)]
    while waiting:
        depth, inner = waiting.pop()
        for tag in list(inner.keys()):
            try:
                element = inner[tag]
            except dicom_errors():
                raw = getattr(inner.get_item(tag), "value", None)
                yield depth, raw if isinstance(raw, bytes) else b""
                continue
            yield depth, element
            if element.VR == "SQ" and depth < max_depth:
                waiting += [(depth + 1, item) for item in element.value or ()]


def read_header(dataset: "Dataset", preamble: bytes) -> Header:
    """Ids, machine and every private string of a dataset and its 128 bytes of `preamble`."""
    technical = {text_of(dataset, keyword) for keyword in _TECHNICAL}
    texts = text_runs(preamble)
    for _, element in elements(dataset, max_depth=64):
        found = text_runs(element) if isinstance(element, bytes) else _private_texts(element)
        repeats = not isinstance(element, bytes) and element.tag.is_private  # machines repeat technical facts there
        texts += [text for text in found if not (repeats and text in technical)]
    machine = " ".join(filter(None, (text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName"))))
    return Header(
        patient=text_of(dataset, "PatientID") or None,
        study=text_of(dataset, "StudyInstanceUID") or None,
        machine="".join(letter for letter in machine if letter.isprintable())[:80] or None,
        private=clean_texts(texts),
    )


def _private_texts(element: "DataElement") -> list[str]:
    """The strings of an element that may tell about a person, or the place and date of the examination."""
    value = element.value
    if element.tag.group in _PIXEL_GROUPS or element.keyword in _TECHNICAL or element.tag.is_private_creator:
        return []
    if element.VR in _BYTE_VRS and isinstance(value, bytes):
        return [text for text in text_runs(value) if text.isascii()] if len(value) <= MAX_BLOB_BYTES else []
    values = list(value) if _is_list(value) else [value]
    texts = [str(one) for one in values if one is not None]
    if element.tag.is_private:  # longer ones are documents of the machine (XML), full of everyday words
        texts = [text for text in texts if len(text) <= MAX_PRIVATE_TEXT]
    if element.VR == "UI":
        return [text for text in texts if not text.startswith(_STANDARD_UIDS) and element.tag.group != 2]
    if element.VR == "DT":
        texts += [text[:8] for text in texts]
    return texts if element.VR in _TEXT_VRS else []


def _is_list(value: object) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(value, MultiValue | list)


def read_spacing(dataset: "Dataset", rows: int, columns: int) -> Spacing:
    """Spacing from the tissue regions of an ultrasound image (0018,6011); never guessed.

    All usable regions must agree; a region is usable if it shows tissue, has its units in centimetres, lies in the
    picture and has positive deltas. A clip that the machine scaled down keeps the regions of its full size, so a
    region outside the picture makes the deltas worthless too.
    """
    try:
        regions = list(dataset.SequenceOfUltrasoundRegions)
    except dicom_errors():
        return Spacing(None, None, "no_regions")
    if not regions:
        return Spacing(None, None, "regions_empty")
    judged = [_judge(region, rows, columns) for region in regions]
    usable = [spacing for spacing in judged if spacing.reason is None]
    if not usable:
        tissue = [spacing for spacing in judged if spacing.reason != "region_units"]
        return (tissue or judged)[0]
    if all(_same(spacing, usable[0]) for spacing in usable):
        return usable[0]
    return Spacing(None, None, "regions_differ")


def _same(one: Spacing, other: Spacing) -> bool:
    pairs = ((one.row_mm, other.row_mm), (one.column_mm, other.column_mm))
    return all(math.isclose(a or 0.0, b or 0.0, rel_tol=SAME_SPACING) for a, b in pairs)


def _judge(region: "Dataset", rows: int, columns: int) -> Spacing:
    """The spacing of one region, or the first reason why it has none."""
    number = {name: _number(region, name) for name in _REGION_NUMBERS}
    x0, y0 = number["RegionLocationMinX0"], number["RegionLocationMinY0"]
    x1, y1 = number["RegionLocationMaxX1"], number["RegionLocationMaxY1"]
    in_centimetres = number["PhysicalUnitsXDirection"] == number["PhysicalUnitsYDirection"] == CENTIMETRE
    row, column = number["PhysicalDeltaY"] * 10, number["PhysicalDeltaX"] * 10  # cm -> mm
    reason = None
    if number["RegionDataType"] != TISSUE or not in_centimetres:
        reason = "region_units"
    elif not (x0 < x1 and y0 < y1):
        reason = "region_inverted"
    elif x0 < 0 or y0 < 0 or x1 > columns or y1 > rows:  # some machines write the last pixel, some the one after
        reason = "region_out_of_bounds"
    elif not (0 < row < math.inf and 0 < column < math.inf):
        reason = "region_zero_delta"
    return Spacing(row, column, None) if reason is None else Spacing(None, None, reason)


def _number(region: "Dataset", keyword: str) -> float:
    """A number of a region; NaN, which no comparison accepts, where it is absent or broken."""
    try:
        return float(region.get(keyword, math.nan))
    except dicom_errors():
        return math.nan
