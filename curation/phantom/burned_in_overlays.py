"""Draw the overlays that a machine burns into the frame.

These are a banner with the name, settings, a gray bar, depth ticks, calipers and a Doppler box.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.phantom.physics import Probe, sector_mask

Color = tuple[int, int, int]  # blue, green, red
WHITE: Color = (235, 235, 235)


def top_banner(
    frame: NDArray[np.uint8], lines: list[str], settings: list[str], probe: Probe, spacing_mm: float
) -> None:
    """Layout of center A: names at the top, settings on the right, bar and ticks on the left."""
    _text(frame, "   ".join(lines), (8, 20), 0.5, WHITE)
    for row, line in enumerate(settings):
        width = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
        _text(frame, line, (frame.shape[1] - width - 8, 46 + 16 * row), 0.4, WHITE)
    _gray_bar(frame, 14, 60, 12, 150)
    _ticks(frame, 8, probe, spacing_mm)


def side_banner(
    frame: NDArray[np.uint8], lines: list[str], settings: list[str], probe: Probe, spacing_mm: float
) -> None:
    """Layout of center B: names and settings on the left, gray bar and ticks on the right."""
    for row, line in enumerate(lines):
        _text(frame, line, (6, 22 + 17 * row), 0.42, WHITE)
    for row, line in enumerate(settings):
        _text(frame, line, (6, 120 + 15 * row), 0.36, WHITE)
    _gray_bar(frame, frame.shape[1] - 30, 40, 16, 110)
    _ticks(frame, frame.shape[1] - 10, probe, spacing_mm)


def calipers(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Two crosses and a dotted line along the longest direction of a structure."""
    rows, columns = np.nonzero(mask)
    points = np.column_stack([columns, rows]).astype(np.float64)
    center = points.mean(axis=0)
    axis = np.linalg.eigh(np.cov((points - center).T))[1][:, -1]
    reach = (points - center) @ axis
    ends = [center + axis * reach.min(), center + axis * reach.max()]
    for share in np.linspace(0, 1, 24)[1:-1]:
        dot = ends[0] + share * (ends[1] - ends[0])
        cv2.circle(frame, (round(dot[0]), round(dot[1])), 1, WHITE, -1)
    for end in ends:
        cv2.drawMarker(frame, (round(end[0]), round(end[1])), WHITE, cv2.MARKER_CROSS, 13, 1)


def doppler(
    frame: NDArray[np.uint8], vessels: NDArray[np.bool_], probe: Probe
) -> NDArray[np.uint8]:
    """A color frame [H, W, 3] with a color box in which flow fills `vessels` red and blue."""
    color = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame.copy()
    rows, columns = np.nonzero(vessels)
    flow = cv2.dilate(vessels.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(
        bool
    ) & sector_mask(probe)
    left = np.arange(frame.shape[1])[None] < np.median(columns)
    color[flow & left] = (40, 60, 220)
    color[flow & ~left] = (225, 90, 40)
    low, high = (
        (int(columns.min()) - 12, int(rows.min()) - 12),
        (int(columns.max()) + 12, int(rows.max()) + 12),
    )
    cv2.rectangle(color, low, high, (80, 230, 80), 1)
    return np.asarray(color, np.uint8)


def _text(
    frame: NDArray[np.uint8], line: str, place: tuple[int, int], size: float, color: Color
) -> None:
    cv2.putText(frame, line, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def burn_inside(frame: NDArray[np.uint8], lines: list[str], probe: Probe) -> None:
    """Large text across the sector, like a careless annotation."""
    x, y = probe.point(-0.45, 0.5)
    for row, line in enumerate(lines):
        cv2.putText(
            frame,
            line,
            (int(x), int(y) + 34 * row),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.9,
            WHITE,
            2,
            cv2.LINE_AA,
        )


def _gray_bar(frame: NDArray[np.uint8], x: int, y: int, width: int, height: int) -> None:
    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, None]
    frame[y : y + height, x : x + width] = ramp if frame.ndim == 2 else ramp[..., None]


def _ticks(frame: NDArray[np.uint8], x: int, probe: Probe, spacing_mm: float) -> None:
    """A tick every 10 mm of depth, a longer one every 50 mm."""
    top = probe.apex_y + probe.radius_min
    for number in range(int(probe.depth * spacing_mm / 10) + 1):
        y = round(top + number * 10 / spacing_mm)
        cv2.line(frame, (x - (7 if number % 5 == 0 else 3), y), (x, y), WHITE, 1)
