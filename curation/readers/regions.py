"""Ultrasound regions of a DICOM header (0018,6011): pixel spacing, and where the tissue is; never guessed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sono.curation.readers.dicom_header import dicom_errors
from sono.curation.readers.frames import Region

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Codes of PS3.3 C.8.5.5.1: RegionSpatialFormat, RegionDataType, PhysicalUnits.
TWO_DIMENSIONAL, M_MODE, SPECTRAL = 1, 2, 3
TISSUE, COLOR_FLOW, PULSED_DOPPLER, CONTINUOUS_DOPPLER = 1, 2, 3, 4
CENTIMETRE = 3
SAME_SPACING = 1e-4  # relative; machines round the deltas of regions that they draw alike

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Spacing:
    """Millimetres between the centres of neighbouring pixels, or the reason why they are not known."""

    row_mm: float | None
    column_mm: float | None
    reason: str | None


def read_regions(dataset: "Dataset") -> tuple[Region, ...] | None:
    """The regions of an ultrasound image in their order; None where the header has no such sequence."""
    try:
        items = list(dataset.SequenceOfUltrasoundRegions)
    except dicom_errors():
        return None
    return tuple(_region(item) for item in items)


def read_spacing(dataset: "Dataset", rows: int, columns: int) -> Spacing:
    """Spacing from the regions, else from the pixel measures of an enhanced object (they are in mm)."""
    regions = read_regions(dataset)
    if regions is None:
        return _shared_measures(dataset) or Spacing(None, None, "no_regions")
    return spacing_of(regions, rows, columns)


def spacing_of(regions: Sequence[Region], rows: int, columns: int) -> Spacing:
    """The spacing that all regions of two-dimensional tissue agree on.

    Each must have its units in centimetres, lie in the picture and have positive deltas: beside a broken region the
    others are no better, and a picture that was scaled down keeps the regions of its full size, so one region of any
    kind that reaches out of the picture makes all deltas worthless.
    """
    if not regions:
        return Spacing(None, None, "regions_empty")
    tissue = [region for region in regions if is_tissue(region)]
    faults = [fault for region in tissue if (fault := _fault(region))]
    reason = None
    if not tissue:
        reason = "region_not_tissue"
    elif faults:
        reason = faults[0]
    elif any(_reaches_out(region, rows, columns) for region in regions):
        reason = "region_out_of_bounds"
    elif not all(_same(region.deltas, tissue[0].deltas) for region in tissue):
        reason = "regions_differ"
    if reason:
        return Spacing(None, None, reason)
    across, down = tissue[0].deltas
    return Spacing(down * 10, across * 10, None)  # cm -> mm


def tissue_box(regions: Sequence[Region], rows: int, columns: int) -> Box | None:
    """The half-open box of the only region of tissue; None where there are none or several, or it is not usable."""
    tissue = [region for region in regions if is_tissue(region)]
    if len(tissue) != 1 or not _is_box(tissue[0]) or any(_reaches_out(one, rows, columns) for one in regions):
        return None
    x0, y0, x1, y1 = (round(edge) for edge in tissue[0].box)
    return x0, y0, min(columns, x1 + 1), min(rows, y1 + 1)  # the last pixel belongs to the region


def is_tissue(region: Region) -> bool:
    """Whether the region shows tissue in two dimensions; an M-mode strip shows tissue too, but over time."""
    return region.spatial_format == TWO_DIMENSIONAL and region.data_type == TISSUE


def _region(item: "Dataset") -> Region:
    location = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    x0, y0, x1, y1 = (_number(item, f"RegionLocation{end}") for end in location)
    return Region(
        spatial_format=_number(item, "RegionSpatialFormat"),
        data_type=_number(item, "RegionDataType"),
        box=(x0, y0, x1, y1),
        units=(_number(item, "PhysicalUnitsXDirection"), _number(item, "PhysicalUnitsYDirection")),
        deltas=(_number(item, "PhysicalDeltaX"), _number(item, "PhysicalDeltaY")),
    )


def _number(item: "Dataset", keyword: str) -> float:
    """A number of a region; NaN, which no comparison accepts, where it is absent or broken."""
    try:
        return float(item.get(keyword, math.nan))
    except dicom_errors():
        return math.nan


def _fault(region: Region) -> str | None:
    """Why a region of tissue has no spacing."""
    if any(unit != CENTIMETRE for unit in region.units):
        return "region_units"
    if not _is_box(region):
        return "region_inverted"
    across, down = region.deltas
    return None if 0 < across < math.inf and 0 < down < math.inf else "region_zero_delta"


def _is_box(region: Region) -> bool:
    x0, y0, x1, y1 = region.box
    return x0 < x1 and y0 < y1


def _reaches_out(region: Region, rows: int, columns: int) -> bool:
    """Whether a region leaves the picture; some machines write its last pixel, some the one after."""
    x0, y0, x1, y1 = region.box
    return x0 < 0 or y0 < 0 or x1 > columns or y1 > rows


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(math.isclose(a, b, rel_tol=SAME_SPACING) for a, b in zip(one, other, strict=True))


def _shared_measures(dataset: "Dataset") -> Spacing | None:
    """The pixel spacing that all frames of an enhanced object share (PS3.3 C.7.6.16.2.1)."""
    try:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        down, across = (float(value) for value in measures.PixelSpacing)
    except dicom_errors():
        return None
    return Spacing(down, across, None) if 0 < down < math.inf and 0 < across < math.inf else None
