"""Pixel spacing and shape from a DICOM header, and its ultrasound regions (0018,6011).

Nothing is guessed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sono.curation.core.arrays import Box
from sono.curation.core.geometry import SQUARE_TOLERANCE
from sono.curation.readers.dicom_header import dicom_errors
from sono.curation.readers.source import UltrasoundRegion

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Codes of PS3.3 C.8.5.5.1: RegionSpatialFormat, RegionDataType, PhysicalUnits.
TWO_DIMENSIONAL, M_MODE, SPECTRAL = 1, 2, 3
TISSUE, COLOR_FLOW, PULSED_DOPPLER, CONTINUOUS_DOPPLER = 1, 2, 3, 4
CENTIMETER = 3
SAME_SPACING = 1e-4  # relative; machines round the deltas of regions that they draw alike
SPACING_RANGE_MM = (0.005, 2.0)  # both excluded: 0.2 mm written where centimeters belong gives 2
MAX_TISSUE_MM = 500.0  # of a tissue region; no probe sees that far
MAX_PICTURE_MM = 1000.0  # of a complete picture, whose margins may be as wide as its tissue
MAX_ASPECT = 4.0  # of pixels; more is a broken header


@dataclass(frozen=True)
class Spacing:
    """Distance in mm between the centers of neighboring pixels, or why it is unknown."""

    row_mm: float | None
    column_mm: float | None
    reason: str | None


def read_regions(dataset: "Dataset") -> tuple[UltrasoundRegion, ...] | None:
    """The regions of an ultrasound image in their order.

    The result is None if the header has no such sequence.
    """
    try:
        items = list(dataset.SequenceOfUltrasoundRegions)
    except dicom_errors():
        return None
    return tuple(_read_region(item) for item in items)


def read_spacing(dataset: "Dataset", rows: int, columns: int) -> Spacing:
    """Spacing from the regions, otherwise from PixelSpacing.

    PixelSpacing may be that of the file or of an enhanced object.
    """
    regions = read_regions(dataset)
    if not regions:
        return _pixel_spacing(dataset, rows, columns) or Spacing(
            None, None, "no_regions" if regions is None else "regions_empty"
        )
    return spacing_of(regions, rows, columns)


def read_aspect(dataset: "Dataset", spacing: Spacing) -> tuple[float, Spacing]:
    """Height / width of a pixel, and the spacing that fits it (none for a contradiction).

    The spacing decides; without one, PixelAspectRatio does (0028,0034: vertical, then horizontal
    size). The aspect is 1 if the header has no usable value.
    """
    declared = _two_numbers(dataset, "PixelAspectRatio")
    ratio = declared[0] / declared[1] if declared else None
    if spacing.row_mm is None or spacing.column_mm is None:
        return (ratio if ratio is not None and is_aspect(ratio) else 1.0), spacing
    aspect = spacing.row_mm / spacing.column_mm
    agrees = ratio is None or math.isclose(aspect, ratio, rel_tol=SQUARE_TOLERANCE)
    if agrees and is_aspect(aspect):
        return aspect, spacing
    return 1.0, Spacing(None, None, "aspect_differs")


def is_doubtful(dataset: "Dataset", spacing: Spacing) -> bool:
    """Whether the header's statements about the shape of its pixels were rejected."""
    declared = _two_numbers(dataset, "PixelAspectRatio")
    return spacing.reason == "aspect_differs" or (
        declared is not None and not is_aspect(declared[0] / declared[1])
    )


def scaled_region(region: UltrasoundRegion, down: float, across: float) -> UltrasoundRegion:
    """`region` in a picture that was enlarged by the factors `down` and `across`."""
    x0, y0, x1, y1 = region.box  # the last pixel belongs to it
    box = x0 * across, y0 * down, (x1 + 1) * across - 1, (y1 + 1) * down - 1
    return replace(region, box=box, deltas=(region.deltas[0] / across, region.deltas[1] / down))


def is_aspect(aspect: float) -> bool:
    """Whether pixels of a real picture may have this height / width."""
    return 1 / MAX_ASPECT <= aspect <= MAX_ASPECT


def spacing_of(regions: Sequence[UltrasoundRegion], rows: int, columns: int) -> Spacing:
    """The spacing that all regions of two-dimensional tissue agree on.

    Each must have units in centimeters, lie inside the picture and have positive deltas. One broken
    region makes the others unreliable. A picture that was scaled down keeps the regions of its full
    size, so one region of any kind that leaves the picture makes all deltas worthless.
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
    elif not all(map(_is_plausible, tissue)):
        reason = "implausible"
    if reason:
        return Spacing(None, None, reason)
    across, down = tissue[0].deltas
    return Spacing(down * 10, across * 10, None)  # cm -> mm


def tissue_box(regions: Sequence[UltrasoundRegion], rows: int, columns: int) -> Box | None:
    """The half-open box of the only region of tissue.

    The result is None if there are none or several, or if it is not usable.
    """
    tissue = [region for region in regions if is_tissue(region)]
    if (
        len(tissue) != 1
        or not _is_box(tissue[0])
        or any(_reaches_out(one, rows, columns) for one in regions)
    ):
        return None
    x0, y0, x1, y1 = (round(edge) for edge in tissue[0].box)
    return x0, y0, min(columns, x1 + 1), min(rows, y1 + 1)  # the last pixel belongs to the region


def is_tissue(region: UltrasoundRegion) -> bool:
    """Whether the region shows tissue in two dimensions.

    An M-mode strip also shows tissue, but over time.
    """
    return region.spatial_format == TWO_DIMENSIONAL and region.data_type == TISSUE


def _read_region(item: "Dataset") -> UltrasoundRegion:
    location = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    x0, y0, x1, y1 = (_number(item, f"RegionLocation{end}") for end in location)
    return UltrasoundRegion(
        spatial_format=_number(item, "RegionSpatialFormat"),
        data_type=_number(item, "RegionDataType"),
        box=(x0, y0, x1, y1),
        units=(_number(item, "PhysicalUnitsXDirection"), _number(item, "PhysicalUnitsYDirection")),
        deltas=(_number(item, "PhysicalDeltaX"), _number(item, "PhysicalDeltaY")),
    )


def _number(item: "Dataset", keyword: str) -> float:
    """A number of a region; NaN, which fails every comparison, if it is absent or broken."""
    try:
        return float(item.get(keyword, math.nan))
    except dicom_errors():
        return math.nan


def _fault(region: UltrasoundRegion) -> str | None:
    """Why a region of tissue has no usable spacing."""
    if any(unit != CENTIMETER for unit in region.units):
        return "region_units"
    if not _is_box(region):
        return "region_inverted"
    across, down = region.deltas
    return None if 0 < across < math.inf and 0 < down < math.inf else "region_zero_delta"


def _is_plausible(region: UltrasoundRegion) -> bool:
    """Whether pixels and extent of a tissue region have a size that is possible in ultrasound."""
    (across, down), (x0, y0, x1, y1) = region.deltas, region.box
    longest = max((x1 - x0) * across, (y1 - y0) * down) * 10
    return _plausible(across * 10, down * 10) and longest <= MAX_TISSUE_MM


def _plausible(*spacing_mm: float) -> bool:
    low, high = SPACING_RANGE_MM
    return all(low < value < high for value in spacing_mm)


def _is_box(region: UltrasoundRegion) -> bool:
    x0, y0, x1, y1 = region.box
    return x0 < x1 and y0 < y1


def _reaches_out(region: UltrasoundRegion, rows: int, columns: int) -> bool:
    """Whether a region leaves the picture.

    Some machines write its last pixel, others the one after it.
    """
    x0, y0, x1, y1 = region.box
    return x0 < 0 or y0 < 0 or x1 > columns or y1 > rows


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(math.isclose(a, b, rel_tol=SAME_SPACING) for a, b in zip(one, other, strict=True))


def is_too_wide(rows: int, columns: int, row_mm: float, column_mm: float) -> bool:
    """Whether a picture of that many pixels would be larger than tissue and margins can be."""
    return max(rows * row_mm, columns * column_mm) > MAX_PICTURE_MM


def _pixel_spacing(dataset: "Dataset", rows: int, columns: int) -> Spacing | None:
    """PixelSpacing (0028,0030) of the file, or the one that all frames of an enhanced object share.

    See PS3.3 C.7.6.16.2.1.
    """
    try:
        shared = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    except dicom_errors():
        shared = None
    for holder in (dataset, shared):
        if holder is None or holder.get_item("PixelSpacing") is None:
            continue
        pair = _two_numbers(holder, "PixelSpacing")
        if pair is None:
            return Spacing(None, None, "pixel_spacing")
        sound = _plausible(*pair) and not is_too_wide(rows, columns, *pair)
        return Spacing(*pair, None) if sound else Spacing(None, None, "implausible")
    return None


def _two_numbers(dataset: "Dataset", keyword: str) -> tuple[float, float] | None:
    """Two positive numbers, vertical first; None if they are absent or broken."""
    try:
        down, across = (float(value) for value in dataset.get(keyword, ()))
    except dicom_errors():
        return None
    return (down, across) if 0 < down < math.inf and 0 < across < math.inf else None
